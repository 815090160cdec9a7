//! What each function is and may do: the one list that the template, SECURITY.md and the tests are held to.
