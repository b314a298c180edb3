//! The contract as the gateway speaks it: what a policy is asked about, says of itself, and answers, whatever version of the contract its module was built against.
//!
//! Each version is an adapter beside this: generated code, and what makes these types of it; `version` tells them apart, and `questions` answers what may be asked. Nothing outside this crate knows there are versions, or sees generated
//! code; within it that is for what calls an instance. Terms are spelt as `wit/` spells them.

pub(super) mod asked;
mod convert;
pub(super) mod questions;
pub(super) mod v0_1;
pub(super) mod v0_2;
pub(super) mod version;

use std::sync::Arc;

pub(super) use questions::canonical;

use super::grants::Capability;
use super::rules::Rule;
use postern_mask::Mask;

/// The versions of the contract that modules may be built against.
pub const SPOKEN: [&str; 2] = [version::Version::V0_1.interface(), version::Version::V0_2.interface()];

/// One request, decoded: what policies are told.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// The id of its audit events.
    pub id: String,
    /// The name of the cluster.
    pub cluster: String,
    /// Unix milliseconds at which it was accepted: the only clock a policy has.
    pub received_at: u64,
    /// Who is asking.
    pub caller: Caller,
    /// The verb of kube-apiserver's RequestInfo.
    pub verb: String,
    /// What is addressed; none for what is no resource.
    pub target: Option<Target>,
    /// The normalised path.
    pub path: String,
    /// The decoded query, in order.
    pub query: Vec<(String, String)>,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    /// What opens a stream into a container; none for everything but exec and attach.
    pub command: Option<Command>,
}

/// Who is asking. The credential is not in it.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The name.
    pub username: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The verified issuer of the credential.
    pub issuer: String,
    /// Verified claims, each value as JSON text.
    pub claims: Vec<(String, String)>,
}

/// The resource an operation addresses.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The API version.
    pub api_version: String,
    /// The resource in the plural.
    pub resource: String,
    /// The subresource.
    pub subresource: Option<String>,
    /// The namespace; none for what has none and for lists over all of them.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: Option<String>,
}

/// What opens a stream into a container.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The container; none leaves the choice to the API server.
    pub container: Option<String>,
    /// The words of the command; empty for attach.
    pub argv: Vec<String>,
    /// Whether the caller sends input.
    pub stdin: bool,
    /// Whether the caller asks for a terminal.
    pub tty: bool,
}

/// An operation as policies are told of it, in the terms of the contract: as 0.1 hands it over, which is all there is to ask about. A clone is the same one.
#[derive(Clone, Debug)]
pub struct PolicyOperation(Arc<v0_1::types::Operation>);

impl PolicyOperation {
    /// Of an operation.
    pub fn new(operation: Operation) -> Self {
        Self(Arc::new(operation.into()))
    }

    /// Approvals were asked for, and given.
    pub fn approve(&mut self) {
        Arc::make_mut(&mut self.0).approved = true;
    }

    /// Whether approvals were asked for and given.
    pub fn is_approved(&self) -> bool {
        self.0.approved
    }

    /// The name of the cluster it is for.
    pub fn cluster(&self) -> &str {
        &self.0.cluster
    }

    /// The verified issuer of its caller's credential.
    pub fn issuer(&self) -> &str {
        &self.0.caller.issuer
    }

    /// Its caller's name.
    pub fn username(&self) -> &str {
        &self.0.caller.username
    }

    /// Its caller's groups.
    pub fn groups(&self) -> &[String] {
        &self.0.caller.groups
    }

    /// The resource it addresses, in the plural, and the subresource; an empty resource where it addresses none.
    pub(super) fn resource(&self) -> (&str, Option<&str>) {
        self.0.target.as_ref().map_or(("", None), |target| (&target.resource, target.subresource.as_deref()))
    }
}

/// A function of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Once for an operation, before anything reaches the cluster.
    OnRequest,
    /// For each object of an answer.
    OnObject,
    /// For each piece of a stream.
    OnChunk,
}

impl Hook {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::OnRequest, Self::OnObject, Self::OnChunk];

    /// As the contract names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnRequest => "on-request",
            Self::OnObject => "on-object",
            Self::OnChunk => "on-chunk",
        }
    }
}

/// An object beside the operation that a policy may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surrounding {
    /// The Namespace addressed.
    Namespace,
    /// The object as it is stored, for an update, a patch or a delete.
    Stored,
    /// The pod, for a pod and its subresources.
    Pod,
}

impl Surrounding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Namespace, Self::Stored, Self::Pod];

    /// As the contract names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Stored => "stored",
            Self::Pod => "pod",
        }
    }
}

/// What a policy says of itself.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Its version, as semver.org writes it.
    pub version: String,
    /// One line for lists.
    pub summary: String,
    /// What it is called for; everything when empty.
    pub rules: Vec<Rule>,
    /// The hooks it has, in the order of [`Hook::ALL`].
    pub hooks: Vec<Hook>,
    /// The objects beside an operation that it wants to know, in the order of [`Surrounding::ALL`].
    pub needs: Vec<Surrounding>,
    /// What it must see and do, in the order of [`Capability::ALL`].
    pub capabilities: Vec<Capability>,
    /// JSON Schema of its settings, or empty.
    pub settings_schema: String,
}

/// What a policy answers about an operation, or an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it.
    Allow,
    /// It passes, and these are hidden in what comes back: at least one.
    Mask(Vec<Mask>),
    /// It is refused; an object is hidden.
    Block(Denial),
    /// It waits. Of an operation only.
    RequireApproval(Approval),
    /// The answer ends before this object. Of an object only.
    Terminate(Denial),
}

/// What a policy answers about a piece of a stream.
#[derive(Clone, Debug)]
pub enum ChunkVerdict {
    /// It goes on as it is.
    Forward,
    /// This goes on in its place.
    Replace(Vec<u8>),
    /// The stream ends, and the caller is told why.
    Terminate(Denial),
}

/// Why something is refused. Both are one line, and not long: they go into messages and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: String,
    /// What to do instead.
    pub hint: Option<String>,
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// What an operation waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Shown to the caller and the approver: one line.
    pub reason: String,
    /// Groups whose members may approve: at least one.
    pub approvers: Vec<String>,
    /// How many must: at least one.
    pub required: u32,
    /// Seconds that its ticket lives: at least one.
    pub valid_seconds: u32,
}

/// Which output of a container a piece of text is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A log.
    Log,
}

/// The most groups of approvers one policy names, and the longest name of one: they are kept with each ticket.
const MOST_APPROVERS: usize = 50;
const LONGEST_GROUP: usize = 256;
/// The most approvals that one policy asks for.
const MOST_REQUIRED: u32 = 20;
/// The longest that a ticket lives, in seconds.
const LONGEST_VALID: u32 = 7 * 86_400;
/// The most rules of a manifest, and the most words in them.
const MOST_RULES: usize = 1000;
const MOST_WORDS: usize = 10_000;
/// The longest text of a policy's that callers are told, in characters.
const LONGEST_TEXT: usize = 500;

impl Verdict {
    /// What the policy says of it, where it says anything.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Block(denial) | Self::Terminate(denial) => Some(&denial.reason),
            Self::RequireApproval(approval) => Some(&approval.reason),
            Self::Allow | Self::Mask(_) => None,
        }
    }

    /// The answer of a hook, if it is one that this hook may give: one that makes no sense is a failure of the policy that gave it.
    pub(super) fn of_hook(self, hook: Hook) -> Result<Self, String> {
        Ok(match self {
            Self::Terminate(_) if hook == Hook::OnRequest => {
                return Err("it ended an answer before there was one: terminate is valid from on-object only".into());
            }
            Self::RequireApproval(_) if hook != Hook::OnRequest => {
                return Err("it asked for an approval of an object, which is valid from on-request only".into());
            }
            Self::RequireApproval(approval) => Self::RequireApproval(approval.checked()?),
            Self::Mask(masks) if masks.is_empty() => Self::Allow,
            Self::Mask(masks) => {
                Mask::check(&masks).map_err(|why| format!("it returned a mask that is none: {why}"))?;
                Self::Mask(masks)
            }
            Self::Block(denial) => Self::Block(denial.in_a_line()),
            Self::Terminate(denial) => Self::Terminate(denial.in_a_line()),
            other => other,
        })
    }
}

impl ChunkVerdict {
    /// The verdict, with what callers are told in a line.
    pub(super) fn in_a_line(self) -> Self {
        match self {
            Self::Terminate(denial) => Self::Terminate(denial.in_a_line()),
            other => other,
        }
    }
}

impl Approval {
    fn checked(self) -> Result<Self, String> {
        if self.approvers.len() > MOST_APPROVERS || self.approvers.iter().any(|group| group.len() > LONGEST_GROUP) {
            return Err(format!("it named more than {MOST_APPROVERS} groups that may approve, or one of more than {LONGEST_GROUP} bytes"));
        }
        if self.approvers.is_empty() || self.required == 0 || self.required > MOST_REQUIRED || self.valid_seconds == 0 {
            return Err("it asked for an approval without naming who may give it, how many, or for how long".into());
        }
        Ok(Self { reason: in_a_line(self.reason), valid_seconds: self.valid_seconds.min(LONGEST_VALID), ..self })
    }
}

impl Denial {
    fn in_a_line(self) -> Self {
        Self { reason: in_a_line(self.reason), hint: self.hint.map(in_a_line) }
    }
}

impl Manifest {
    /// What a policy says of itself, if it says it within bounds: it is told to whoever asks, and held against each request.
    pub(super) fn checked(self) -> anyhow::Result<Self> {
        let Self { name, version, summary, rules, settings_schema, .. } = &self;
        for (what, text, longest) in
            [("name", name, 256), ("version", version, 256), ("summary", summary, 4 << 10), ("settings schema", settings_schema, 1 << 20)]
        {
            anyhow::ensure!(text.len() <= longest, "the {what} in its manifest is {} bytes long; at most {longest} are taken", text.len());
        }
        let words: usize = rules.iter().map(|r| r.verbs.len() + r.api_groups.len() + r.resources.len() + r.namespaces.len()).sum();
        anyhow::ensure!(
            rules.len() <= MOST_RULES && words <= MOST_WORDS,
            "its manifest has {} rules with {words} words; at most {MOST_RULES} with {MOST_WORDS} are taken",
            rules.len()
        );
        Ok(self)
    }
}

/// What a policy says, or is said of it, in a line that is not long.
pub(super) fn in_a_line(text: String) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests;
