//! Short ways to write what policies return.

use crate::{Approval, ChunkVerdict, Comparison, Condition, Denial, Mask, Rule, Selector, Transform, Verdict};

/// Nothing against it.
pub fn allow() -> Verdict {
    Verdict::Allow
}

/// Refuses it, with a reason the caller sees.
pub fn block(reason: impl Into<String>) -> Verdict {
    Verdict::Block(Denial { reason: reason.into(), hint: None })
}

/// Ends the answer before this object, with a reason the caller sees: for on_object.
pub fn terminate(reason: impl Into<String>) -> Verdict {
    Verdict::Terminate(Denial { reason: reason.into(), hint: None })
}

/// Asks for the approval of one member of these groups, within an hour.
pub fn require_approval<S: Into<String>>(reason: impl Into<String>, approvers: impl IntoIterator<Item = S>) -> Approval {
    Approval { reason: reason.into(), approvers: approvers.into_iter().map(Into::into).collect(), required: 1, valid_seconds: 3600 }
}

impl Approval {
    /// So many must approve.
    pub fn required(mut self, required: u32) -> Self {
        self.required = required;
        self
    }

    /// The ticket lives for so many seconds.
    pub fn valid_seconds(mut self, seconds: u32) -> Self {
        self.valid_seconds = seconds;
        self
    }
}

impl From<Approval> for Verdict {
    fn from(approval: Approval) -> Self {
        Self::RequireApproval(approval)
    }
}

impl From<Vec<Mask>> for Verdict {
    fn from(masks: Vec<Mask>) -> Self {
        if masks.is_empty() { Self::Allow } else { Self::Mask(masks) }
    }
}

impl Verdict {
    /// Says what to do instead.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Block(denial) | Self::Terminate(denial) = &mut self {
            denial.hint = Some(hint.into());
        }
        self
    }

    /// Whether it refuses.
    pub fn is_block(&self) -> bool {
        matches!(self, Self::Block(_))
    }

    /// Why it refuses, or what it asks an approval for.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Block(denial) | Self::Terminate(denial) => Some(&denial.reason),
            Self::RequireApproval(approval) => Some(&approval.reason),
            Self::Allow | Self::Mask(_) => None,
        }
    }
}

/// Hides what these name; none of them is [`allow`].
pub fn mask(masks: impl IntoIterator<Item = Mask>) -> Verdict {
    masks.into_iter().collect::<Vec<_>>().into()
}

/// A field in every object, by JSONPath, redacted.
pub fn field(path: impl Into<String>) -> Mask {
    Mask { what: Selector::Field(path.into()), how: Transform::Redact, when: Vec::new() }
}

/// What a regular expression matches, in text streams and in the text of objects.
pub fn pattern(pattern: impl Into<String>) -> Mask {
    Mask { what: Selector::Text(pattern.into()), how: Transform::Redact, when: Vec::new() }
}

/// The values of the Secrets the addressed pod uses, in what its containers write.
pub fn pod_secrets() -> Mask {
    Mask { what: Selector::PodSecrets, how: Transform::Redact, when: Vec::new() }
}

impl Mask {
    /// How it is written.
    pub fn how(mut self, how: Transform) -> Self {
        self.how = how;
        self
    }

    /// Written as a keyed token: equal values of one object are equal tokens.
    pub fn tokenize(self) -> Self {
        self.how(Transform::Tokenize)
    }

    /// Its last characters are left, so many of them.
    pub fn keep_last(self, characters: u8) -> Self {
        self.how(Transform::KeepLast(characters))
    }

    /// Left out.
    pub fn remove(self) -> Self {
        self.how(Transform::Remove)
    }

    /// Only on objects in which a field has this value: text as it is, anything else as JSON writes it.
    pub fn when(self, path: &str, value: &str) -> Self {
        self.condition(path, Comparison::Equal, value)
    }

    /// Only on objects in which it has another, or none.
    pub fn unless(self, path: &str, value: &str) -> Self {
        self.condition(path, Comparison::NotEqual, value)
    }

    fn condition(mut self, path: &str, is: Comparison, value: &str) -> Self {
        self.when.push(Condition { path: path.into(), is, value: value.into() });
        self
    }
}

/// Sends a piece of a stream on as it is.
pub fn forward() -> ChunkVerdict {
    ChunkVerdict::Forward
}

/// Sends this in its place.
pub fn replace(data: impl Into<Vec<u8>>) -> ChunkVerdict {
    ChunkVerdict::Replace(data.into())
}

/// Ends the stream, and the caller is told why.
pub fn end_stream(reason: impl Into<String>) -> ChunkVerdict {
    ChunkVerdict::Terminate(Denial { reason: reason.into(), hint: None })
}

impl ChunkVerdict {
    /// Says what to do instead.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Terminate(denial) = &mut self {
            denial.hint = Some(hint.into());
        }
        self
    }
}

/// A rule that matches everything until it is narrowed.
pub fn rule() -> Rule {
    Rule { verbs: Vec::new(), api_groups: Vec::new(), resources: Vec::new(), namespaces: Vec::new() }
}

fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

impl Rule {
    /// Only these verbs.
    pub fn verbs<S: Into<String>>(mut self, verbs: impl IntoIterator<Item = S>) -> Self {
        self.verbs = texts(verbs);
        self
    }

    /// Only these API groups; the core group is the empty text.
    pub fn api_groups<S: Into<String>>(mut self, groups: impl IntoIterator<Item = S>) -> Self {
        self.api_groups = texts(groups);
        self
    }

    /// Only these resources, as RBAC writes them: `pods`, `pods/exec`, `pods/*`, `*/proxy`.
    pub fn resources<S: Into<String>>(mut self, resources: impl IntoIterator<Item = S>) -> Self {
        self.resources = texts(resources);
        self
    }

    /// Only these namespaces; what is over all namespaces touches each of them.
    pub fn namespaces<S: Into<String>>(mut self, namespaces: impl IntoIterator<Item = S>) -> Self {
        self.namespaces = texts(namespaces);
        self
    }
}
