//! `postern session`: lists, shows, replays, exports, searches and verifies recordings.

mod place;
mod play;
mod search;
mod verify;

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::audit::operation_of;
use super::filter;
use super::place::Place;
use super::table::{self, printable};
use crate::cli::listing::{Heads, Listed, Output};
use crate::cli::terminal::say;
use crate::clock::timestamp_of;
use crate::record::session::format::Kind;
use crate::record::session::read::{Body, TimelineItem};
use crate::record::session::search::Filter;
pub(super) use place::RecordingSource;

/// Reads recorded sessions.
#[derive(Args)]
pub struct Session {
    #[command(flatten)]
    place: Place,
    /// A kubeconfig of the gateway, instead of either: what it lets you see is read over its own API. What `KUBECONFIG` names where nothing is said.
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["config", "data_directory"])]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Subcommand)]
enum SessionCommand {
    /// Lists sessions, the latest first.
    List {
        #[command(flatten)]
        filter: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Shows what was done in a session, in order: all of it, or what is asked for.
    #[command(after_help = "Examples:
  postern session show 3f2a                          the beginning of an id will do
  postern session show 3f2a --verdict block -o json
  postern session show 3f2a --resource pods/exec --since 1h")]
    Show {
        /// The session, or the beginning of its id.
        session: String,
        #[command(flatten)]
        what: What,
        /// With this text in the line that is shown; `session search` looks into what was written, too.
        #[arg(long)]
        text: Option<String>,
        /// How it is written.
        #[arg(long, short, value_enum, default_value_t)]
        output: ShowForm,
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
        filter: Which,
    },
    /// Says whether any byte of a session's recordings was changed, and whether recordings that the audit log knows are gone; of all sessions when none is named.
    Verify {
        /// The session.
        session: Option<String>,
        /// Misses only recordings that were finished at or after this time: what is older is kept elsewhere, or no more.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
}

/// How a session is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ShowForm {
    /// For people.
    #[default]
    Text,
    /// What was done, a line of JSON each.
    Json,
}

/// Which sessions: those of somebody, in which something was done.
#[derive(Args, Clone, Default)]
struct Which {
    /// The caller's name, or a part of it.
    #[arg(long)]
    user: Option<String>,
    /// The cluster, of a gateway with several.
    #[arg(long)]
    cluster: Option<String>,
    #[command(flatten)]
    what: What,
    /// Something with this text in it: a command, output or a call.
    #[arg(long)]
    text: Option<String>,
}

/// Something that was done.
#[derive(Args, Clone, Default)]
struct What {
    /// Done at or after this time: `2h` ago, `yesterday`, a date, or RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Done at or before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Done in this namespace.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Done with this verb.
    #[arg(long)]
    verb: Option<String>,
    /// Done on this resource, for example `secrets` or `pods/exec`.
    #[arg(long)]
    resource: Option<String>,
    /// Done on this pod.
    #[arg(long)]
    pod: Option<String>,
    /// Done with this verdict: allow, mask, block, require-approval or failed.
    #[arg(long)]
    verdict: Option<String>,
}

impl Session {
    pub(super) fn is_read_at_length(&self) -> bool {
        matches!(self.command, SessionCommand::List { .. } | SessionCommand::Show { .. } | SessionCommand::Search { .. })
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let place = RecordingSource::of(&self.place, self.kubeconfig)?;
        match self.command {
            SessionCommand::List { filter, output } => list(&place, &filter.filter()?, output),
            SessionCommand::Show { session, what, text, output, bodies } => {
                show(&place, &place.session(&session)?, &Filter { text, ..what.filter()? }, output, bodies)
            }
            SessionCommand::Replay { recording, speed, idle_limit } => play::replay(&place, &recording, speed, idle_limit),
            SessionCommand::Export { recording, format, output } => play::export(&place, &recording, &format, output),
            SessionCommand::Search { text, filter } => search::search(&place, &text, &filter.filter()?),
            SessionCommand::Verify { session, since } => {
                let since = since.as_deref().map(filter::time).transpose().context("--since")?;
                let session = session.as_deref().map(|session| place.session(session)).transpose()?;
                verify::verify(&place, session, since)
            }
        }
    }
}

impl Which {
    fn filter(self) -> anyhow::Result<Filter> {
        Ok(Filter { user: self.user, cluster: self.cluster, text: self.text, ..self.what.filter()? })
    }
}

impl What {
    fn filter(self) -> anyhow::Result<Filter> {
        let said = |flag: &str, text: &Option<String>, read: fn(&str) -> anyhow::Result<u64>| {
            text.as_deref().map(|text| read(text).with_context(|| flag.to_owned())).transpose()
        };
        let word = |text: &Option<String>, read: fn(&str) -> anyhow::Result<String>| text.as_deref().map(read).transpose();
        let Self { since, until, namespace, verb, resource, pod, verdict } = self;
        Ok(Filter {
            since: said("--since", &since, filter::time)?,
            until: said("--until", &until, filter::time_to)?,
            namespace,
            verb: word(&verb, filter::verb)?,
            resource: word(&resource, filter::resource)?,
            pod,
            verdict: word(&verdict, filter::verdict)?,
            ..Filter::default()
        })
    }
}

fn list(place: &RecordingSource, filter: &Filter, output: Output) -> anyhow::Result<()> {
    let sessions = place.sessions(filter)?;
    if sessions.is_empty() && output.is_for_people() {
        say!("no sessions");
        return Ok(());
    }
    let has_several = sessions.iter().any(|session| !session.cluster.is_empty());
    let items = sessions.into_iter().map(|session| {
        let [first, last] = [session.first, session.last].map(table::time);
        let [calls, streams, refused] = [session.calls, session.streams, session.refused].map(|count| count.to_string());
        let mut cells = vec![session.id.clone(), last, calls, streams, refused, session.username.clone()];
        if has_several {
            cells.insert(1, session.cluster.clone());
        }
        Ok(Listed { name: session.id.clone(), whole: serde_json::to_value(&session)?, cells, wide: vec![first] })
    });
    let items = items.collect::<anyhow::Result<Vec<_>>>()?;
    // Of a gateway with one cluster none is told.
    let heads = ["SESSION", "CLUSTER", "LAST", "CALLS", "STREAMS", "REFUSED", "CALLER"]
        .into_iter()
        .filter(|&head| has_several || head != "CLUSTER");
    output.list(&Heads(&heads.collect::<Vec<_>>(), &["FIRST"]), &items)
}

fn show(place: &RecordingSource, session: &str, filter: &Filter, form: ShowForm, bodies: bool) -> anyhow::Result<()> {
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
    entries.retain(|entry| filter.fits(entry) && filter.text.as_ref().is_none_or(|text| line(session, entry).contains(text.as_str())));
    entries.sort_by_key(TimelineItem::micros);
    if form == ShowForm::Json {
        entries.iter().for_each(|entry| say!("{}", told(session, entry)));
        return Ok(());
    }
    if let Some(caller) = caller {
        let text = |name: &str| printable(caller[name].as_str().unwrap_or("-"));
        say!("session {session} of {} ({})\n", text("username"), text("issuer"));
    }
    if entries.is_empty() {
        eprintln!("nothing of that kind");
    }
    let mut out = std::io::stdout().lock();
    for entry in entries {
        if writeln!(out, "{}", line(session, &entry)).is_err() {
            break; // The reader has had enough, as `head` does.
        }
        for body in entry.facts()["id"].as_str().and_then(|id| kept.get(id)).into_iter().flatten() {
            let name = if body.kind == Kind::Request { "request" } else { "answer" };
            let rest = match (body.about["omitted"].as_str(), body.about["cut"].as_bool()) {
                (Some(why), _) => format!("not kept: {}", printable(why)),
                (None, Some(true)) => format!("{} ... (cut)", printable(&String::from_utf8_lossy(&body.bytes))),
                _ => printable(&String::from_utf8_lossy(&body.bytes)),
            };
            let _ = writeln!(out, "    {name}: {rest}");
        }
    }
    Ok(())
}

/// An entry of the timeline in JSON.
fn told(session: &str, entry: &TimelineItem) -> serde_json::Value {
    let mut told = entry.facts().clone();
    if let (TimelineItem::Stream { name, ended, .. }, Some(fields)) = (entry, told.as_object_mut()) {
        fields.insert("recording".to_owned(), format!("{session}/{name}").into());
        fields.insert("ended".to_owned(), ended.as_str().into());
    }
    told
}

/// An entry of the timeline on a line.
fn line(session: &str, entry: &TimelineItem) -> String {
    let time = timestamp_of(Duration::from_micros(entry.micros()));
    let facts = entry.facts();
    let verdict = printable(facts["verdict"].as_str().unwrap_or("-"));
    match entry {
        TimelineItem::Call { event, .. } => {
            let status = event["status"].as_u64().map_or_else(|| "-".into(), |s| s.to_string());
            format!("{time}  {verdict:<16} {status:>3}  {}", operation_of(event))
        }
        TimelineItem::Stream { name, ended, .. } => {
            format!("{time}  {verdict:<16}      {}  ({})  {session}/{}", operation_of(facts), printable(ended), printable(name))
        }
    }
}
