//! Recordings: which sessions there are, what was done in them, and their files.

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::live::Following;
use super::routes::Given;
use super::{Asking, Sources, json};
use crate::body::Body;
use crate::drain::Drain;
use crate::identify::Caller;
use crate::record::session::file::PART;
use crate::record::session::index::SessionRow;
use crate::record::session::library::Library;
use crate::record::session::read::Entry;
use crate::record::session::search::{Filter, Hit};
use crate::status::Refusal;

/// The most of a page.
const PAGE: usize = 500;
/// The longest text that is looked for, in bytes.
const LONGEST_TEXT: usize = 1024;
/// Things that are told of a timeline.
const MOST_ENTRIES: usize = 100_000;

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
pub(super) struct Timeline {
    /// Things in their order.
    items: Vec<Done>,
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
pub struct Found {
    /// The first first.
    pub items: Vec<Hit>,
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

/// The most of a page that is asked for.
pub(super) fn limit(given: &Given<'_>) -> Result<usize, Refusal> {
    let asked = given.number("limit")?.filter(|limit| *limit > 0);
    Ok(asked.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE).min(PAGE))
}

/// The sessions that are asked for.
pub(super) fn filter(given: &Given<'_>) -> Result<Filter, Refusal> {
    Ok(Filter {
        user: given.text("user"),
        since: given.number("since")?,
        until: given.number("until")?,
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
    match asked.clone() {
        Asked::Key => json(&Key { public_key: sources.session_key.clone() }),
        Asked::List(filter, limit, after) => {
            let (sees, mut unread) = (Sees::new(sources, asking), Vec::new());
            let listed = sources.read(move |library| {
                let page =
                    library.sessions(&filter, |row| sees.sees(row), limit, after.as_deref(), |error| unread.push(format!("{error:#}")))?;
                Ok(Listed { items: page.items, go_on: page.go_on, unread })
            });
            json(&listed.await?)
        }
        Asked::Get(id) => {
            let session = sources.session(asking, &id).await?;
            let recordings = sources.read(move |library| Ok(library.shelf().names(&id)?.into_iter().collect())).await?;
            json(&Detail { session, recordings })
        }
        Asked::Timeline(id) => {
            sources.session(asking, &id).await?;
            json(&sources.read(move |library| timeline(library, &id)).await?)
        }
        Asked::Search(id, text) => {
            let text = within(text)?;
            sources.session(asking, &id).await?;
            let found = sources.read(move |library| {
                let mut unread = Vec::new();
                let items = library.hits(&id, &text, |error| unread.push(format!("{error:#}")))?;
                Ok(Found { items, unread })
            });
            json(&found.await?)
        }
        Asked::Recording(id, name, follow) => {
            sources.session(asking, &id).await?;
            let (of, wanted) = (id.clone(), name.clone());
            let names = sources.read(move |library| library.shelf().names(&of)).await?;
            if !names.contains(&wanted) {
                return Err(Refusal::not_found("the session has no such recording; GET /postern/v1/sessions/ID names them"));
            }
            let place = sources.library.directory().join(&id);
            let unfinished = format!("{name}.{PART}");
            let (file, body) = if follow && place.join(&unfinished).exists() {
                (unfinished, Body::stream(Following::begin(place, &name, asking.caller.expires, drain)))
            } else {
                let recorded = sources.read(move |library| library.shelf().open(&id, &name)).await?;
                let file = recorded.file.rsplit('/').next().unwrap_or_default().to_owned();
                (file, Body::full(recorded.bytes().to_vec()))
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
    }
}

fn timeline(library: &Library, id: &str) -> anyhow::Result<Timeline> {
    let (mut entries, mut unread) = (Vec::new(), Vec::new());
    library.each(id, &mut |error| unread.push(format!("{error:#}")), |recorded| entries.append(&mut recorded.entries()))?;
    entries.sort_by_key(Entry::micros);
    entries.truncate(MOST_ENTRIES);
    let done = |entry| match entry {
        Entry::Call { micros, event } => Done { micros, stream: None, ended: None, about: event },
        Entry::Stream { micros, name, header, ended } => Done { micros, stream: Some(name), ended: Some(ended), about: header },
    };
    Ok(Timeline { items: entries.into_iter().map(done).collect(), unread })
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
        // What was done when the gateway had one cluster, or in the only one, does not name it.
        let is_there =
            self.cluster.as_ref().is_none_or(|cluster| *cluster == row.cluster || row.cluster.is_empty() && self.caller.cluster.is_empty());
        (self.all || is_own) && is_there
    }
}

impl Sources {
    /// A session that somebody may see; one that they may not is none to them.
    async fn session(&self, asking: Asking<'_>, id: &str) -> Result<SessionRow, Refusal> {
        let (sees, wanted) = (Sees::new(self, asking), id.to_owned());
        let row = self.read(move |library| library.session(&wanted)).await?;
        row.filter(|row| sees.sees(row))
            .ok_or_else(|| Refusal::not_found("there is no such session that you may see; `postern session list` shows those"))
    }

    /// Reads recordings off the thread that serves; few at a time do.
    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Library) -> anyhow::Result<T> + Send + 'static) -> Result<T, Refusal> {
        let library = Arc::clone(&self.library);
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| Refusal::internal("the gateway is being stopped"))?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&library)
        });
        let unreadable = |error: anyhow::Error| {
            tracing::error!(error = format!("{error:#}"), "recordings cannot be read");
            Refusal::unavailable("the gateway's recordings cannot be read; its log says why")
        };
        done.await.map_err(|_| Refusal::internal("the recordings were not read to the end"))?.map_err(unreadable)
    }
}
