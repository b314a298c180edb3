//! Questions to the audit log: the log itself is read, as little of it as will do. Where it begins is found by its times, which rise, and of what follows only lines that
//! have the words of the question in them are looked at.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memmem::Finder;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::rotated;
use crate::clock::timestamp_of;
use crate::identify;
use crate::mask::member;
use crate::words::Stage;

/// How much of a file is one piece of work.
const PIECE: u64 = 4 << 20;
/// How many pieces are worked on before what they have is told.
const AT_ONCE: usize = 8;
/// How far the beginning of a time is looked for: what is nearer is read.
const NEAR: u64 = 64 << 10;
/// How much of a line has its time in it.
const HEAD: usize = 256;
/// How far times may be from rising: an event has the time of its making, and is written a moment later.
const SLACK: Duration = Duration::from_secs(60);

/// What is asked of the audit log. What is absent is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Unix seconds at or after which it was written.
    pub since: Option<u64>,
    /// Unix seconds at or before which it was written.
    pub until: Option<u64>,
    /// The caller's name, or a part of it.
    pub user: Option<String>,
    /// The cluster.
    pub cluster: Option<String>,
    /// The verb.
    pub verb: Option<String>,
    /// The resource, `secrets` or `pods/exec`; without a subresource any of its own.
    pub resource: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: Option<String>,
    /// What was decided.
    pub verdict: Option<String>,
    /// Whether it was refused, by the gateway or by the API server.
    pub refused: bool,
    /// A policy that was asked.
    pub policy: Option<String>,
    /// The status of the answer.
    pub status: Option<Status>,
    /// The address it came from.
    pub source: Option<IpAddr>,
    /// The session, or the beginning of its id.
    pub session: Option<String>,
    /// What a credential is known by ([`crate::identify::own_of_token`]): of its session, whoever it belongs to.
    pub credential: Option<Vec<u8>>,
    /// A text anywhere in it.
    pub text: Option<String>,
}

/// A status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This one.
    Code(u16),
    /// All that begin with this digit.
    Class(u16),
}

impl Status {
    /// Reads `403` or `4xx`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(class) = text.strip_suffix("xx") {
            return class.parse().ok().filter(|class| (1..=5).contains(class)).map(Self::Class);
        }
        text.parse().ok().filter(|code| (100..600).contains(code)).map(Self::Code)
    }

    fn has(self, code: u16) -> bool {
        match self {
            Self::Code(wanted) => code == wanted,
            Self::Class(class) => code / 100 == class,
        }
    }
}

/// A policy's answer, as an event has it.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    policy: Cow<'a, str>,
}

/// A question, ready to be held against lines.
struct Asked<'a> {
    query: &'a Query,
    /// What must be in a line, as it is written there.
    words: Vec<Finder<'static>>,
    since: Option<String>,
    until: Option<String>,
}

impl<'a> Asked<'a> {
    fn new(query: &'a Query) -> Self {
        let inner = |text: &str| {
            let json = Value::from(text).to_string();
            json[1..json.len() - 1].to_owned()
        };
        let field = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("\"{name}\":\"{}\"", inner(value)));
        let mut words: Vec<String> = [
            query
                .resource
                .as_ref()
                .map(|resource| resource.split('/').next().unwrap_or_default())
                .map(|of| format!("\"resource\":\"{}\"", inner(of))),
            field("verdict", &query.verdict),
            field("policy", &query.policy),
            field("namespace", &query.namespace),
            field("name", &query.name),
            field("verb", &query.verb),
            field("cluster", &query.cluster),
            query.session.as_ref().map(|session| format!("\"session\":\"{}", inner(session))),
            query.source.map(|source| source.to_string()),
            match query.status {
                Some(Status::Code(code)) => Some(format!("\"status\":{code}")),
                Some(Status::Class(class)) => Some(format!("\"status\":{class}")),
                None => None,
            },
            query.user.as_deref().map(inner),
            query.text.as_deref().map(inner),
        ]
        .into_iter()
        .flatten()
        .collect();
        // The longest is the rarest, by and large.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let words = words.iter().map(|word| Finder::new(word).into_owned()).collect();
        let time = |second: u64| timestamp_of(Duration::from_secs(second));
        Self { query, words, since: query.since.map(time), until: query.until.map(|second| time(second + 1)) }
    }

    /// The lines of a text that are asked for.
    fn of<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
        let mut from = 0;
        std::iter::from_fn(move || {
            while from < text.len() {
                let at = match self.words.first() {
                    Some(word) => from + word.find(&text[from..])?,
                    None => from,
                };
                let start = memchr::memrchr(b'\n', &text[from..at]).map_or(from, |found| from + found + 1);
                let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |found| at + found);
                from = end + 1;
                let line = &text[start..end];
                if self.words.iter().skip(1).all(|word| word.find(line).is_some()) && self.fits(line) {
                    return Some(line);
                }
            }
            None
        })
    }

    /// Whether a line is asked for, field by field.
    fn fits(&self, line: &[u8]) -> bool {
        let query = self.query;
        let is = |wanted: &Option<String>, path: &[&str]| {
            wanted.as_ref().is_none_or(|wanted| text_of(line, path).is_some_and(|text| text == *wanted))
        };
        let of = |wanted: &Option<String>, path: &[&str], fits: &dyn Fn(&str, &str) -> bool| {
            wanted.as_ref().is_none_or(|wanted| text_of(line, path).is_some_and(|text| fits(&text, wanted)))
        };
        let time = time_of(line).unwrap_or_default();
        self.since.as_ref().is_none_or(|since| time >= since.as_bytes())
            && self.until.as_ref().is_none_or(|until| time < until.as_bytes())
            && of(&query.user, &["caller", "username"], &|name, part| name.contains(part))
            && is(&query.cluster, &["cluster"])
            && is(&query.verb, &["verb"])
            && is(&query.namespace, &["target", "namespace"])
            && is(&query.name, &["target", "name"])
            && is(&query.verdict, &["verdict"])
            && of(&query.session, &["session"], &|session, begin| session.starts_with(begin))
            && query.source.is_none_or(|wanted| text_of(line, &["source"]).and_then(|source| address_of(&source)) == Some(wanted))
            && query.resource.as_ref().is_none_or(|wanted| resource_of(line).is_some_and(|resource| is_resource(&resource, wanted)))
            && query.status.is_none_or(|status| status_of(line).is_some_and(|code| status.has(code)))
            && (!query.refused || was_refused(line))
            && query.policy.as_ref().is_none_or(|policy| asked(line, policy))
            && query.credential.as_ref().is_none_or(|own| is_of(line, own))
    }
}

/// The address of a source, without its port; of IPv4 on a socket of both it is that.
pub fn address_of(source: &str) -> Option<IpAddr> {
    let address = source.parse::<SocketAddr>().map(|source| source.ip()).or_else(|_| source.parse::<IpAddr>());
    address.ok().map(|address| address.to_canonical())
}

/// Whether a resource of an event is the one that is asked for.
fn is_resource(resource: &str, wanted: &str) -> bool {
    resource == wanted || resource.split_once('/').is_some_and(|(whole, _)| whole == wanted)
}

/// A text of an event, by the names that lead to it.
pub fn text_of<'a>(line: &'a [u8], path: &[&str]) -> Option<Cow<'a, str>> {
    let mut value = line;
    for name in path {
        value = member(value, name.as_bytes()).ok().flatten()?;
    }
    serde_json::from_slice::<Text<'a>>(value).ok().map(|text| text.0)
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The resource of an event, with its subresource.
pub fn resource_of(line: &[u8]) -> Option<String> {
    let target = member(line, b"target").ok().flatten()?;
    let resource = text_of(target, &["resource"])?;
    Some(match text_of(target, &["subresource"]) {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource.into_owned(),
    })
}

/// Whether an event is of the session of a credential.
fn is_of(line: &[u8], own: &[u8]) -> bool {
    let text = |path: &[&str]| text_of(line, path);
    match (text(&["session"]), text(&["caller", "issuer"]), text(&["caller", "username"])) {
        (Some(session), Some(issuer), Some(username)) => {
            let cluster = text(&["cluster"]).unwrap_or_default();
            identify::is_session_of(&session, &issuer, &username, &cluster, own)
        }
        _ => false,
    }
}

/// The stage that an event tells of.
pub fn stage_of(line: &[u8]) -> Option<Stage> {
    let text = text_of(line, &["stage"])?;
    Stage::ALL.iter().copied().find(|stage| stage.name() == text)
}

/// Whether an event tells that something was not done for want of a right, or of anybody's yes.
fn was_refused(line: &[u8]) -> bool {
    stage_of(line) == Some(Stage::Refused) || status_of(line).is_some_and(|code| matches!(code, 401 | 403))
}

fn status_of(line: &[u8]) -> Option<u16> {
    serde_json::from_slice(member(line, b"status").ok().flatten()?).ok()
}

fn asked(line: &[u8], policy: &str) -> bool {
    let answers = member(line, b"policies").ok().flatten();
    let answers: Vec<Answer<'_>> = answers.and_then(|answers| serde_json::from_slice(answers).ok()).unwrap_or_default();
    answers.iter().any(|answer| answer.policy == policy)
}

/// The second in which a line was written.
pub fn second_of(line: &[u8]) -> Option<u64> {
    let time = std::str::from_utf8(time_of(line)?).ok()?;
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp()).ok()
}

/// The time of a line, as it is written: it stands near the beginning.
fn time_of(line: &[u8]) -> Option<&[u8]> {
    let head = &line[..line.len().min(HEAD)];
    let start = memchr::memmem::find(head, b"\"time\":\"")? + 8;
    let length = memchr::memchr(b'"', &head[start..])?;
    Some(&head[start..start + length])
}

/// Whether a file is an audit log, by its first line; one without any line may become one.
pub fn is_log(log: &Path) -> io::Result<bool> {
    let file = File::open(log)?;
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let head = read(&file, 0, HEAD as u64)?;
    Ok(head.is_empty() || head.starts_with(b"{\"seq\":") && time_of(&head).is_some())
}

/// Where a log was read to: one that grows is read on from there.
#[derive(Clone, Debug)]
pub struct End {
    /// What the file is known by, whatever it is called by then.
    file: FileId,
    at: u64,
}

/// A file by its device and inode: a log that is rotated has another name and is the same file.
type FileId = (u64, u64);

fn id_of(file: &File) -> io::Result<FileId> {
    let about = file.metadata()?;
    Ok((about.dev(), about.ino()))
}

/// The files of a log one after another, also where it is rotated while it is read.
struct Files {
    log: PathBuf,
    /// Those that were given out.
    done: Vec<FileId>,
}

impl Files {
    fn new(log: &Path) -> Self {
        Self { log: log.to_owned(), done: Vec::new() }
    }

    /// The next that was not given out yet, and whether it is the one that is written.
    fn next(&mut self) -> io::Result<Option<(File, bool)>> {
        // It is opened before it is looked which others there are: what it was rotated into meanwhile is then among them, or is this file.
        let current = File::open(&self.log)?;
        for path in rotated::files(&self.log) {
            if path == self.log {
                continue;
            }
            let file = match File::open(&path) {
                Ok(file) => file,
                // One that was moved away is not there any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let id = id_of(&file)?;
            if !self.done.contains(&id) {
                self.done.push(id);
                return Ok(Some((file, false)));
            }
        }
        let id = id_of(&current)?;
        if self.done.contains(&id) {
            return Ok(None);
        }
        self.done.push(id);
        Ok(Some((current, true)))
    }
}

/// Tells all lines that are asked for, in the order in which they were written, until `each` has had enough. Gives back where the log ended.
pub fn ask(log: &Path, query: &Query, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<End> {
    read_all(log, query, |line| Some(line.to_vec()), |line| each(&line))
}

/// The same of what is read of each line: that is done on all cores.
pub fn read_all<T: Send>(
    log: &Path,
    query: &Query,
    read: impl Fn(&[u8]) -> Option<T> + Sync,
    mut each: impl FnMut(T) -> ControlFlow<()>,
) -> io::Result<End> {
    let asked = Asked::new(query);
    let early = |second: u64| timestamp_of(Duration::from_secs(second).saturating_sub(SLACK));
    let (since, late) = (query.since.map(early), query.until.map(|second| timestamp_of(Duration::from_secs(second + 1) + SLACK)));
    let mut files = Files::new(log);
    let mut end = None;
    while let Some((file, is_written)) = files.next()? {
        let length = whole(&file, file.metadata()?.len())?;
        end = Some(End { file: id_of(&file)?, at: length });
        if let Some(since) = &since
            && !is_written
            && last_time(&file, length)?.is_some_and(|time| time.as_slice() < since.as_bytes())
        {
            continue;
        }
        let start = match &since {
            Some(since) => begin(&file, length, since.as_bytes())?,
            None => 0,
        };
        if tell(&Span { file: &file, start, length }, &asked, late.as_deref(), &read, &mut each)?.is_break() || is_written {
            break;
        }
    }
    end.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Tells what came after an end, once, and moves it. A log that was rotated since is read to the end of its old file first.
pub fn go_on(log: &Path, end: &mut End, query: &Query, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<ControlFlow<()>> {
    let asked = Asked::new(query);
    let mut each = |line: Vec<u8>| each(&line);
    let mut files = Files::new(log);
    // Those before it were told; where it is not there any more, all but the one that is written were.
    let mut is_behind = false;
    let mut all = Vec::new();
    while let Some((file, is_written)) = files.next()? {
        all.push(file);
        if is_written {
            break;
        }
    }
    let is_there = all.iter().any(|file| id_of(file).is_ok_and(|id| id == end.file));
    let last = all.len().saturating_sub(1);
    for (index, file) in all.iter().enumerate() {
        let is_it = id_of(file)? == end.file;
        is_behind |= is_it || !is_there && index == last;
        if !is_behind {
            continue;
        }
        let whole = whole(file, file.metadata()?.len())?;
        let start = if is_it { end.at.min(whole) } else { 0 };
        let flow = tell(&Span { file, start, length: whole }, &asked, None, &|line: &[u8]| Some(line.to_vec()), &mut each)?;
        *end = End { file: id_of(file)?, at: whole };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// What of a file is read.
struct Span<'a> {
    file: &'a File,
    start: u64,
    length: u64,
}

/// Reads pieces side by side, and tells what they have in order.
fn tell<T: Send>(
    span: &Span<'_>,
    asked: &Asked<'_>,
    late: Option<&str>,
    read: &(impl Fn(&[u8]) -> Option<T> + Sync),
    each: &mut impl FnMut(T) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let pieces: Vec<u64> = (0..(span.length.saturating_sub(span.start)).div_ceil(PIECE)).map(|n| span.start + n * PIECE).collect();
    for window in pieces.chunks(AT_ONCE) {
        let found: Vec<io::Result<Found<T>>> = window
            .par_iter()
            .map(|at| {
                let text = span.lines(*at, (*at + PIECE).min(span.length))?;
                let is_late = late.is_some_and(|late| time_of(&text).is_some_and(|time| time > late.as_bytes()));
                let read = if is_late { Vec::new() } else { asked.of(&text).filter_map(read).collect() };
                Ok(Found { read, is_late })
            })
            .collect();
        for found in found {
            let Found { read, is_late } = found?;
            if is_late || read.into_iter().try_for_each(&mut *each).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// What was asked for in a piece of a file.
struct Found<T> {
    read: Vec<T>,
    /// Whether it and all that follows is later than what is asked for.
    is_late: bool,
}

impl Span<'_> {
    /// The lines that begin between two places.
    fn lines(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        // Whether a line begins right here is told by the byte before.
        let at = from.saturating_sub(u64::from(from > self.start));
        let mut text = read(self.file, at, to - at)?;
        let mut end = to;
        // The last line goes on behind the piece.
        while text.last() != Some(&b'\n') && end < self.length {
            let more = read(self.file, end, NEAR.min(self.length - end))?;
            if more.is_empty() {
                // It was cut while it was read.
                break;
            }
            let found = memchr::memchr(b'\n', &more).map_or(more.len(), |found| found + 1);
            text.extend_from_slice(&more[..found]);
            end += found as u64;
        }
        if from > self.start {
            text.drain(..memchr::memchr(b'\n', &text).map_or(text.len(), |found| found + 1));
        }
        Ok(text)
    }
}

fn read(file: &File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut text = vec![0; length as usize];
    let mut filled = 0;
    while filled < text.len() {
        match file.read_at(&mut text[filled..], at + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    text.truncate(filled);
    Ok(text)
}

/// Where the first line begins that was written at a time or later; a little before it.
fn begin(file: &File, length: u64, since: &[u8]) -> io::Result<u64> {
    let (mut low, mut high) = (0, length);
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        match line_after(file, middle, high, |line| time_of(line).map(<[u8]>::to_vec))? {
            Some((start, time)) if time.as_slice() < since => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The line of a file with this number, where it is there: numbers rise.
pub(super) fn line_with(file: &File, seq: u64) -> io::Result<Option<Vec<u8>>> {
    let length = whole(file, file.metadata()?.len())?;
    let (mut low, mut high) = (0, length);
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        match line_after(file, middle, high, seq_of)? {
            Some((start, number)) if number <= seq => low = start,
            _ => high = middle,
        }
    }
    let text = Span { file, start: low, length }.lines(low, (high + 1).min(length))?;
    Ok(text.split(|byte| *byte == b'\n').find(|line| seq_of(line) == Some(seq)).map(<[u8]>::to_vec))
}

/// The number of a line.
fn seq_of(line: &[u8]) -> Option<u64> {
    let head = line[..line.len().min(HEAD)].strip_prefix(b"{\"seq\":")?;
    let digits = head.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&head[..digits]).ok()?.parse().ok()
}

/// The first line that begins behind a place, and what is read of its head.
fn line_after<T>(file: &File, place: u64, end: u64, of: impl Fn(&[u8]) -> Option<T>) -> io::Result<Option<(u64, T)>> {
    let (mut at, mut text) = (place, Vec::new());
    loop {
        let more = read(file, at, NEAR)?;
        if more.is_empty() {
            return Ok(None);
        }
        at += more.len() as u64;
        text.extend_from_slice(&more);
        if let Some(start) = memchr::memchr(b'\n', &text).map(|found| found + 1)
            && let Some(read) = of(&text[start..])
        {
            return Ok(Some((place + start as u64, read)));
        }
        if at >= end {
            return Ok(None);
        }
    }
}

/// The time of a file's last line.
fn last_time(file: &File, length: u64) -> io::Result<Option<Vec<u8>>> {
    let mut size = NEAR;
    loop {
        let text = read(file, length.saturating_sub(size), size.min(length))?;
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let start = memchr::memrchr(b'\n', text).map(|found| found + 1);
        if let Some(start) = start.or((size >= length).then_some(0)) {
            return Ok(time_of(&text[start..]).map(<[u8]>::to_vec));
        }
        size *= 4;
    }
}

/// How much of a file is whole lines.
fn whole(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(NEAR);
        if let Some(found) = memchr::memrchr(b'\n', &read(file, start, end - start)?) {
            return Ok(start + found as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
