//! Does what no policy should, to test what holds it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use postern_policy_sdk::*;

static DESCRIBED: AtomicU32 = AtomicU32::new(0);

/// The policy; its settings say what it does.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What it does.
    does: Does,
}

/// Misbehaves as it is told.
pub struct Misbehaves(Does);

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Does {
    Trap,
    TrapInConfigure,
    TrapOnObject,
    Loop,
    /// Computes for as many steps as the object's name says.
    Work,
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
    /// Lets each caller create three things an hour.
    Budget,
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
    /// Ends an answer at the object labelled `end: here`.
    Terminate,
    TerminateOnRequest,
    /// Reads a body, without saying in its manifest that it does.
    ReadAsMetadata,
    /// Counts, without saying so.
    CountUnasked,
    /// Says in its reason what it sees of a Secret that is written, and hides those that it can read.
    ReadSecret,
    /// Asks for every node of a body.
    SelectAll,
    /// Asks for what many ways lead to and nothing is.
    ManyWays,
    /// Asks for every image of a body.
    SelectImages,
    /// Says that a mask holds where more ways than can be counted lead to nothing.
    ManyWaysInMask,
    /// Shows the end of every value.
    KeepEnd,
    /// Masks where a hidden value is what it guesses.
    GuessByCondition,
    /// Gives back a million masks.
    ManyMasks,
    /// Gives back a mask with more conditions than anybody means, each of which would be looked for in every object.
    ManyConditions,
    /// Gives back a regular expression that is none, and long.
    LongPattern,
    /// Gives back a mask that takes for ever where regular expressions are matched by trying.
    CatastrophicPattern,
    LoopOnChunk,
    /// Looks at streams, and at no request.
    ChunkAlone,
    LoopInDescribe,
    /// Says what it is slowly, and annotates; says in its reason how often it has said what it is.
    SlowInDescribe,
    /// Gives back much more than it was given.
    HugeChunk,
    /// Keeps all it sees, and more.
    AllocateOnObject,
    AllocateOnChunk,
    /// Behaves for `postern policy check`, and traps in earnest.
    BehaveInCheck,
}

impl Policy for Misbehaves {
    type Settings = Settings;
    const SUMMARY: &'static str = "Does what no policy should";

    fn new(Settings { does }: Settings) -> Result<Self, String> {
        match does {
            Does::TrapInConfigure => panic!("in configure"),
            Does::AllocateInConfigure => allocate(),
            _ => Ok(Self(does)),
        }
    }

    fn rules(&self) -> Vec<Rule> {
        match self.0 {
            Does::LoopInDescribe => endless(),
            Does::SlowInDescribe => {
                DESCRIBED.fetch_add(1, Relaxed);
                bindings::postern::policy::host::annotate("said", "in-describe");
                std::hint::black_box((0..1_000_000).fold(0u64, |sum, n| std::hint::black_box(sum ^ n)));
            }
            _ => {}
        }
        vec![rule()]
    }

    fn hooks(&self) -> Hooks {
        match self.0 {
            Does::AllocateOnObject | Does::TrapOnObject | Does::LoopOnObject | Does::Hide | Does::MaskObject | Does::Terminate => {
                Hooks::OBJECT
            }
            Does::ReadSecret => Hooks::REQUEST | Hooks::OBJECT,
            Does::ChunkAlone => Hooks::CHUNK,
            Does::Chunk | Does::TrapOnChunk | Does::LoopOnChunk | Does::HugeChunk | Does::AllocateOnChunk => Hooks::REQUEST | Hooks::CHUNK,
            _ => Hooks::REQUEST,
        }
    }

    fn needs(&self) -> Vec<Surrounding> {
        match self.0 {
            Does::LookAround => vec![Surrounding::Namespace, Surrounding::Stored, Surrounding::Pod],
            _ => Vec::new(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        match self.0 {
            Does::Chunk | Does::ChunkAlone | Does::TrapOnChunk | Does::LoopOnChunk | Does::HugeChunk | Does::AllocateOnChunk => {
                Capabilities::STREAMS
            }
            Does::CountWithoutEnd | Does::Budget => Capabilities::COUNTERS,
            Does::ReadAsMetadata | Does::CountUnasked => Capabilities::empty(),
            Does::ReadSecret => Capabilities::BODIES | Capabilities::SECRET_VALUES,
            _ => Capabilities::BODIES,
        }
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let text = |of: &str| mask([pattern(of)]);
        match self.0 {
            Does::Trap => panic!("on request"),
            Does::Loop => endless(),
            Does::Work => work(request.object_name().and_then(|steps| steps.parse().ok()).unwrap_or(0)),
            Does::Allocate => allocate(),
            Does::Recurse => block(format!("{}", recurse(1))),
            Does::AbsurdPath => Verdict::Mask(vec![field("$..[")]),
            Does::AbsurdPattern => text("("),
            Does::EndlessPattern => text("((a{1000}){1000}){1000}"),
            Does::AbsurdApproval => {
                Verdict::RequireApproval(Approval { reason: "?".into(), approvers: vec![], required: 0, valid_seconds: 0 })
            }
            Does::LongReason => block("a\r\nb".repeat(1 << 20)).hint("x".repeat(1 << 20)),
            Does::AnnotateWithoutEnd => loop {
                request.annotate("key", "value");
            },
            Does::CountWithoutEnd => {
                for n in 0u64.. {
                    request.count(&format!("{n}"), 1, 3600);
                }
                Verdict::Allow
            }
            Does::Budget if request.is(Text::Verb, &["create"]) => {
                let count = request.count(&request.caller.username(), 1, 3600);
                if count > 3 { block(format!("{count} creates in an hour are over the budget")) } else { allow() }
            }
            Does::LookAround => {
                let seen = |object: Option<Document>, path: &str| object.and_then(|o| o.json().pointer(path).cloned()).unwrap_or_default();
                let namespace = seen(request.around(Surrounding::Namespace), "/metadata/labels/tier");
                let stored = seen(request.around(Surrounding::Stored), "/data/stored");
                block(format!("namespace {namespace}, stored {stored}, pod {}", seen(request.around(Surrounding::Pod), "/metadata/name")))
            }
            Does::TerminateOnRequest => terminate("before there is an answer"),
            Does::ReadAsMetadata => match request.body().map(|body| body.get("$.data.ok")) {
                Some(Some(_)) => block("it was read"),
                _ => allow(),
            },
            Does::SlowInDescribe => block(format!("described {} times", DESCRIBED.load(Relaxed))),
            Does::CountUnasked => block(format!("{} counted", request.count("key", 1, 60))),
            Does::ReadSecret => match request.body() {
                Some(body) => block(format!("it sees {}", body.json())),
                None => allow(),
            },
            Does::SelectAll => match request.body().map(|body| body.select("$..*").len()) {
                Some(nodes) => block(format!("{nodes} nodes")),
                None => allow(),
            },
            Does::ManyWays => match request.body().map(|body| body.get(&many_ways())) {
                Some(None) => block("nothing is there"),
                _ => allow(),
            },
            Does::SelectImages => match request.body().map(|body| body.select("$..image").len()) {
                Some(images) => block(format!("{images} images")),
                None => allow(),
            },
            Does::ManyWaysInMask => Verdict::Mask(vec![field(many_ways()).when(&many_ways(), "x")]),
            Does::KeepEnd => Verdict::Mask(vec![field("$.data.*").how(Transform::KeepLast(6))]),
            Does::GuessByCondition => Verdict::Mask(vec![field("$.metadata.name").when("$.data.password", "aHVudGVyMi1pcy1zZWNyZXQ=")]),
            Does::ManyMasks => Verdict::Mask(vec![field("$.data"); 1_000_000]),
            Does::ManyConditions => Verdict::Mask(vec![(0..10_000).fold(field("$.data"), |mask, _| mask.when("$.kind", "ConfigMap"))]),
            Does::LongPattern => text(&format!("*{}", "\u{1}".repeat(64 << 10))),
            Does::CatastrophicPattern => text("(x+x+)+y"),
            Does::BehaveInCheck if request.id() != "check" => panic!("in earnest"),
            Does::ReadBody => match request.body().map(|body| body.get("$.data.ok")) {
                Some(Some(ok)) if ok == "yes" => Verdict::Allow,
                Some(_) => block("the body does not say ok").hint("say it"),
                None => Verdict::Allow,
            },
            Does::Text => text("password-[a-z]+"),
            _ => Verdict::Allow,
        }
    }

    fn on_object(&self, _: &Request, object: &Document) -> Verdict {
        match self.0 {
            Does::TrapOnObject => panic!("on object"),
            Does::LoopOnObject => endless(),
            Does::AllocateOnObject => allocate(),
            Does::Hide if object.get("$.metadata.labels.hide").is_some_and(|v| v == "yes") => block("hidden"),
            Does::Terminate if object.get("$.metadata.labels.end").is_some_and(|v| v == "here") => {
                terminate("this is the end").hint("ask for less")
            }
            Does::ReadSecret if object.json().to_string().contains("aHVudGVyMg==") => block("it can be read"),
            Does::MaskObject => Verdict::Mask(vec![field("$.data.token")]),
            _ => Verdict::Allow,
        }
    }

    fn on_chunk(&self, _: &Request, _: Channel, data: &[u8]) -> ChunkVerdict {
        match self.0 {
            Does::TrapOnChunk => panic!("on chunk"),
            Does::LoopOnChunk => endless(),
            Does::AllocateOnChunk => allocate(),
            Does::HugeChunk => ChunkVerdict::Replace(vec![b'x'; 24 << 20]),
            Does::Chunk => shout(&String::from_utf8_lossy(data)),
            _ => forward(),
        }
    }
}

fn shout(text: &str) -> ChunkVerdict {
    if text.contains("stop-here") {
        return ChunkVerdict::Terminate(Denial { reason: "it said stop-here\r\n\u{1b}[31m".into(), hint: None });
    }
    if text.contains("loud") { ChunkVerdict::Replace(text.replace("loud", "LOUD").into_bytes()) } else { forward() }
}

fn many_ways() -> String {
    format!("${}..nowhere", "..a".repeat(12))
}

fn endless() -> ! {
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

fn work(steps: u64) -> Verdict {
    (0..steps).for_each(|n| _ = std::hint::black_box(n));
    allow()
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
