"""One line an item, and the count as the last line: what every check prints."""

import sys

passed = 0
failed = 0


def item(name, problems=()):
    """Reports one thing that was looked at; it passed if nothing is wrong with it."""
    global passed, failed
    problems = list(problems)
    if problems:
        failed += 1
        print(f"FAIL {name}")
        for problem in problems:
            print(f"       {problem}")
    else:
        passed += 1
        print(f"ok   {name}")


def finish():
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)
