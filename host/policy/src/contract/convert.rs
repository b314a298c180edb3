//! What every version of the contract says in the same words: from its generated types into the gateway's own.

/// Makes the conversions for a version whose generated types are in scope as `types`.
macro_rules! conversions {
    () => {
        /// Most characters of the end of a value that a mask keeps.
        const MOST_KEPT: u8 = 16;

        impl From<types::Verdict> for Verdict {
            fn from(verdict: types::Verdict) -> Self {
                match verdict {
                    types::Verdict::Allow => Self::Allow,
                    types::Verdict::Mask(masks) => Self::Mask(masks.into_iter().map(Mask::from).collect()),
                    types::Verdict::Block(denial) => Self::Block(denial.into()),
                    types::Verdict::RequireApproval(types::Approval { reason, approvers, required, valid_seconds }) => {
                        Self::RequireApproval(Approval { reason, approvers, required, valid_seconds })
                    }
                    types::Verdict::Terminate(denial) => Self::Terminate(denial.into()),
                }
            }
        }

        impl From<types::ChunkVerdict> for ChunkVerdict {
            fn from(verdict: types::ChunkVerdict) -> Self {
                match verdict {
                    types::ChunkVerdict::Forward => Self::Forward,
                    types::ChunkVerdict::Replace(with) => Self::Replace(with),
                    types::ChunkVerdict::Terminate(denial) => Self::Terminate(denial.into()),
                }
            }
        }

        impl From<types::Denial> for Denial {
            fn from(types::Denial { reason, hint }: types::Denial) -> Self {
                Self { reason, hint }
            }
        }

        impl From<types::Mask> for Mask {
            fn from(mask: types::Mask) -> Self {
                let condition =
                    |types::Condition { path, is, value }| Condition { path, equal: matches!(is, types::Comparison::Equal), value };
                Self {
                    what: match mask.what {
                        types::Selector::Field(path) => Selector::Field(path),
                        types::Selector::Text(pattern) => Selector::Text(pattern),
                        types::Selector::PodSecrets => Selector::PodSecrets,
                    },
                    how: match mask.how {
                        types::Transform::Redact => Transform::Redact,
                        types::Transform::Tokenize => Transform::Tokenize,
                        types::Transform::KeepLast(n) => Transform::KeepLast(n.min(MOST_KEPT)),
                        types::Transform::Remove => Transform::Remove,
                    },
                    when: mask.when.into_iter().map(condition).collect(),
                }
            }
        }

        impl From<types::Manifest> for Manifest {
            fn from(manifest: types::Manifest) -> Self {
                let types::Manifest { name, version, summary, rules, hooks, needs, capabilities, settings_schema } = manifest;
                Self {
                    name,
                    version,
                    summary,
                    rules: rules.into_iter().map(Rule::from).collect(),
                    hooks: Hook::ALL.into_iter().filter(|hook| hooks.contains(hook_flag(*hook))).collect(),
                    needs: Surrounding::ALL
                        .into_iter()
                        .filter(|which| needs.iter().any(|need| Surrounding::from(*need) == *which))
                        .collect(),
                    capabilities: Capability::ALL.into_iter().filter(|one| capabilities.contains(capability_flag(*one))).collect(),
                    settings_schema,
                }
            }
        }

        fn hook_flag(hook: Hook) -> types::Hooks {
            match hook {
                Hook::OnRequest => types::Hooks::REQUEST,
                Hook::OnObject => types::Hooks::OBJECT,
                Hook::OnChunk => types::Hooks::CHUNK,
            }
        }

        fn capability_flag(capability: Capability) -> types::Capabilities {
            match capability {
                Capability::Bodies => types::Capabilities::BODIES,
                Capability::SecretValues => types::Capabilities::SECRET_VALUES,
                Capability::Streams => types::Capabilities::STREAMS,
                Capability::Counters => types::Capabilities::COUNTERS,
            }
        }

        impl From<types::Rule> for Rule {
            fn from(types::Rule { verbs, api_groups, resources, namespaces }: types::Rule) -> Self {
                Self { clusters: Vec::new(), verbs, api_groups, resources, namespaces }
            }
        }

        impl From<types::Surrounding> for Surrounding {
            fn from(which: types::Surrounding) -> Self {
                match which {
                    types::Surrounding::Namespace => Self::Namespace,
                    types::Surrounding::Stored => Self::Stored,
                    types::Surrounding::Pod => Self::Pod,
                }
            }
        }

        impl From<Output> for types::Channel {
            fn from(output: Output) -> Self {
                match output {
                    Output::Stdout => Self::Stdout,
                    Output::Stderr => Self::Stderr,
                    Output::Log => Self::Log,
                }
            }
        }
    };
}

pub(super) use conversions;
