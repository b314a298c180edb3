//! `postern session`: lists, shows, replays, exports, searches and verifies recordings.

mod play;
mod search;
mod verify;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::audit::operation_of;
use super::table::{self, printable, row};
use crate::cli::terminal::say;
use crate::clock::{self, timestamp_of};
use crate::config::Config;
use crate::record::session::format::Kind;
use crate::record::session::index::{SessionIndex, SessionRow, SqliteIndex};
use crate::record::session::read::{Body, Entry, Recorded};
use crate::record::session::shelf::Shelf;
use crate::store::{Objects, wait};

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

/// Where the gateway keeps things.
pub(super) struct Place {
    shelf: Shelf,
    data: PathBuf,
}

impl Session {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let place = Place::open(self.config.as_deref(), self.data_directory)?;
        match self.command {
            SessionCommand::List { filter, json } => list(&place, &filter, json),
            SessionCommand::Show { session, bodies } => show(&place, &session, bodies),
            SessionCommand::Replay { recording, speed, idle_limit } => play::replay(&place, &recording, speed, idle_limit),
            SessionCommand::Export { recording, format, output } => play::export(&place, &recording, &format, output),
            SessionCommand::Search { text, filter } => search::search(&place, &text, &filter),
            SessionCommand::Verify { session } => verify::verify(&place, session),
        }
    }
}

impl Place {
    /// Where a configuration, or a data directory alone, has recordings.
    pub(super) fn open(config: Option<&Path>, data: Option<PathBuf>) -> anyhow::Result<Self> {
        Ok(match (config, data) {
            (Some(file), _) => {
                let config = Config::load(file)?;
                let objects = config.sessions.object_store.as_ref().map(Objects::open).transpose()?;
                Self { shelf: Shelf::new(config.sessions_directory(), objects)?, data: config.data_directory }
            }
            (None, Some(data)) => Self { shelf: Shelf::new(data.join("sessions"), None)?, data },
            (None, None) => bail!("say where the recordings are: --config FILE or --data-directory DIRECTORY"),
        })
    }

    /// The sessions of which something happened at or after a time.
    pub(super) fn since(&self, time: &str) -> anyhow::Result<Vec<String>> {
        Ok(wait(self.index()?.list(parse_time(time)?, i64::MAX as u64))?.into_iter().map(|row| row.id).collect())
    }

    fn index(&self) -> anyhow::Result<SqliteIndex> {
        SqliteIndex::beside(&self.data.join("postern.db"))
    }

    fn stream(&self, recording: &str) -> anyhow::Result<Recorded> {
        let (session, name) = recording.split_once('/').context("name a stream as SESSION/STREAM; `session show` prints them")?;
        let file = format!("{name}.stream");
        if !self.shelf.names(session)?.contains(&file) {
            bail!("there is no stream {name} in session {session}; `session show {session}` prints them");
        }
        self.shelf.open(session, &file)
    }

    /// Looks at each recording of a session; of one that cannot be read the user is told. Says how many there are.
    pub(super) fn each(&self, session: &str, mut look: impl FnMut(Recorded)) -> anyhow::Result<usize> {
        let names = self.shelf.names(session)?;
        for name in &names {
            match self.shelf.open(session, name) {
                Ok(recorded) => look(recorded),
                Err(error) => eprintln!("{}", crate::cli::terminal::visible(&format!("{error:#}"))),
            }
        }
        Ok(names.len())
    }

    /// The sessions that a filter lets through.
    fn sessions(&self, filter: &Filter) -> anyhow::Result<Vec<SessionRow>> {
        let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose();
        let (since, until) = (time(&filter.since)?.unwrap_or(0), time(&filter.until)?.unwrap_or(i64::MAX as u64));
        let mut rows = wait(self.index()?.list(since, until))?;
        rows.retain(|row| filter.user.as_ref().is_none_or(|user| row.username.contains(user.as_str())));
        if !filter.looks_inside() {
            return Ok(rows);
        }
        let mut found = Vec::new();
        for row in rows {
            let (mut fits, mut says) = (false, filter.text.is_none());
            self.each(&row.id, |recorded| {
                fits = fits || recorded.entries().iter().any(|entry| filter.fits(entry, since, until));
                says = says || filter.text.as_ref().is_some_and(|text| !search::hits(&recorded, text).is_empty());
            })?;
            if fits && says {
                found.push(row);
            }
        }
        Ok(found)
    }
}

impl Filter {
    fn looks_inside(&self) -> bool {
        [&self.namespace, &self.verb, &self.resource, &self.pod, &self.verdict, &self.text].iter().any(|wanted| wanted.is_some())
    }

    /// One thing must fit all that is asked of one thing; a text may be anywhere else in the session.
    fn fits(&self, entry: &Entry, since: u64, until: u64) -> bool {
        let (facts, second) = (entry.facts(), entry.micros() / 1_000_000);
        let is = |wanted: &Option<String>, path: &str| {
            wanted.as_ref().is_none_or(|wanted| facts.pointer(path).and_then(Value::as_str) == Some(wanted.as_str()))
        };
        let pods = facts.pointer("/target/resource").and_then(Value::as_str) == Some("pods");
        second >= since
            && second <= until
            && is(&self.namespace, "/target/namespace")
            && is(&self.verb, "/verb")
            && self.resource.as_ref().is_none_or(|wanted| resource_of(facts) == *wanted || facts["target"]["resource"] == wanted.as_str())
            && self.pod.as_ref().is_none_or(|pod| pods && facts["target"]["name"] == pod.as_str())
            && is(&self.verdict, "/verdict")
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
            say!("{}", serde_json::to_string(&row)?);
        }
        return Ok(());
    }
    if rows.is_empty() {
        say!("no sessions");
        return Ok(());
    }
    // Of a gateway with one cluster none is told.
    let has_several = rows.iter().any(|session| !session.cluster.is_empty());
    let with = |mut line: Vec<String>, cluster: &str| {
        if has_several {
            line.insert(1, cluster.to_owned());
        }
        line
    };
    let head = row(["SESSION", "FIRST", "LAST", "CALLS", "STREAMS", "REFUSED", "CALLER"]);
    let mut lines = vec![with(head, "CLUSTER")];
    lines.extend(rows.iter().map(|session| {
        let [first, last] = [session.first, session.last].map(|second| timestamp_of(Duration::from_secs(second))[..19].to_owned() + "Z");
        let [calls, streams, refused] = [session.calls, session.streams, session.refused].map(|count| count.to_string());
        with(row([&session.id, &first, &last, &calls, &streams, &refused, &session.username]), &session.cluster)
    }));
    table::print(&lines);
    Ok(())
}

fn show(place: &Place, session: &str, bodies: bool) -> anyhow::Result<()> {
    let (mut entries, mut caller, mut kept) = (Vec::new(), None, HashMap::<String, Vec<Body>>::new());
    let count = place.each(session, |recorded| {
        entries.append(&mut recorded.entries());
        caller = caller.take().or_else(|| recorded.header.get("caller").cloned());
        if bodies {
            recorded.bodies().for_each(|body| kept.entry(body.call.clone()).or_default().push(body));
        }
    })?;
    if count == 0 {
        bail!("there are no recordings of {session}; `session list` shows sessions");
    }
    entries.sort_by_key(Entry::micros);
    if let Some(caller) = caller {
        let text = |name: &str| printable(caller[name].as_str().unwrap_or("-"));
        say!("session {session} of {} ({})\n", text("username"), text("issuer"));
    }
    let mut out = std::io::stdout().lock();
    for entry in entries {
        if writeln!(out, "{}", line(session, &entry)).is_err() {
            break; // The reader has had enough, as `head` does.
        }
        for body in entry.facts()["id"].as_str().and_then(|id| kept.get(id)).into_iter().flatten() {
            let name = if body.kind == Kind::Request { "request" } else { "answer" };
            let rest = match (body.about["omitted"].as_str(), body.about["cut"].as_bool()) {
                (Some(why), _) => format!("not kept: {why}"),
                (None, Some(true)) => format!("{} ... (cut)", printable(&String::from_utf8_lossy(&body.bytes))),
                _ => printable(&String::from_utf8_lossy(&body.bytes)),
            };
            writeln!(out, "    {name}: {rest}")?;
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
        return Ok(clock::now().saturating_sub(number.saturating_mul(seconds)));
    }
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).with_context(wrong)?;
    u64::try_from(time.unix_timestamp()).with_context(wrong)
}
