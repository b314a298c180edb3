//! `postern session`: lists, shows, replays, exports, searches and verifies recordings.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::audit::operation_of;
use super::table::{self, row};
use crate::config::Config;
use crate::record::session::format::Kind;
use crate::record::session::read::{self, Entry, Recorded};
use crate::record::session::seal::{self, Verdict};
use crate::record::timestamp_of;
use crate::store::{SessionIndex, SessionRow};

/// Reads recorded sessions.
#[derive(Args)]
pub struct Session {
    /// The gateway's configuration; it says where recordings are.
    #[arg(long, global = true, conflicts_with = "data_directory")]
    config: Option<PathBuf>,
    /// The gateway's data directory, instead of a configuration.
    #[arg(long, global = true)]
    data_directory: Option<PathBuf>,
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Subcommand)]
enum SessionCommand {
    /// Lists sessions, the latest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Prints JSON, a line for each session.
        #[arg(long)]
        json: bool,
    },
    /// Shows what was done in a session, in order.
    Show {
        /// The session.
        session: String,
        /// Prints the bodies that were kept, below their calls.
        #[arg(long)]
        bodies: bool,
    },
    /// Plays a stream in this terminal with its timing, or prints what was done in a session.
    Replay {
        /// `SESSION/STREAM`, as `show` prints it, or a session.
        recording: String,
        /// How many times as fast.
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
        /// Longest pause, in seconds.
        #[arg(long)]
        idle_limit: Option<f64>,
    },
    /// Writes a stream in the form of another player.
    Export {
        /// `SESSION/STREAM`.
        recording: String,
        /// The form.
        #[arg(long, default_value = "asciicast", value_parser = ["asciicast", "json"])]
        format: String,
        /// The file; standard output when absent.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// Finds a text in commands, output and calls.
    Search {
        /// The text.
        text: String,
        #[command(flatten)]
        filter: Filter,
    },
    /// Says whether any byte of a session's recordings was changed; of all sessions when none is named.
    Verify {
        /// The session.
        session: Option<String>,
    },
}

/// Which sessions.
#[derive(Args, Clone, Default)]
struct Filter {
    /// The caller's name, or a part of it.
    #[arg(long)]
    user: Option<String>,
    /// Something was done at or after this time: RFC 3339, or how long ago, for example `2h`.
    #[arg(long)]
    since: Option<String>,
    /// Something was done at or before this time.
    #[arg(long)]
    until: Option<String>,
    /// Something was done in this namespace.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Something with this verb.
    #[arg(long)]
    verb: Option<String>,
    /// Something on this resource, for example `secrets` or `pods/exec`.
    #[arg(long)]
    resource: Option<String>,
    /// Something on this pod.
    #[arg(long)]
    pod: Option<String>,
    /// Something with this verdict: allow, mask, block, require-approval, failed.
    #[arg(long)]
    verdict: Option<String>,
    /// Something with this text in it: a command, output or a call.
    #[arg(long)]
    text: Option<String>,
}

struct Place {
    directory: PathBuf,
    data: PathBuf,
}

impl Session {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let place = match (&self.config, self.data_directory) {
            (Some(file), _) => {
                let config = Config::load(file)?;
                Place { directory: config.sessions_directory(), data: config.data_directory }
            }
            (None, Some(data)) => Place { directory: data.join("sessions"), data },
            (None, None) => bail!("say where the recordings are: --config FILE or --data-directory DIRECTORY"),
        };
        match self.command {
            SessionCommand::List { filter, json } => list(&place, &filter, json),
            SessionCommand::Show { session, bodies } => show(&place, &session, bodies),
            SessionCommand::Replay { recording, speed, idle_limit } => replay(&place, &recording, speed, idle_limit),
            SessionCommand::Export { recording, format, output } => export(&place, &recording, &format, output),
            SessionCommand::Search { text, filter } => search(&place, &text, &filter),
            SessionCommand::Verify { session } => verify(&place, session),
        }
    }
}

impl Place {
    fn index(&self) -> anyhow::Result<SessionIndex> {
        SessionIndex::read(&self.data.join("postern.db"))
    }

    fn stream(&self, recording: &str) -> anyhow::Result<Recorded> {
        let (session, name) = recording.split_once('/').context("name a stream as SESSION/STREAM; `session show` prints them")?;
        let found =
            read::recordings(&self.directory, session)?.into_iter().find(|recorded| recorded.is_stream() && recorded.name() == name);
        found.with_context(|| format!("there is no stream {name} in session {session}; `session show {session}` prints them"))
    }

    /// The sessions that a filter lets through.
    fn sessions(&self, filter: &Filter) -> anyhow::Result<Vec<SessionRow>> {
        let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose();
        let (since, until) = (time(&filter.since)?.unwrap_or(0), time(&filter.until)?.unwrap_or(i64::MAX as u64));
        let mut rows = self.index()?.list(since, until)?;
        rows.retain(|row| filter.user.as_ref().is_none_or(|user| row.username.contains(user.as_str())));
        if filter.looks_inside() {
            rows.retain(|row| match read::recordings(&self.directory, &row.id) {
                Ok(recordings) => filter.finds(&recordings, since, until),
                Err(_) => false,
            });
        }
        Ok(rows)
    }
}

impl Filter {
    fn looks_inside(&self) -> bool {
        [&self.namespace, &self.verb, &self.resource, &self.pod, &self.verdict, &self.text].iter().any(|wanted| wanted.is_some())
    }

    /// One thing must fit all that is asked of one thing; a text may be anywhere in the session.
    fn finds(&self, recordings: &[Recorded], since: u64, until: u64) -> bool {
        let fits = |entry: &Entry| {
            let (facts, second) = (entry.facts(), entry.micros() / 1_000_000);
            let is = |wanted: &Option<String>, path: &str| {
                wanted.as_ref().is_none_or(|wanted| facts.pointer(path).and_then(Value::as_str) == Some(wanted.as_str()))
            };
            let pods = facts.pointer("/target/resource").and_then(Value::as_str) == Some("pods");
            second >= since
                && second <= until
                && is(&self.namespace, "/target/namespace")
                && is(&self.verb, "/verb")
                && self
                    .resource
                    .as_ref()
                    .is_none_or(|wanted| resource_of(facts) == *wanted || facts["target"]["resource"] == wanted.as_str())
                && self.pod.as_ref().is_none_or(|pod| pods && facts["target"]["name"] == pod.as_str())
                && is(&self.verdict, "/verdict")
        };
        read::timeline(recordings).iter().any(fits)
            && self.text.as_ref().is_none_or(|text| recordings.iter().any(|recorded| !hits(recorded, text).is_empty()))
    }
}

fn resource_of(facts: &Value) -> String {
    let part = |name: &str| facts["target"][name].as_str().unwrap_or_default().to_owned();
    match part("subresource").as_str() {
        "" => part("resource"),
        subresource => format!("{}/{subresource}", part("resource")),
    }
}

fn list(place: &Place, filter: &Filter, as_json: bool) -> anyhow::Result<()> {
    let rows = place.sessions(filter)?;
    if as_json {
        for row in rows {
            println!("{}", serde_json::to_string(&row)?);
        }
        return Ok(());
    }
    if rows.is_empty() {
        println!("no sessions");
        return Ok(());
    }
    let mut lines = vec![row(["SESSION", "FIRST", "LAST", "CALLS", "STREAMS", "REFUSED", "CALLER"])];
    lines.extend(rows.iter().map(|session| {
        let [first, last] = [session.first, session.last].map(|second| timestamp_of(Duration::from_secs(second))[..19].to_owned() + "Z");
        let [calls, streams, refused] = [session.calls, session.streams, session.refused].map(|count| count.to_string());
        row([&session.id, &first, &last, &calls, &streams, &refused, &session.username])
    }));
    table::print(&lines);
    Ok(())
}

fn show(place: &Place, session: &str, bodies: bool) -> anyhow::Result<()> {
    let recordings = read::recordings(&place.directory, session)?;
    let who = recordings.iter().map(|recorded| &recorded.header["caller"]).find(|caller| caller.is_object());
    if let Some(caller) = who {
        let text = |name: &str| printable(caller[name].as_str().unwrap_or("-"));
        println!("session {session} of {} ({})\n", text("username"), text("issuer"));
    }
    let mut out = std::io::stdout().lock();
    for entry in read::timeline(&recordings) {
        if writeln!(out, "{}", line(session, &entry)).is_err() {
            break; // The reader has had enough, as `head` does.
        }
        if let (true, Entry::Call { event, .. }) = (bodies, &entry) {
            for (kind, about, body) in read::bodies(&recordings, event["id"].as_str().unwrap_or_default()) {
                let name = if kind == Kind::Request { "request" } else { "answer" };
                let rest = match (about["omitted"].as_str(), about["cut"].as_bool()) {
                    (Some(why), _) => format!("not kept: {why}"),
                    (None, Some(true)) => format!("{} ... (cut)", printable(&String::from_utf8_lossy(body))),
                    _ => printable(&String::from_utf8_lossy(body)),
                };
                writeln!(out, "    {name}: {rest}")?;
            }
        }
    }
    Ok(())
}

/// An entry of the timeline on a line.
fn line(session: &str, entry: &Entry) -> String {
    let time = timestamp_of(Duration::from_micros(entry.micros()));
    let facts = entry.facts();
    let verdict = facts["verdict"].as_str().unwrap_or("-");
    match entry {
        Entry::Call { event, .. } => {
            let status = event["status"].as_u64().map_or_else(|| "-".into(), |s| s.to_string());
            format!("{time}  {verdict:<16} {status:>3}  {}", operation_of(event))
        }
        Entry::Stream { name, ended, .. } => {
            format!("{time}  {verdict:<16}      {}  ({})  {session}/{name}", operation_of(facts), printable(ended))
        }
    }
}

fn replay(place: &Place, recording: &str, speed: f64, idle_limit: Option<f64>) -> anyhow::Result<()> {
    if !(speed > 0.0 && speed.is_finite()) {
        bail!("--speed: must be greater than 0");
    }
    if !recording.contains('/') {
        return show(place, recording, false);
    }
    let recorded = place.stream(recording)?;
    let mut out = std::io::stdout().lock();
    let (mut before, mut frames) = (None, 0);
    for (kind, micros, payload) in recorded.frames() {
        if matches!(kind, Kind::Stdout | Kind::Stderr | Kind::Mark) {
            let pause = before.map_or(0.0, |before: u64| micros.saturating_sub(before) as f64 / 1e6 / speed);
            // Nobody waits longer than a day, whatever the file says.
            std::thread::sleep(Duration::from_secs_f64(pause.min(idle_limit.unwrap_or(f64::MAX).max(0.0)).min(86_400.0)));
            before = Some(micros);
        }
        let written = match kind {
            Kind::Stdout => out.write_all(payload),
            Kind::Stderr => std::io::stderr().write_all(payload),
            Kind::Mark => {
                let what = serde_json::from_slice::<Value>(payload).unwrap_or_default();
                writeln!(std::io::stderr(), "\r\n[{}]", printable(what["what"].as_str().unwrap_or("something is missing")))
            }
            _ => Ok(()),
        };
        if written.and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        frames += 1;
    }
    if recorded.is_unfinished() {
        eprintln!("\r\n[the recording has no end: its stream is open, or was cut short]");
    }
    if std::io::stdout().is_terminal() {
        eprintln!("\r\n[{}; {frames} frames]", printable(&recorded.ended()));
    }
    Ok(())
}

fn export(place: &Place, recording: &str, format: &str, output: Option<PathBuf>) -> anyhow::Result<()> {
    let recorded = place.stream(recording)?;
    let text = if format == "json" { to_json(&recorded) } else { to_asciicast(&recorded) };
    match output {
        Some(file) => std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display())),
        None => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}

fn to_json(recorded: &Recorded) -> String {
    let mut text = format!("{}\n", recorded.header);
    for (kind, micros, payload) in recorded.frames() {
        let payload = match std::str::from_utf8(payload) {
            Ok(plain) => json!({"text": plain}),
            Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(payload)}),
        };
        let name = format!("{kind:?}").to_lowercase();
        if !matches!(kind, Kind::Header | Kind::Chain | Kind::Seal) {
            text += &format!("{}\n", json!({"kind": name, "microseconds": micros, "payload": payload}));
        }
    }
    text
}

/// asciicast v2 (docs.asciinema.org/manual/asciicast/v2): a header, then an event a line.
fn to_asciicast(recorded: &Recorded) -> String {
    let size = |payload: &[u8]| {
        let size = serde_json::from_slice::<Value>(payload).unwrap_or_default();
        Some((size["Width"].as_u64()?, size["Height"].as_u64()?))
    };
    let start = recorded.frames().next().map_or(0, |(_, micros, _)| micros);
    let (width, height) = recorded.frames().filter(|(kind, ..)| *kind == Kind::Resize).find_map(|(_, _, p)| size(p)).unwrap_or((80, 24));
    let argv = recorded.header.pointer("/command/argv").and_then(Value::as_array).cloned().unwrap_or_default();
    let command = argv.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let title = operation_of(&recorded.header);
    let header =
        json!({"version": 2, "width": width, "height": height, "timestamp": start / 1_000_000, "title": title, "command": command});
    let tty = recorded.header.pointer("/command/tty").and_then(Value::as_bool).unwrap_or(false);
    let mut text = format!("{header}\n");
    // A character may be cut in two by frames: its beginning waits for its end.
    let mut cut: [Vec<u8>; 3] = Default::default();
    for (kind, micros, payload) in recorded.frames() {
        let (code, index) = match kind {
            Kind::Stdout => ("o", 0),
            Kind::Stderr => ("o", 1),
            Kind::Stdin => ("i", 2),
            Kind::Resize => {
                if let Some((width, height)) = size(payload) {
                    text += &format!("{}\n", json!([seconds(micros, start), "r", format!("{width}x{height}")]));
                }
                continue;
            }
            _ => continue,
        };
        cut[index].extend_from_slice(payload);
        let whole = match std::str::from_utf8(&cut[index]) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => cut[index].len(),
        };
        let rest = cut[index].split_off(whole);
        let piece = std::mem::replace(&mut cut[index], rest);
        let mut piece = String::from_utf8_lossy(&piece).into_owned();
        if !tty && code == "o" {
            // Without a terminal a line ends in a line feed alone; a player is a terminal.
            piece = piece.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        if !piece.is_empty() {
            text += &format!("{}\n", json!([seconds(micros, start), code, piece]));
        }
    }
    text
}

fn seconds(micros: u64, start: u64) -> f64 {
    micros.saturating_sub(start) as f64 / 1e6
}

fn search(place: &Place, text: &str, filter: &Filter) -> anyhow::Result<()> {
    let mut found = 0;
    let mut out = std::io::stdout().lock();
    for row in place.sessions(filter)? {
        let Ok(recordings) = read::recordings(&place.directory, &row.id) else { continue };
        for recorded in &recordings {
            for (micros, what) in hits(recorded, text) {
                found += 1;
                let place = if recorded.is_stream() { format!("{}/{}", row.id, recorded.name()) } else { row.id.clone() };
                let time = timestamp_of(Duration::from_micros(micros));
                if writeln!(out, "{time}  {place}  {}  {what}", printable(&row.username)).is_err() {
                    return Ok(());
                }
            }
        }
    }
    if found == 0 {
        bail!("{text:?} is nowhere in the recordings");
    }
    Ok(())
}

/// Where a text is in a recording: the time, and the line it is in.
fn hits(recorded: &Recorded, text: &str) -> Vec<(u64, String)> {
    let mut hits = Vec::new();
    let start = recorded.frames().next().map_or(0, |(_, micros, _)| micros);
    let command = operation_of(&recorded.header);
    if recorded.is_stream() && command.contains(text) {
        hits.push((start, format!("command: {command}")));
    }
    // A text may be cut in two by frames: output is looked at as a whole, and input too.
    for (kinds, name) in [(&[Kind::Stdout, Kind::Stderr][..], "output"), (&[Kind::Stdin], "input")] {
        let (mut whole, mut times) = (Vec::new(), Vec::new());
        for (kind, micros, payload) in recorded.frames() {
            if kinds.contains(&kind) {
                times.push((whole.len(), micros));
                whole.extend_from_slice(payload);
            }
        }
        let mut last_line = None;
        for at in memchr::memmem::find_iter(&whole, text.as_bytes()) {
            let begin = memchr::memrchr(b'\n', &whole[..at]).map_or(0, |at| at + 1);
            let end = memchr::memchr(b'\n', &whole[at..]).map_or(whole.len(), |end| at + end);
            if last_line.replace(begin) == Some(begin) {
                continue;
            }
            let micros = times[times.partition_point(|(from, _)| *from <= at) - 1].1;
            hits.push((micros, format!("{name}: {}", printable(&String::from_utf8_lossy(&whole[begin..end])))));
        }
    }
    for (kind, micros, payload) in recorded.frames() {
        if matches!(kind, Kind::Request | Kind::Response) && memchr::memmem::find(payload, text.as_bytes()).is_some() {
            let about = payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let about: Value = serde_json::from_slice(about).unwrap_or_default();
            hits.push((
                micros,
                format!("{} of call {}", if kind == Kind::Request { "request" } else { "answer" }, about["id"].as_str().unwrap_or("?")),
            ));
        }
        if kind == Kind::Call {
            let event: Value = serde_json::from_slice(payload).unwrap_or_default();
            let shown = operation_of(&event);
            if shown.contains(text) || memchr::memmem::find(payload, text.as_bytes()).is_some() {
                hits.push((micros, format!("call: {shown}")));
            }
        }
    }
    hits
}

fn verify(place: &Place, session: Option<String>) -> anyhow::Result<()> {
    let file = place.data.join("session.pub");
    let key = std::fs::read_to_string(&file).with_context(|| format!("cannot read the gateway's public key {}", file.display()))?;
    let key = base64::engine::general_purpose::STANDARD.decode(key.trim()).with_context(|| format!("{} is no key", file.display()))?;
    let mut sessions = place.index()?.list(0, i64::MAX as u64)?;
    sessions.retain(|row| session.as_ref().is_none_or(|wanted| row.id == *wanted));
    if let Some(session) = session.filter(|_| sessions.is_empty()) {
        bail!("there is no session {session}; `session list` shows them");
    }
    let (mut whole, mut open, mut broken) = (0, 0, Vec::new());
    for session in &sessions {
        let recordings = read::recordings(&place.directory, &session.id)?;
        let streams = recordings.iter().filter(|recorded| recorded.is_stream()).count() as u64;
        if streams < session.streams {
            broken.push(format!("session {}: {} of its {} streams are gone", session.id, session.streams - streams, session.streams));
        }
        for recorded in recordings {
            match seal::verify(recorded.bytes(), &key) {
                Ok(Verdict::Whole(_)) => whole += 1,
                Ok(Verdict::Unsealed { .. }) if recorded.is_unfinished() => open += 1,
                Ok(Verdict::Unsealed { frames, .. }) => {
                    broken.push(format!("{}: it has no seal after {frames} frames: its end was taken away", recorded.path.display()));
                }
                Err(why) => broken.push(format!("{}: {why:#}", recorded.path.display())),
            }
        }
    }
    let still = if open > 0 { format!("; {open} are not finished and nothing in them was changed") } else { String::new() };
    if broken.is_empty() {
        println!("{whole} recordings of {} sessions are whole and signed by this gateway{still}", sessions.len());
        return Ok(());
    }
    bail!("{}\n{whole} recordings are whole{still}", broken.join("\n"))
}

/// A time as RFC 3339 writes it, or how long ago: `90s`, `15m`, `2h`, `7d`.
fn parse_time(text: &str) -> anyhow::Result<u64> {
    let wrong = || format!("{text:?} is no time; write 2026-01-31T12:00:00Z, or how long ago, for example 2h");
    if let Some((number, unit)) = text.char_indices().last().map(|(at, unit)| (&text[..at], unit))
        && let Ok(number) = number.parse::<u64>()
    {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => bail!(wrong()),
        };
        return Ok(crate::identify::now().saturating_sub(number.saturating_mul(seconds)));
    }
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).with_context(wrong)?;
    u64::try_from(time.unix_timestamp()).with_context(wrong)
}

/// A text without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
