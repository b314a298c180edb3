//! What the audit log is, and how many events of which kind came last: nobody's name, and no path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::record::rotated;
use crate::words::{Stage, Verb, Verdict};

/// How much of the end of the log is read.
const READ: u64 = 32 << 20;

/// Its files, and its last events by kind.
pub(super) fn about(log: &Path) -> anyhow::Result<Value> {
    let files = rotated::files(log);
    let bytes: u64 = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|about| about.len()).sum();
    super::regular(log).with_context(|| log.display().to_string())?;
    let mut file = File::open(log).with_context(|| log.display().to_string())?;
    let begin = file.metadata()?.len().saturating_sub(READ);
    file.seek(SeekFrom::Start(begin))?;
    let mut lines = BufReader::new(file.take(READ)).split(b'\n');
    if begin > 0 {
        lines.next();
    }
    let mut counts = Counts::default();
    for line in lines {
        if let Ok(event) = serde_json::from_slice::<Value>(&line?) {
            counts.add(&event);
        }
    }
    Ok(json!({"files": files.len(), "bytes": bytes, "last": counts.told()}))
}

#[derive(Default)]
struct Counts {
    events: u64,
    first: Option<Value>,
    last: Option<Value>,
    by: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

impl Counts {
    fn add(&mut self, event: &Value) {
        self.events += 1;
        self.first.get_or_insert_with(|| json!({"seq": event["seq"].as_u64(), "time": event["time"].as_str()}));
        self.last = Some(json!({"seq": event["seq"].as_u64(), "time": event["time"].as_str()}));
        // Only words that are known: an event may be a stranger's.
        let word = |name: &str, known: &[&'static str]| known.iter().copied().find(|word| event[name] == *word).map(str::to_owned);
        let stages: Vec<_> = Stage::ALL.iter().map(|word| word.name()).collect();
        let verdicts: Vec<_> = Verdict::ALL.iter().map(|word| word.name()).collect();
        let verbs: Vec<_> = Verb::ALL.iter().map(|word| word.name()).collect();
        self.count("stage", word("stage", &stages));
        self.count("verdict", word("verdict", &verdicts));
        self.count("verb", word("verb", &verbs));
        self.count("status", event["status"].as_u64().filter(|code| (100..600).contains(code)).map(|code| code.to_string()));
        for failed in event["policies"].as_array().into_iter().flatten().filter(|answer| answer["verdict"] == "failed") {
            self.count("failedPolicy", failed["policy"].as_str().map(str::to_owned));
        }
    }

    fn count(&mut self, what: &'static str, word: Option<String>) {
        if let Some(word) = word {
            *self.by.entry(what).or_default().entry(word).or_default() += 1;
        }
    }

    fn told(self) -> Value {
        json!({"events": self.events, "from": self.first, "to": self.last, "by": self.by})
    }
}
