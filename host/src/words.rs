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
