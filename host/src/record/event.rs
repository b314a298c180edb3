//! One audit event: what is known of an operation, and never a secret value.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::classify::Operation;
use crate::decide::Decision;
use crate::identify::Caller;

/// An event in the making.
#[derive(Clone, Debug, Default)]
pub struct Event(Map<String, Value>);

impl Event {
    /// Begins an event of a request.
    pub fn new(id: &str, source: &str) -> Self {
        let mut event = Self::default();
        event.set("id", json!(id)).set("source", json!(source));
        event
    }

    /// Sets a field.
    pub fn set(&mut self, name: &str, value: Value) -> &mut Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// Says who.
    pub fn caller(&mut self, caller: &Caller) {
        self.set("caller", json!({"username": caller.username, "groups": caller.groups, "issuer": caller.issuer}));
    }

    /// Says what.
    pub fn operation(&mut self, operation: &Operation, cluster: &str) {
        self.set("cluster", json!(cluster)).set("verb", json!(operation.verb)).set("path", json!(operation.path));
        if let Some(target) = &operation.target {
            self.set(
                "target",
                json!({"apiGroup": target.api_group, "apiVersion": target.api_version, "resource": target.resource,
                    "subresource": target.subresource, "namespace": target.namespace, "name": target.name}),
            );
        }
        // What a stream is opened with is in `command`; of a query the rest is options, and tokens do not belong in a log.
        let options: Vec<_> = operation.query.iter().filter(|(k, _)| k != "command" && !k.contains("token")).collect();
        if !options.is_empty() {
            self.set("query", json!(options));
        }
        if operation.dry_run {
            self.set("dryRun", json!(true));
        }
        if let Some(command) = &operation.command {
            self.set("command", json!({"container": command.container, "argv": command.argv, "stdin": command.stdin, "tty": command.tty}));
        }
    }

    /// Says what was decided, and by which policies.
    pub fn decision(&mut self, decision: &Decision) {
        self.set("verdict", json!(decision.verdict()));
        if !decision.answers.is_empty() {
            self.set("policies", json!(decision.answers));
        }
    }

    /// The event as it is written, at this moment.
    pub fn at_stage(&self, stage: &str) -> Value {
        let mut map = Map::new();
        map.insert("time".into(), json!(timestamp()));
        map.insert("stage".into(), json!(stage));
        map.extend(self.0.clone());
        Value::Object(map)
    }
}

/// Now, in RFC 3339 with milliseconds, UTC.
pub fn timestamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    // Civil from days, after Howard Hinnant's algorithm.
    let z = days as i64 + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60, now.subsec_millis())
}
