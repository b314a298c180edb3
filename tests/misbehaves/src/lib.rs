//! Does what no policy should, to test what holds it.

use postern_policy_sdk::*;
use serde::Deserialize;

/// The policy; its settings say what it does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misbehaves {
    does: Does,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Does {
    Trap,
    TrapInConfigure,
    TrapOnObject,
    Loop,
    LoopOnObject,
    Allocate,
    AllocateInConfigure,
    Recurse,
    AbsurdPath,
    AbsurdPattern,
    EndlessPattern,
    AbsurdApproval,
    LongReason,
    AnnotateWithoutEnd,
    CountWithoutEnd,
    /// Says in its reason what it was given to know: a label of the Namespace, a value of the stored object, the pod's name.
    LookAround,
    /// Lets a body pass whose `$.data.ok` is `yes`.
    ReadBody,
    /// Hides objects labelled `hide: yes`.
    Hide,
    /// Masks `$.data.token` of each object.
    MaskObject,
    /// Masks words that begin with `password-` in text.
    Text,
    /// Says LOUD for loud in streams, and ends one that says stop-here.
    Chunk,
    TrapOnChunk,
}

impl Policy for Misbehaves {
    fn configure(settings: &str) -> Result<Self, String> {
        let this: Self = serde_json::from_str(settings).map_err(|e| e.to_string())?;
        match this.does {
            Does::TrapInConfigure => panic!("in configure"),
            Does::AllocateInConfigure => allocate(),
            _ => Ok(this),
        }
    }

    fn describe(&self) -> Manifest {
        let mut manifest = manifest("misbehaves", "0.0.0", "Does what no policy should", vec![rule()]);
        if matches!(self.does, Does::TrapOnObject | Does::LoopOnObject | Does::Hide | Does::MaskObject) {
            manifest.hooks = Hooks::OBJECT;
        }
        if matches!(self.does, Does::Chunk | Does::TrapOnChunk) {
            manifest.hooks = Hooks::REQUEST | Hooks::CHUNK;
        }
        if self.does == Does::LookAround {
            manifest.needs = vec![Surrounding::Namespace, Surrounding::Stored, Surrounding::Pod];
        }
        manifest
    }

    fn on_request(&self, _: &Operation, body: Option<&Object>, host: &dyn Host) -> Verdict {
        let text = |pattern: &str| Verdict::Mask(vec![Mask { what: Selector::Text(pattern.into()), how: Transform::Redact, when: vec![] }]);
        match self.does {
            Does::Trap => panic!("on request"),
            Does::Loop => endless(),
            Does::Allocate => allocate(),
            Does::Recurse => block(format!("{}", recurse(1)), ""),
            Does::AbsurdPath => Verdict::Mask(vec![field_mask("$..[", Transform::Redact)]),
            Does::AbsurdPattern => text("("),
            Does::EndlessPattern => text("((a{1000}){1000}){1000}"),
            Does::AbsurdApproval => {
                Verdict::RequireApproval(Approval { reason: "?".into(), approvers: vec![], required: 0, valid_seconds: 0 })
            }
            Does::LongReason => block("a\r\nb".repeat(1 << 20), "x".repeat(1 << 20)),
            Does::AnnotateWithoutEnd => loop {
                host.annotate("key", "value");
            },
            Does::CountWithoutEnd => {
                for n in 0u64.. {
                    host.count(&format!("{n}"), 1, 3600);
                }
                Verdict::Allow
            }
            Does::LookAround => {
                let seen = |which, path: &str| host.look_around(which).and_then(|object| object.pointer(path).cloned()).unwrap_or_default();
                let namespace = seen(Surrounding::Namespace, "/metadata/labels/tier");
                let stored = seen(Surrounding::Stored, "/data/stored");
                block(format!("namespace {namespace}, stored {stored}, pod {}", seen(Surrounding::Pod, "/metadata/name")), "")
            }
            Does::ReadBody => match body.map(|body| body.get("$.data.ok")) {
                Some(Some(ok)) if ok == "yes" => Verdict::Allow,
                Some(_) => block("the body does not say ok", "say it"),
                None => Verdict::Allow,
            },
            Does::Text => text("password-[a-z]+"),
            _ => Verdict::Allow,
        }
    }

    fn on_object(&self, _: &Operation, object: &Object, _: &dyn Host) -> Verdict {
        match self.does {
            Does::TrapOnObject => panic!("on object"),
            Does::LoopOnObject => endless(),
            Does::Hide if object.get("$.metadata.labels.hide").is_some_and(|v| v == "yes") => block("hidden", ""),
            Does::MaskObject => Verdict::Mask(vec![field_mask("$.data.token", Transform::Redact)]),
            _ => Verdict::Allow,
        }
    }

    fn on_chunk(&self, _: &Operation, _: Channel, data: &[u8]) -> ChunkVerdict {
        match self.does {
            Does::TrapOnChunk => panic!("on chunk"),
            Does::Chunk => shout(&String::from_utf8_lossy(data)),
            _ => ChunkVerdict::Forward,
        }
    }
}

fn shout(text: &str) -> ChunkVerdict {
    if text.contains("stop-here") {
        return ChunkVerdict::Terminate(Denial { reason: "it said stop-here".into(), hint: None });
    }
    if text.contains("loud") { ChunkVerdict::Replace(text.replace("loud", "LOUD").into_bytes()) } else { ChunkVerdict::Forward }
}

fn endless() -> ! {
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

fn allocate() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

fn recurse(n: u64) -> u64 {
    let array = std::hint::black_box([n; 64]);
    if array[5] == 0 { 0 } else { recurse(n + 1) + array[7] }
}

export_policy!(Misbehaves);
