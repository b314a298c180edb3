//! What a ticket holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a ticket has got to.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TicketState {
    /// Approvals are missing.
    Pending,
    /// It may pass.
    Approved,
    /// Somebody said no.
    Denied,
    /// It has passed.
    Used,
    /// Who asked for it wants it no more.
    Cancelled,
    /// It was approved, and somebody who may answer it has ended that.
    Revoked,
}

impl TicketState {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
            Self::Cancelled => "cancelled",
            Self::Revoked => "revoked",
        }
    }
}

/// An approval, asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Its id.
    pub id: String,
    /// The digest of the intent.
    pub intent: String,
    /// Who asks: issuer and name, so that equal names of two issuers are two people.
    pub requester: String,
    /// The name alone.
    pub username: String,
    /// The requester's groups.
    pub groups: Vec<String>,
    /// The operation as the approver sees it.
    pub operation: Summary,
    /// What each policy asks for.
    pub requirements: Vec<Requirement>,
    /// Who has approved.
    pub approvals: Vec<GivenApproval>,
    /// Who has said no, or has ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<GivenRefusal>,
    /// The address it was asked for from.
    #[serde(default)]
    pub source: String,
    /// The session it was asked for in.
    #[serde(default)]
    pub session: String,
    /// Where it has got to.
    pub state: TicketState,
    /// Unix seconds.
    pub created: u64,
    /// Unix seconds after which it counts for nothing.
    pub ends: u64,
    /// Set when all approvers let it be used for a time and not once.
    pub reusable: bool,
    /// How often it was changed, as whoever keeps it counts: what was made from another version does not take its place.
    #[serde(skip)]
    pub version: u64,
}

/// An approval one policy asks for.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The policy.
    pub policy: String,
    /// Why.
    pub reason: String,
    /// Groups whose members may approve.
    pub approvers: Vec<String>,
    /// How many must.
    pub required: u32,
    /// Seconds the ticket lives.
    pub valid_seconds: u32,
}

impl Requirement {
    /// Whether the same is asked for: the reason may be put in other words.
    pub fn is_same(&self, other: &Self) -> bool {
        *self == Self { reason: self.reason.clone(), ..other.clone() }
    }
}

/// An operation as the approver sees it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The cluster.
    pub cluster: String,
    /// The verb.
    pub verb: String,
    /// The HTTP method.
    #[serde(default)]
    pub method: String,
    /// `resource` or `resource/subresource`.
    pub resource: String,
    /// The namespace.
    pub namespace: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The path.
    pub path: String,
    /// The query.
    pub query: Vec<(String, String)>,
    /// The command of an exec.
    pub command: Option<Vec<String>>,
    /// What the body is, when there is one: the same bytes are another change as another kind of patch.
    #[serde(default)]
    pub media_type: Option<String>,
    /// Names of the headers that go to a server behind the API server.
    #[serde(default)]
    pub headers: Vec<String>,
    /// SHA-256 of the body, when there is one.
    pub body_digest: Option<String>,
    /// The body as it was read, without what is hidden from the requester; none of a Secret, or where it is too long.
    pub body: Option<serde_json::Value>,
}

/// One approval, given.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenApproval {
    /// Issuer and name.
    pub by: String,
    /// The name alone.
    pub username: String,
    /// The approver's groups at that time.
    pub groups: Vec<String>,
    /// Unix seconds.
    pub at: u64,
    /// For how long they let it be used more than once, if they did.
    #[serde(default)]
    pub reuse_seconds: Option<u64>,
    /// What they said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A no, or the end of a yes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenRefusal {
    /// Issuer and name.
    pub by: String,
    /// The name alone.
    pub username: String,
    /// Unix seconds.
    pub at: u64,
    /// What they said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What somebody does with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Lets it pass: once, or for so many seconds as often as it is asked for.
    Approve {
        /// The seconds.
        reuse_seconds: Option<u64>,
    },
    /// Refuses it.
    Deny,
    /// Takes a refusal of their own back: it is pending again.
    Reopen,
    /// Ends what was approved and may still be used.
    Revoke,
    /// Wants what they asked for no more.
    Cancel,
}

impl Answer {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approve { .. } => "approve",
            Self::Deny => "deny",
            Self::Reopen => "reopen",
            Self::Revoke => "revoke",
            Self::Cancel => "cancel",
        }
    }
}

impl Ticket {
    pub(super) fn is_satisfied(&self) -> bool {
        self.requirements.iter().all(|requirement| {
            let by = |given: &&GivenApproval| requirement.approvers.iter().any(|group| given.groups.contains(group));
            self.approvals.iter().filter(by).count() >= requirement.required as usize
        })
    }
}

/// That an approved ticket was taken for one operation. Only whoever keeps tickets makes one.
pub struct Taken(pub(super) Ticket);

impl Taken {
    /// The ticket that was taken.
    pub fn ticket(&self) -> &Ticket {
        &self.0
    }
}
