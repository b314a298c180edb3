//! Recordings: which sessions there are, what was done in them, and their files.

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::live::{Following, Growing};
use super::routes::Given;
use super::{Asking, Sources, json as answered, json_text};
use crate::body::Body;
use crate::digest::sha256;
use crate::drain::Drain;
use crate::identify::Caller;
use crate::record::session::index::SessionRow;
use crate::record::session::library::{Library, place_after};
use crate::record::session::read::Entry;
use crate::record::session::search::{Filter, Hit};
use crate::status::Refusal;

/// The most of a page.
const PAGE: usize = 500;
/// The longest text that is looked for, in bytes.
const LONGEST_TEXT: usize = 1024;
/// Things that are told of a timeline.
const MOST_ENTRIES: usize = 20_000;
/// Recordings that are read for one caller at a time.
const READ_FOR_ONE: usize = 2;
/// What an audit event says that is for auditors: which policies there are and what they would have done is not for those they are about.
const OF_AUDITORS: [&str; 6] = ["policies", "observed", "hidden", "prev", "hash", "seq"];

/// What is asked of recordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Sessions: so many, from where a page ended.
    List(Filter, usize, Option<String>),
    /// One of them.
    Get(String),
    /// What was done in one.
    Timeline(String),
    /// Where a text is in one.
    Search(String, String),
    /// A file of one, to its end or for as long as it is written.
    Recording(String, String, bool),
    /// What they are signed with.
    Key,
}

/// A page of sessions.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct Listed {
    /// The sessions.
    pub items: Vec<SessionRow>,
    /// What the next page is asked for with, when there may be more.
    #[serde(rename = "continue")]
    pub go_on: Option<String>,
    /// Recordings that could not be read.
    pub unread: Vec<String>,
}

/// A session.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct Detail {
    /// Who, when, and how much.
    pub session: SessionRow,
    /// The names of its recordings.
    pub recordings: Vec<String>,
}

/// What was done in a session.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timeline {
    /// Things in their order.
    items: Vec<Done>,
    /// Whether there is more than is told.
    is_cut: bool,
    /// Recordings that could not be read.
    unread: Vec<String>,
}

/// Something that was done.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Done {
    /// Unix microseconds.
    micros: u64,
    /// The name of its recording, of a stream; none of a call.
    stream: Option<String>,
    /// How a stream ended, in a word or two.
    ended: Option<String>,
    /// Its audit event; of a stream, what that is of.
    about: Value,
}

/// Where a text is.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The first first.
    pub items: Vec<Hit>,
    /// Whether there is more than is told.
    pub is_cut: bool,
    /// Recordings that could not be read.
    pub unread: Vec<String>,
}

/// What recordings are signed with.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The Ed25519 public key in base64, as `session.pub` in the gateway's data directory has it.
    pub public_key: String,
}

impl Asked {
    /// What is looked at in recordings, as it is recorded; none where nothing is. A text may be the very secret that is looked for: its digest is told.
    pub fn looks_at(&self) -> Option<Value> {
        let digest = |text: &str| sha256(text.as_bytes());
        match self {
            Self::List(filter, ..) if filter.looks_inside() => {
                let Filter { user, since, until, namespace, verb, resource, pod, verdict, text } = filter;
                Some(
                    json!({"user": user, "since": since, "until": until, "namespace": namespace, "verb": verb, "resource": resource, "pod": pod,
                    "verdict": verdict, "textSha256": text.as_deref().map(digest)}),
                )
            }
            Self::Timeline(id) => Some(json!({"session": id})),
            Self::Search(id, text) => Some(json!({"session": id, "textSha256": digest(text)})),
            Self::Recording(id, name, follow) => Some(json!({"session": id, "recording": name, "follow": follow})),
            Self::List(..) | Self::Get(_) | Self::Key => None,
        }
    }
}

/// The most of a page that is asked for.
pub(super) fn limit(given: &Given<'_>) -> Result<usize, Refusal> {
    let asked = given.number("limit")?.filter(|limit| *limit > 0);
    Ok(asked.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE).min(PAGE))
}

/// The sessions that are asked for.
pub(super) fn filter(given: &Given<'_>) -> Result<Filter, Refusal> {
    Ok(Filter {
        user: given.text("user"),
        since: given.number("since")?.map(|second| second.min(i64::MAX as u64)),
        until: given.number("until")?.map(|second| second.min(i64::MAX as u64)),
        namespace: given.text("namespace"),
        verb: given.text("verb"),
        resource: given.text("resource"),
        pod: given.text("pod"),
        verdict: given.text("verdict"),
        text: given.text("text").map(within).transpose()?,
    })
}

fn within(text: String) -> Result<String, Refusal> {
    match text.len() <= LONGEST_TEXT {
        true => Ok(text),
        false => Err(Refusal::bad_request(format!("a text of at most {LONGEST_TEXT} bytes is looked for"))),
    }
}

/// Answers.
pub async fn answer(sources: &Sources, asking: Asking<'_>, asked: &Asked, drain: &Drain) -> Result<Response<Body>, Refusal> {
    let caller = asking.caller;
    match asked.clone() {
        Asked::Key => answered(&Key { public_key: sources.session_key.clone() }),
        Asked::List(filter, limit, after) => {
            if let Some(after) = &after
                && place_after(after).is_none()
            {
                return Err(Refusal::bad_request("continue is no place in a list; give what the page before said"));
            }
            if filter.looks_inside() {
                sources.only_auditors(caller)?;
            }
            let (sees, mut unread) = (Sees::new(sources, asking), Vec::new());
            let listed = sources.read(caller, move |library| {
                let page =
                    library.sessions(&filter, |row| sees.sees(row), limit, after.as_deref(), |error| unread.push(format!("{error:#}")))?;
                Ok(serde_json::to_string(&Listed { items: page.items, go_on: page.go_on, unread })?)
            });
            Ok(json_text(listed.await?))
        }
        Asked::Get(id) => {
            let session = sources.session(asking, &id).await?;
            let recordings = sources.read(caller, move |library| Ok(library.shelf().names(&id)?.into_iter().collect())).await?;
            answered(&Detail { session, recordings })
        }
        Asked::Timeline(id) => {
            sources.session(asking, &id).await?;
            let all = sources.is_auditor(caller);
            Ok(json_text(sources.read(caller, move |library| Ok(serde_json::to_string(&timeline(library, &id, all)?)?)).await?))
        }
        Asked::Search(id, text) => {
            sources.only_auditors(caller)?;
            let text = within(text)?;
            sources.session(asking, &id).await?;
            let found = sources.read(caller, move |library| {
                let mut unread = Vec::new();
                let (items, is_cut) = library.hits(&id, &text, |error| unread.push(format!("{error:#}")))?;
                Ok(serde_json::to_string(&Found { items, is_cut, unread })?)
            });
            Ok(json_text(found.await?))
        }
        Asked::Recording(id, name, follow) => {
            sources.only_auditors(caller)?;
            sources.session(asking, &id).await?;
            recording(sources, caller, id, name, follow, drain).await
        }
    }
}

/// A file of a session.
async fn recording(
    sources: &Sources,
    caller: &Arc<Caller>,
    id: String,
    name: String,
    follow: bool,
    drain: &Drain,
) -> Result<Response<Body>, Refusal> {
    let (place, of, wanted) = (sources.library.directory().join(&id), id.clone(), name.clone());
    let names = sources.read(caller, move |library| library.shelf().names(&of)).await?;
    if !names.contains(&wanted) {
        return Err(Refusal::not_found("the session has no such recording; GET /postern/v1/sessions/ID names them"));
    }
    let too_many = |what: &str| Refusal::too_many_requests(format!("as many recordings are {what} as may be; try again"));
    let on_disk = sources.read(caller, move |_| Ok(Growing::open(&place, &wanted, follow))).await?;
    let (file, body) = match on_disk {
        // A piece at a time, at the pace of whoever reads.
        Some(recording) => {
            let reading = Arc::clone(&sources.reading).try_acquire_owned().map_err(|_| too_many("read or followed"))?;
            let following = Following::begin(recording, caller.expires, drain);
            (following.file().to_owned(), Body::stream(following).holding(reading))
        }
        // What lies in the object store alone is fetched whole: few are at a time, until they are sent.
        None => {
            let fetching = Arc::clone(&sources.fetching).try_acquire_owned().map_err(|_| too_many("fetched from the object store"))?;
            let file = name.clone();
            let bytes = sources.read(caller, move |library| Ok(library.shelf().open(&id, &name)?.into_bytes())).await?;
            (file, Body::full(bytes).holding(fetching))
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    // One that is not finished is called so.
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{file}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn timeline(library: &Library, id: &str, all: bool) -> anyhow::Result<Timeline> {
    let (mut entries, mut unread, mut is_cut) = (Vec::new(), Vec::new(), false);
    library.each(id, &mut |error| unread.push(format!("{error:#}")), |recorded| {
        if entries.len() <= MOST_ENTRIES {
            entries.append(&mut recorded.entries());
        } else {
            is_cut = true;
        }
    })?;
    entries.sort_by_key(Entry::micros);
    is_cut |= entries.len() > MOST_ENTRIES;
    entries.truncate(MOST_ENTRIES);
    let about = |mut facts: Value| {
        if let Some(facts) = facts.as_object_mut().filter(|_| !all) {
            facts.retain(|name, _| !OF_AUDITORS.contains(&name.as_str()));
        }
        facts
    };
    let done = |entry| match entry {
        Entry::Call { micros, event } => Done { micros, stream: None, ended: None, about: about(event) },
        Entry::Stream { micros, name, header, ended } => Done { micros, stream: Some(name), ended: Some(ended), about: about(header) },
    };
    Ok(Timeline { items: entries.into_iter().map(done).collect(), is_cut, unread })
}

/// Which sessions somebody sees: their own, or all; of one cluster, or of all.
struct Sees {
    caller: Arc<Caller>,
    all: bool,
    cluster: Option<String>,
}

impl Sees {
    fn new(sources: &Sources, Asking { caller, cluster }: Asking<'_>) -> Self {
        Self { caller: Arc::clone(caller), all: sources.is_auditor(caller), cluster: cluster.map(str::to_owned) }
    }

    fn sees(&self, row: &SessionRow) -> bool {
        let is_own = row.username == self.caller.username && row.issuer == self.caller.issuer;
        (self.all || is_own) && self.cluster.as_ref().is_none_or(|cluster| *cluster == row.cluster)
    }
}

impl Sources {
    /// A session that somebody may see; one that they may not is none to them.
    async fn session(&self, asking: Asking<'_>, id: &str) -> Result<SessionRow, Refusal> {
        let (sees, wanted) = (Sees::new(self, asking), id.to_owned());
        let row = self.read(asking.caller, move |library| library.session(&wanted)).await?;
        row.filter(|row| sees.sees(row))
            .ok_or_else(|| Refusal::not_found("there is no such session that you may see; `postern session list` shows those"))
    }

    /// Reads recordings off the thread that serves. Few at a time do, and of them few for one caller: nobody's long search holds up everybody.
    async fn read<T: Send + 'static>(
        &self,
        caller: &Caller,
        read: impl FnOnce(&Library) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let own = self.readers_of.take(&[&caller.issuer, &caller.username], READ_FOR_ONE);
        let own =
            own.map_err(|_| Refusal::too_many_requests("your other requests read recordings still; wait for them, then try again"))?;
        let library = Arc::clone(&self.library);
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| Refusal::internal("the gateway is being stopped"))?;
        let done = tokio::task::spawn_blocking(move || {
            // Given back when it is done, whether anybody waits for it still or not.
            let _held = (permit, own);
            read(&library)
        });
        let unreadable = |error: anyhow::Error| {
            tracing::error!(error = format!("{error:#}"), "recordings cannot be read");
            Refusal::unavailable("the gateway's recordings cannot be read; its log says why")
        };
        done.await.map_err(|_| Refusal::internal("the recordings were not read to the end"))?.map_err(unreadable)
    }
}
