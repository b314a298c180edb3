//! Short ways to write what policies return.

use crate::{Denial, Hooks, Manifest, Mask, Rule, Selector, Transform, Verdict};

/// A manifest with the request hook.
pub fn manifest(name: &str, version: &str, summary: &str, rules: Vec<Rule>) -> Manifest {
    Manifest {
        name: name.into(),
        version: version.into(),
        summary: summary.into(),
        rules,
        hooks: Hooks::REQUEST,
        needs: Vec::new(),
        settings_schema: String::new(),
    }
}

/// A rule that matches everything until it is narrowed.
pub fn rule() -> Rule {
    Rule { verbs: Vec::new(), api_groups: Vec::new(), resources: Vec::new(), namespaces: Vec::new() }
}

impl Rule {
    /// Only these verbs.
    pub fn verbs<S: Into<String>>(mut self, verbs: impl IntoIterator<Item = S>) -> Self {
        self.verbs = verbs.into_iter().map(Into::into).collect();
        self
    }

    /// Only these resources.
    pub fn resources<S: Into<String>>(mut self, resources: impl IntoIterator<Item = S>) -> Self {
        self.resources = resources.into_iter().map(Into::into).collect();
        self
    }
}

/// Refuses the operation, with what to do instead.
pub fn block(reason: impl Into<String>, hint: impl Into<String>) -> Verdict {
    Verdict::Block(Denial { reason: reason.into(), hint: Some(hint.into()) })
}

/// Hides a field in every object.
pub fn field_mask(path: &str, how: Transform) -> Mask {
    Mask { what: Selector::Field(path.into()), how, when: Vec::new() }
}
