//! The words an operation is told by, in the log and in metrics: few, and known beforehand.

use serde::Serialize;

/// Words that are written as themselves, and counted by their number.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $word:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub enum $name {
            $($(#[$of])* #[serde(rename = $text)] $word,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$word,)+];

            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)+
                }
            }
        }
    };
}

words! {
    /// What was decided about an operation.
    Verdict {
        /// It passed.
        Allow = "allow",
        /// It passed, and something of what came back was hidden.
        Mask = "mask",
        /// A policy, or the gateway, refused it.
        Block = "block",
        /// It needs approvals.
        RequireApproval = "require-approval",
        /// It could not be decided.
        Failed = "failed",
        /// It is not known who asked.
        Unauthenticated = "unauthenticated",
        /// Nothing was decided yet.
        None = "none",
    }
}

words! {
    /// Where an operation has got to when an event is written.
    Stage {
        /// The gateway has begun.
        Started = "started",
        /// What is in force has changed.
        Policies = "policies",
        /// What verdicts are based on that are remembered.
        Basis = "basis",
        /// Which clusters there are has changed.
        Clusters = "clusters",
        /// The API server cannot be asked.
        Unreachable = "unreachable",
        /// It waits for an approval.
        Held = "held",
        /// It is about to be sent.
        Decided = "decided",
        /// It was sent, and has ended.
        Completed = "completed",
        /// It was not sent.
        Refused = "refused",
        /// A recording is finished.
        Recorded = "recorded",
        /// The configuration has changed.
        Configuration = "configuration",
        /// The gateway ends: nothing is served any more, and what is left is written down.
        Stopping = "stopping",
        /// The gateway has ended.
        Stopped = "stopped",
        /// What two gateways in one directory left was put right.
        Repaired = "repaired",
    }
}

impl Stage {
    /// Whether it is the last word on an operation.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Completed | Self::Refused)
    }
}

words! {
    /// How the answer to an operation ended, a stream, or the recording of one.
    Ending {
        /// All of it was sent.
        Ok = "ok",
        /// The caller went away.
        ClientGone = "client-gone",
        /// The API server went away.
        ServerGone = "server-gone",
        /// The caller's credential expired.
        CredentialExpired = "credential-expired",
        /// The API server would not let the caller begin it any more.
        RightWithdrawn = "right-withdrawn",
        /// The cluster is configured in another way now, or no more.
        ClusterChanged = "cluster-changed",
        /// Nothing was carried for too long.
        Idle = "idle",
        /// It lasted as long as it may.
        TooLong = "too-long",
        /// The gateway stopped.
        GatewayStopped = "gateway-stopped",
        /// It must be recorded, and could not be.
        RecordingFailed = "recording-failed",
        /// A policy ended it.
        Terminated = "terminated",
        /// A peer broke the stream's protocol.
        Violation = "violation",
        /// A watch whose past is forgotten.
        Expired = "expired",
        /// It could not be masked to its end.
        BrokenOff = "broken-off",
        /// Nothing of it was sent, since it must be masked and could not be, or a policy hid it.
        Refused = "refused",
        /// There was no answer.
        Failed = "failed",
        /// A recording that a gateway left behind, and that was sealed later.
        GatewayGone = "gateway-gone",
        /// A recording with something missing.
        NotRecordedWhole = "not-recorded-whole",
        /// A recording that two gateways wrote, put right.
        Repaired = "repaired",
    }
}

impl Default for Ending {
    /// An answer that nobody ended was dropped with its connection.
    fn default() -> Self {
        Self::ClientGone
    }
}

words! {
    /// What is asked for: the verbs of kube-apiserver's RequestInfo, and for what is no resource the methods.
    Verb {
        /// Reads one.
        Get = "get",
        /// Reads many.
        List = "list",
        /// Is told of changes.
        Watch = "watch",
        /// Makes one.
        Create = "create",
        /// Puts one in the place of another.
        Update = "update",
        /// Changes one.
        Patch = "patch",
        /// Takes one away.
        Delete = "delete",
        /// Takes many away.
        DeleteCollection = "deletecollection",
        /// A method of what is no resource.
        Post = "post",
        /// A method of what is no resource.
        Put = "put",
        /// A method of what is no resource.
        Head = "head",
        /// A method of what is no resource.
        Options = "options",
        /// Anything else, and what was refused before it was known.
        Other = "other",
    }
}

impl Verb {
    /// The verb that is written so.
    pub fn of(text: &str) -> Self {
        Self::ALL.iter().copied().find(|verb| verb.name() == text).unwrap_or(Self::Other)
    }
}

words! {
    /// A stage of the request's life that takes time.
    Step {
        /// Who is calling.
        Identify = "identify",
        /// What is asked.
        Classify = "classify",
        /// What the policies say, with what they want to know beside it.
        Decide = "decide",
        /// The wait for an approval.
        Approve = "approve",
        /// Until a change is in the audit log, on the disk.
        Record = "record",
        /// Until the head of the API server's answer has come.
        Forward = "forward",
        /// From there to the end of the answer, or of the stream.
        Respond = "respond",
        /// From the head of the request to the end of the answer.
        All = "all",
    }
}

#[cfg(test)]
mod tests;
