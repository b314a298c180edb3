//! Recordings: which sessions there are, what was done in them, and their files.

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::recording_body::{OpenRecording, RecordingBody};
use super::routes::RouteRequest;
use super::{Asking, Sources, json as answered, json_text};
use crate::body::Body;
use crate::digest::sha256;
use crate::drain::Drain;
use crate::identify::Caller;
use crate::record::session::index::SessionRow;
use crate::record::session::library::{Library, place_after};
use crate::record::session::read::TimelineItem;
use crate::record::session::recent::RecentBody;
use crate::record::session::search::{Filter, Hit};
use crate::status::Refusal;

/// The most of a page.
const PAGE: usize = 500;
/// Bytes of bodies on a page.
const PAGE_OF_BODIES: usize = 8 << 20;
/// The longest text that is looked for, in bytes.
const LONGEST_TEXT: usize = 1024;
/// Things that are told of a timeline.
const MOST_ENTRIES: usize = 20_000;
/// Recordings that are read for one caller at a time.
const READS_PER_CALLER: usize = 2;
/// Fields of an audit event that only auditors are told: what policies did and would have done, and the hash chain of the log.
const AUDITOR_ONLY_FIELDS: [&str; 6] = ["policies", "observed", "hidden", "prev", "hash", "seq"];

/// A request about sessions and their recordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRequest {
    /// A page of the sessions that fit a filter.
    List {
        /// Which.
        filter: Box<Filter>,
        /// The most that are answered.
        limit: usize,
        /// Where the page before ended, in its own words.
        after: Option<String>,
    },
    /// The session with this id.
    Get(String),
    /// What was done in the session with this id.
    Timeline(String),
    /// Where a text is in a session.
    Search {
        /// The session's id.
        session: String,
        /// What is looked for.
        text: String,
    },
    /// A recording of a session.
    Recording {
        /// The session's id.
        session: String,
        /// The recording's name.
        name: String,
        /// Whether it is sent for as long as it is written, or as far as it goes.
        follow: bool,
    },
    /// A page of the latest bodies of a session's requests that the gateway has in memory.
    RecentBodies {
        /// The session's id.
        session: String,
        /// The number of the last of the page before.
        after: Option<u64>,
    },
    /// The public key that recordings are signed with.
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
    /// Why recordings could not be read, a message for each: what is in them is not in the answer.
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
    /// The matches, sorted by time.
    pub items: Vec<Hit>,
    /// Whether there is more than is told.
    pub is_cut: bool,
    /// Why recordings could not be read, a message for each: what is in them is not in the answer.
    pub unread: Vec<String>,
}

/// The latest bodies of a session's requests that are in memory.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct Bodies {
    /// Bodies, the oldest first.
    pub items: Vec<CallBody>,
    /// What the next page is asked for with, when there is more.
    #[serde(rename = "continue")]
    pub go_on: Option<String>,
}

/// The body of a request, after masking.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct CallBody {
    /// The id of the audit events of its request.
    pub id: String,
    /// The body.
    pub body: Value,
}

/// What recordings are signed with.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The Ed25519 public key in base64, as `session.pub` in the gateway's data directory has it.
    pub public_key: String,
}

impl SessionRequest {
    /// What the audit log keeps of a request that reads inside recordings; none for one that does not. A text that is looked for may be a secret: its SHA-256 is kept.
    pub fn audited_query(&self) -> Option<Value> {
        let digest = |text: &str| sha256(text.as_bytes());
        match self {
            Self::List { filter, .. } if filter.looks_inside() => {
                // A request is about one cluster: which, its event says.
                let Filter { user, cluster: _, since, until, namespace, verb, resource, pod, verdict, text } = &**filter;
                Some(
                    json!({"user": user, "since": since, "until": until, "namespace": namespace, "verb": verb, "resource": resource, "pod": pod,
                    "verdict": verdict, "textSha256": text.as_deref().map(digest)}),
                )
            }
            Self::RecentBodies { session, .. } => Some(json!({"session": session, "bodies": "recent"})),
            Self::Timeline(id) => Some(json!({"session": id})),
            Self::Search { session, text } => Some(json!({"session": session, "textSha256": digest(text)})),
            Self::Recording { session, name, follow } => Some(json!({"session": session, "recording": name, "follow": follow})),
            Self::List { .. } | Self::Get(_) | Self::Key => None,
        }
    }
}

/// The most items that are asked for on a page: 1 to 500, and 500 where nothing or 0 is said.
pub(super) fn limit(given: &RouteRequest<'_>) -> Result<usize, Refusal> {
    let asked = given.number("limit")?.filter(|limit| *limit > 0);
    Ok(asked.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE).min(PAGE))
}

/// The filter that the parameters of a query make.
pub(super) fn filter(given: &RouteRequest<'_>) -> Result<Filter, Refusal> {
    Ok(Filter {
        user: given.text("user"),
        cluster: None,
        since: given.number("since")?.map(|second| second.min(i64::MAX as u64)),
        until: given.number("until")?.map(|second| second.min(i64::MAX as u64)),
        namespace: given.text("namespace"),
        verb: given.text("verb"),
        resource: given.text("resource"),
        pod: given.text("pod"),
        verdict: given.text("verdict"),
        text: given.text("text").map(checked_search_text).transpose()?,
    })
}

fn checked_search_text(text: String) -> Result<String, Refusal> {
    match text.len() <= LONGEST_TEXT {
        true => Ok(text),
        false => Err(Refusal::bad_request(format!("a text of at most {LONGEST_TEXT} bytes is looked for"))),
    }
}

/// Answers a request about sessions; one that the caller may not see is not found.
pub async fn answer(sources: &Sources, asking: Asking<'_>, asked: &SessionRequest, drain: &Drain) -> Result<Response<Body>, Refusal> {
    let caller = asking.caller;
    match asked.clone() {
        SessionRequest::Key => answered(&Key { public_key: sources.session_key.clone() }),
        SessionRequest::List { filter, limit, after } => {
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
        SessionRequest::Get(id) => {
            let session = sources.session(asking, &id).await?;
            let recordings = sources.read(caller, move |library| Ok(library.shelf().names(&id)?.into_iter().collect())).await?;
            answered(&Detail { session, recordings })
        }
        SessionRequest::Timeline(id) => {
            sources.session(asking, &id).await?;
            let all = sources.is_auditor(caller);
            Ok(json_text(sources.read(caller, move |library| Ok(serde_json::to_string(&timeline(library, &id, all)?)?)).await?))
        }
        SessionRequest::Search { session: id, text } => {
            sources.only_auditors(caller)?;
            let text = checked_search_text(text)?;
            sources.session(asking, &id).await?;
            let found = sources.read(caller, move |library| {
                let mut unread = Vec::new();
                let (items, is_cut) = library.hits(&id, &text, |error| unread.push(format!("{error:#}")))?;
                Ok(serde_json::to_string(&Found { items, is_cut, unread })?)
            });
            Ok(json_text(found.await?))
        }
        SessionRequest::RecentBodies { session: id, after } => {
            sources.only_auditors(caller)?;
            sources.session(asking, &id).await?;
            let recent = Arc::clone(&sources.recent_bodies);
            let reading = Arc::clone(&sources.reading).try_acquire_owned();
            let reading = reading.map_err(|_| Refusal::too_many_requests("as many recordings are read as may be; try again"))?;
            let told = sources.read(caller, move |_| {
                let page = recent.page(&id, after, PAGE_OF_BODIES);
                let go_on = page.go_on.map(|last| last.to_string());
                // As it is kept, which is JSON: built of it, a page would take many times its room.
                let item = |kept: RecentBody| format!("{{\"id\":{},\"body\":{}}}", Value::from(kept.id), kept.body);
                let items: Vec<String> = page.bodies.into_iter().map(item).collect();
                Ok(format!("{{\"items\":[{}],\"continue\":{}}}", items.join(","), json!(go_on)))
            });
            // Until it is sent it is in memory, as a recording is.
            Ok(json_text(told.await?).map(|body| body.holding(reading)))
        }
        SessionRequest::Recording { session: id, name, follow } => {
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
    let on_disk = sources.read(caller, move |_| Ok(OpenRecording::open(&place, &wanted, follow))).await?;
    let (file, body) = match on_disk {
        // A piece at a time, at the pace of whoever reads.
        Some(recording) => {
            let reading = Arc::clone(&sources.reading).try_acquire_owned().map_err(|_| too_many("read or followed"))?;
            let following = RecordingBody::begin(recording, caller.expires, drain);
            (following.file_name().to_owned(), Body::stream(following).holding(reading))
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
    entries.sort_by_key(TimelineItem::micros);
    is_cut |= entries.len() > MOST_ENTRIES;
    entries.truncate(MOST_ENTRIES);
    let about = |mut facts: Value| {
        if let Some(facts) = facts.as_object_mut().filter(|_| !all) {
            facts.retain(|name, _| !AUDITOR_ONLY_FIELDS.contains(&name.as_str()));
        }
        facts
    };
    let done = |entry| match entry {
        TimelineItem::Call { micros, event } => Done { micros, stream: None, ended: None, about: about(event) },
        TimelineItem::Stream { micros, name, header, ended } => {
            Done { micros, stream: Some(name), ended: Some(ended), about: about(header) }
        }
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
        let own = self.readers_of.take(&[&caller.issuer, &caller.username], READS_PER_CALLER);
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
