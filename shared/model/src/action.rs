//! The names of what Firebreak can do, and which function may do it: one owner per resource.

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name used in records, requests and pages.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The value of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

named!(
    /// A containment action: one file in `shared/src/actions/`.
    ActionId {
        /// Attach the deny policy to a role.
        QuarantineRole = "quarantine-role",
        /// Attach the deny policy to a user.
        QuarantineUser = "quarantine-user",
        /// Make AWS's own policy that denies everything the boundary of a role.
        BoundRole = "bound-role",
        /// Make AWS's own policy that denies everything the boundary of a user.
        BoundUser = "bound-user",
        /// Set a user's access keys to Inactive.
        DeactivateAccessKeys = "deactivate-access-keys",
        /// Deny every session issued before a time, by inline policy.
        RevokeSessions = "revoke-sessions",
        /// Deny single sessions of another role, which were made from stolen ones.
        RevokeChainedSessions = "revoke-chained-sessions",
        /// Deny everything that the code of one function calls, in a role that others share.
        QuarantineFunction = "quarantine-function",
        /// Set reserved concurrency to 0.
        ZeroConcurrency = "zero-concurrency",
        /// Disable event source mappings.
        DisableEventSources = "disable-event-sources",
        /// Require IAM authentication on function URLs.
        CloseFunctionUrls = "close-function-urls",
        /// Remove statements that admit everyone from the resource policy.
        RemovePublicStatements = "remove-public-statements",
        /// Clear the destinations and the dead-letter target of asynchronous invocations.
        ClearDestinations = "clear-destinations",
        /// Replace warm execution environments, so that the function gets fresh credentials.
        RecycleEnvironments = "recycle-environments",
        /// Copy logs, configuration and documents into the evidence bucket.
        SnapshotLogs = "snapshot-logs",
    }
);

named!(
    /// A deployed function.
    FunctionName {
        /// Decides, and denies.
        QuarantinePrincipal = "quarantine-principal",
        /// Writes the time-based revocation.
        RevokeSessions = "revoke-sessions",
        /// Changes Lambda functions.
        IsolateFunction = "isolate-function",
        /// Collects evidence.
        SnapshotLogs = "snapshot-logs",
        /// Turns the ledger's stream into events and metrics.
        PublishOutcomes = "publish-outcomes",
        /// Pages.
        NotifyResponders = "notify-responders",
        /// Undoes.
        ReleaseContainment = "release-containment",
        /// Watches what is contained, and Firebreak itself.
        GuardContainment = "guard-containment",
        /// Finds out who runs as which role.
        AssessIdentities = "assess-identities",
    }
);

named!(
    /// What a playbook rule asks for; [`crate::plan`] expands it into steps.
    Response {
        /// Deny everything to the principal.
        Quarantine = "quarantine",
        /// Deny everything to the code of the function alone, where its role is shared. Credentials that left it are not held.
        QuarantineFunction = "quarantine-function",
        /// Kill the sessions issued so far.
        Revoke = "revoke",
        /// Stop the function and close its doors.
        Isolate = "isolate",
        /// Keep the function alive with fresh credentials.
        Recycle = "recycle",
        /// Secure the evidence.
        Snapshot = "snapshot",
    }
);

impl ActionId {
    /// The one function that may apply the action.
    pub fn owner(self) -> FunctionName {
        match self {
            Self::QuarantineRole
            | Self::QuarantineUser
            | Self::BoundRole
            | Self::BoundUser
            | Self::DeactivateAccessKeys => FunctionName::QuarantinePrincipal,
            Self::RevokeSessions | Self::RevokeChainedSessions | Self::QuarantineFunction => {
                FunctionName::RevokeSessions
            }
            Self::ZeroConcurrency
            | Self::DisableEventSources
            | Self::CloseFunctionUrls
            | Self::RemovePublicStatements
            | Self::ClearDestinations
            | Self::RecycleEnvironments => FunctionName::IsolateFunction,
            Self::SnapshotLogs => FunctionName::SnapshotLogs,
        }
    }
}
