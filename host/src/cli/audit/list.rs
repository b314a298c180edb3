//! `postern audit list`: events, a line each.

use std::collections::HashSet;
use std::io::{BufWriter, ErrorKind, StdoutLock, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{address_of, operation_of};
use crate::cli::asked::in_words;
use crate::cli::listing::Form;
use crate::cli::table::{ending, printable, short, shortened};
use crate::cli::terminal::{self, visible};
use crate::policy::Asked;
use crate::policy::change::Change;
use crate::record::query::{self, Query, stage_of, text_of};
use crate::words::Stage;

/// Changes that are remembered until it is told how they ended; of more both events are told.
const MOST_OPEN: usize = 10_000;
/// A terminal with fewer columns is narrow.
const NARROW: usize = 110;
/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How events are listed.
pub(super) struct How {
    pub(super) form: Form,
    pub(super) has_headers: bool,
    /// Whether what comes later is told too.
    pub(super) follows: bool,
    /// Whether every event of an operation is told, and not the last alone.
    pub(super) is_whole: bool,
    /// The most that are told.
    pub(super) limit: Option<usize>,
}

/// Lists what is asked for.
pub(super) fn list(log: &Path, query: &Query, how: How) -> anyhow::Result<()> {
    let mut lister = Lister::new(how);
    lister.head()?;
    if lister.how.limit == Some(0) {
        return Ok(lister.flush()?);
    }
    let mut end = query::ask(log, query, |line| lister.tell(line))?;
    lister.tell_of_open(log)?;
    lister.flush()?;
    if lister.told == 0 && !lister.how.follows {
        eprintln!("{}", if *query == Query::default() { "no events" } else { "no events of that kind" });
    }
    while lister.how.follows && !lister.has_enough {
        std::thread::sleep(LOOK);
        let _ = query::go_on(log, &mut end, query, |line| lister.tell(line))?;
        lister.flush()?;
    }
    Ok(())
}

struct Lister {
    how: How,
    width: Option<usize>,
    has_colours: bool,
    out: BufWriter<StdoutLock<'static>>,
    told: usize,
    /// The id that was told last.
    last: String,
    /// Changes of which it was not told yet how they ended: their ids, and their events.
    open: Vec<(String, Vec<u8>)>,
    has_enough: bool,
}

impl Lister {
    fn new(how: How) -> Self {
        let width = (how.form == Form::Table).then(terminal::width).flatten();
        Self {
            has_colours: how.form == Form::Table && terminal::has_colours(),
            how,
            width,
            out: BufWriter::new(std::io::stdout().lock()),
            told: 0,
            last: String::new(),
            open: Vec::new(),
            has_enough: false,
        }
    }

    fn head(&mut self) -> std::io::Result<()> {
        let head = match self.how.form {
            Form::Table if self.is_narrow() => HEAD_OF_NARROW.to_owned(),
            Form::Table => HEAD.to_owned(),
            Form::Wide => format!("{HEAD_OF_WIDE}{HEAD}"),
            Form::Json | Form::Yaml | Form::Name => return Ok(()),
        };
        if self.how.has_headers { writeln!(self.out, "{head}") } else { Ok(()) }
    }

    /// Whether the terminal has few columns: the operation has the most of them.
    fn is_narrow(&self) -> bool {
        self.width.is_some_and(|width| width < NARROW)
    }

    fn tell(&mut self, line: &[u8]) -> ControlFlow<()> {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return ControlFlow::Continue(()) };
        // What verdicts are based on is for who looks for it.
        let is_for_people = matches!(self.how.form, Form::Table | Form::Wide | Form::Name);
        if is_for_people && !self.how.is_whole && event["stage"] == Stage::Basis.name() {
            return ControlFlow::Continue(());
        }
        // Of a change there are two events: that it is about to be sent, and how it ended. Where the second has not come, the first is told at the end.
        if !self.how.is_whole
            && !self.how.follows
            && event["stage"] == Stage::Decided.name()
            && let Some(id) = event["id"].as_str()
        {
            if self.open.len() < MOST_OPEN {
                self.open.push((id.to_owned(), line.to_vec()));
                return ControlFlow::Continue(());
            }
        } else if let Some(id) = event["id"].as_str()
            && let Some(at) = self.open.iter().rposition(|(open, _)| open == id)
        {
            self.open.remove(at);
        }
        self.write(&event, line)
    }

    /// Tells of changes that were sent and of which it is not told how they ended: they are under way, or the gateway was cut off.
    fn tell_of_open(&mut self, log: &Path) -> std::io::Result<()> {
        let open = std::mem::take(&mut self.open);
        if self.has_enough {
            return Ok(());
        }
        let Some((_, first)) = open.first() else { return Ok(()) };
        // How one ended may not be what was asked for: it is looked for by itself.
        let since = query::second_of(first);
        let wanted: HashSet<&str> = open.iter().map(|(id, _)| id.as_str()).collect();
        let mut ended = HashSet::new();
        let read = |line: &[u8]| {
            stage_of(line).filter(|stage| stage.is_last())?;
            text_of(line, &["id"]).filter(|id| wanted.contains(id.as_ref())).map(|id| id.into_owned())
        };
        query::read_all(log, &Query { since, ..Query::default() }, read, |id| {
            ended.insert(id);
            ControlFlow::Continue(())
        })?;
        for (_, line) in open.iter().filter(|(id, _)| !ended.contains(id)) {
            let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
            if self.has_enough || self.write(&event, line).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, event: &Value, line: &[u8]) -> ControlFlow<()> {
        let text = match self.how.form {
            Form::Json => visible(&String::from_utf8_lossy(line)),
            Form::Yaml => match serde_saphyr::to_string(event) {
                Ok(text) => format!("---\n{}", visible(text.trim_end())),
                Err(_) => return ControlFlow::Continue(()),
            },
            Form::Name => match event["id"].as_str().map(printable) {
                Some(id) if id != self.last => {
                    self.last.clone_from(&id);
                    id
                }
                _ => return ControlFlow::Continue(()),
            },
            Form::Wide => format!("{}{}", more(event), row(event, false)),
            Form::Table => {
                let line = shortened(&row(event, self.is_narrow()), self.width);
                if self.has_colours { coloured(&line, event) } else { line }
            }
        };
        self.told += 1;
        // A reader who has had enough, as `head` does, is told no more.
        self.has_enough = writeln!(self.out, "{text}").is_err() || self.how.limit.is_some_and(|limit| self.told >= limit);
        if self.has_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.out.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.has_enough = true;
                Ok(())
            }
            done => done,
        }
    }
}

const HEAD: &str = "TIME (UTC)           VERDICT           STATUS  CALLER                    OPERATION";
const HEAD_OF_NARROW: &str = "TIME (UTC)      VERDICT           ST   CALLER          OPERATION";
const HEAD_OF_WIDE: &str = "ID               STAGE      SESSION           SOURCE                 ";

/// An event in columns: the time to the second, for the log has the rest.
fn row(event: &Value, is_narrow: bool) -> String {
    let text = |path: &str| printable(event.pointer(path).and_then(Value::as_str).unwrap_or("-"));
    let status = event["status"].as_u64().map_or_else(|| "-".into(), |status| status.to_string());
    let time = text("/time").get(..19).map_or_else(|| text("/time"), |time| time.replace('T', " "));
    // What is no operation is told by what it is.
    let (what, operation) = match event["verdict"].as_str() {
        Some(_) => match event["failedLogins"].as_u64() {
            Some(count) => (text("/verdict"), format!("{count} more failed logins")),
            None => (text("/verdict"), operation_of(event) + &observed(event) + &unverified(event) + open(event)),
        },
        None if event["path"].is_string() => (text("/stage"), of_api(event)),
        None => (text("/stage"), of_gateway(event)),
    };
    // Of who is not known it is told where they are.
    let caller = match event["caller"]["username"].as_str().or(event["source"].as_str()) {
        Some(_) if event["caller"].is_object() => text("/caller/username"),
        Some(source) => format!("from {}", printable(&address_of(source))),
        None => "-".to_owned(),
    };
    if is_narrow {
        let time = time.get(5..).unwrap_or(&time);
        return format!("{time:<14}  {what:<16}  {status:>3}  {:<14}  {operation}", ending(&caller, 14));
    }
    format!("{time:<19}  {what:<16}  {status:>6}  {caller:<24}  {operation}")
}

/// What was asked of the gateway's own API: of approvals which was answered how, and what was said with it.
fn of_api(event: &Value) -> String {
    let (Some(answer), Some(ticket)) = (event["answer"].as_str(), event["answers"].as_str()) else { return operation_of(event) };
    let said = ["comment", "refusal"].into_iter().filter_map(|name| event[name].as_str());
    let said: String = said.map(|said| format!("  ({})", printable(said))).collect();
    format!("approval {} {}{said}", printable(answer), printable(ticket))
}

/// What policies would have answered that are observed only.
fn observed(event: &Value) -> String {
    let answers = event["policies"].as_array().into_iter().flatten();
    let would = answers.filter(|answer| answer["observed"] == true && answer["verdict"] != "allow");
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let told: Vec<String> = would.map(|answer| format!("{}: {}", text(&answer["policy"]), text(&answer["verdict"]))).collect();
    if told.is_empty() { String::new() } else { format!("  (observed, would have answered: {})", told.join(", ")) }
}

/// That a change was sent and it is not told how it ended.
fn open(event: &Value) -> &'static str {
    if event["stage"] == Stage::Decided.name() { "  (sent; how it ended is not told yet)" } else { "" }
}

/// What the token of a failed login said of itself.
fn unverified(event: &Value) -> String {
    let said: Vec<String> = ["subject", "issuer", "id"]
        .iter()
        .filter_map(|name| Some(format!("{name} {}", printable(event["unverified"][name].as_str()?))))
        .collect();
    if said.is_empty() { String::new() } else { format!("  (its token says, unverified: {})", said.join(", ")) }
}

/// What is told in more columns.
fn more(event: &Value) -> String {
    let text = |name: &str| printable(event[name].as_str().unwrap_or("-"));
    format!("{:<15}  {:<9}  {:<16}  {:<21}  ", text("id"), text("stage"), text("session"), text("source"))
}

/// What is told of an event of the gateway itself: which policies are in force, for example.
fn of_gateway(event: &Value) -> String {
    let mut parts = Vec::new();
    for (name, what) in [("inForce", ""), ("notLoaded", "not loaded: "), ("missing", "missing: "), ("gone", "gone: "), ("clusters", "")] {
        let named = |value: &Value| value["name"].as_str().or(value.as_str()).map(printable);
        let names: Vec<String> = match &event[name] {
            Value::Array(values) => values.iter().filter_map(named).collect(),
            Value::Object(values) => values.keys().map(|name| printable(name)).collect(),
            _ => continue,
        };
        if !names.is_empty() {
            parts.push(format!("{what}{}", names.join(", ")));
        }
    }
    parts.extend(changed_of(event));
    if let (Some(policy), Some(basis)) = (event["policy"].as_str(), event["basis"].as_str()) {
        let questions: Vec<Asked> = serde_json::from_value(event["questions"].clone()).unwrap_or_default();
        parts.push(format!("{} {}: {}", printable(policy), printable(basis), in_words(&questions)));
    }
    parts.extend(event["version"].as_str().map(|version| format!("version {}", printable(version))));
    if let Some(cut_off) = event["cutOff"].as_object() {
        parts.push(format!(
            "THE LOG WAS CUT OFF: the gateway had signed event {}, and found {} to be the last",
            cut_off["head"]["seq"], cut_off["found"]
        ));
    }
    parts.extend(event["endUnknown"].as_str().map(|why| format!("whether the log was cut off cannot be told: {}", printable(why))));
    parts.extend(
        event["recording"]
            .as_str()
            .map(|recording| format!("{}  ({})", printable(recording), printable(event["seal"]["ended"].as_str().unwrap_or("-")))),
    );
    if let Some(configuration) = event["configuration"].as_object() {
        let [before, now] = ["before", "digest"].map(|name| configuration.get(name).and_then(Value::as_str).map(short));
        let file = printable(configuration.get("file").and_then(Value::as_str).unwrap_or("-"));
        let now = now.unwrap_or_else(|| "gone".to_owned());
        parts.push(match before {
            Some(before) => format!("{file} {before} -> {now}"),
            None => format!("{file} {now}"),
        });
    }
    parts.extend(event["notTaken"].as_str().map(|why| format!("not taken: {}", printable(why))));
    if let Some(sections) = event["atNextStart"].as_array() {
        let names: Vec<String> = sections.iter().filter_map(Value::as_str).map(printable).collect();
        parts.push(format!("at the next start: {}", names.join(", ")));
    }
    for key in event["keysChanged"].as_array().into_iter().flatten() {
        let [before, after] = ["before", "after"].map(|name| key[name].as_str().map_or_else(|| "none".to_owned(), short));
        parts.push(format!("{} {before} -> {after}", printable(key["name"].as_str().unwrap_or("-"))));
    }
    parts.extend(event["apiServer"].as_str().map(printable));
    parts.join("; ")
}

/// What has changed of the policies in force.
fn changed_of(event: &Value) -> Option<String> {
    let changes: Vec<Change> = serde_json::from_value(event["changed"].clone()).ok()?;
    let told: Vec<String> = changes.iter().map(|change| format!("{} ({})", printable(&change.name), change.what())).collect();
    (!told.is_empty()).then(|| format!("changed: {}", told.join(", ")))
}

/// A line with its verdict in the colour of what it means.
fn coloured(line: &str, event: &Value) -> String {
    let Some(verdict) = event["verdict"].as_str() else { return line.to_owned() };
    let colour = match verdict {
        "block" | "failed" | "unauthenticated" => "31",
        "require-approval" => "33",
        "mask" => "36",
        _ => return line.to_owned(),
    };
    // The first is that of its column: what stands before it is the time.
    line.replacen(verdict, &format!("\u{1b}[{colour}m{verdict}\u{1b}[0m"), 1)
}
