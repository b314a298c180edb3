//! Where recordings are read: in a gateway's data directory and object store, or by its own API.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;

use super::super::place::{Place, of_environment};
use crate::api::{Bodies, CallBody, Detail, Found, Key, Listed};
use crate::cli::remote::{self, Remote};
use crate::cli::terminal::visible;
use crate::config::Config;
use crate::record::session::index::{SessionIndex, SessionRow, SqliteIndex, Touched};
use crate::record::session::library::Library;
use crate::record::session::read::Recorded;
use crate::record::session::seal;
use crate::record::session::search::{Filter, Hit};
use crate::record::session::shelf::Shelf;
use crate::store::{Objects, Rows};

/// Where recordings are.
pub(crate) enum RecordingSource {
    /// On this machine.
    Here {
        /// The recordings.
        library: Library,
        /// The gateway's data directory.
        data: PathBuf,
        /// Its audit log.
        log: PathBuf,
    },
    /// At a gateway.
    There(Remote),
}

impl RecordingSource {
    /// Where the command line says: a kubeconfig before a data directory, that before a configuration; and where it says nothing the gateway of `KUBECONFIG`.
    pub(in crate::cli) fn of(place: &Place, kubeconfig: Option<PathBuf>) -> anyhow::Result<Self> {
        match (kubeconfig, &place.data_directory) {
            (Some(kubeconfig), _) => Self::open(None, None, Some(kubeconfig)),
            (None, Some(data)) => Self::open(None, Some(data.clone()), None),
            // POSTERN_CONFIG is of Postern, and KUBECONFIG of kubectl.
            (None, None) if place.config.is_none() && of_environment().is_none() && remote::kubeconfig().is_some() => {
                Self::open(None, None, None)
            }
            (None, None) => Self::open(place.config().as_deref(), None, None),
        }
    }

    /// Where a configuration, or a data directory alone, has recordings; or the gateway of a kubeconfig.
    pub(crate) fn open(config: Option<&Path>, data: Option<PathBuf>, kubeconfig: Option<PathBuf>) -> anyhow::Result<Self> {
        let library = |data: &Path, directory: PathBuf, objects| -> anyhow::Result<Library> {
            let (database, shelf) = (data.join("postern.db"), Shelf::new(directory, objects)?);
            // Recordings that were copied elsewhere without it can be shown all the same.
            Ok(match database.exists() {
                true => Library::new(SqliteIndex::beside(&database)?, shelf),
                false => Library::new(Missing(database), shelf),
            })
        };
        Ok(match (config, data, kubeconfig.or_else(remote::kubeconfig)) {
            (Some(file), _, _) => {
                let config = Config::load(file)?;
                let objects = config.sessions.object_store.as_ref().map(Objects::open).transpose()?;
                let library = library(&config.data_directory, config.sessions_directory(), objects)?;
                Self::Here { library, log: config.audit_file(), data: config.data_directory }
            }
            (None, Some(data), _) => {
                Self::Here { library: library(&data, data.join("sessions"), None)?, log: data.join("audit.jsonl"), data }
            }
            (None, None, Some(kubeconfig)) => Self::There(Remote::open(Some(kubeconfig))?),
            (None, None, None) => {
                bail!("say where the recordings are: --kubeconfig FILE of a gateway, --config FILE or --data-directory DIRECTORY")
            }
        })
    }

    /// The sessions of which something happened at or after a time.
    #[cfg(feature = "authoring")]
    pub(crate) fn since(&self, second: u64) -> anyhow::Result<Vec<String>> {
        Ok(self.sessions(&Filter { since: Some(second), ..Filter::default() })?.into_iter().map(|row| row.id).collect())
    }

    /// The sessions that a filter lets through, the latest first.
    pub(crate) fn sessions(&self, filter: &Filter) -> anyhow::Result<Vec<SessionRow>> {
        let (mut rows, mut after) = (Vec::new(), None::<String>);
        loop {
            let (mut items, go_on) = match self {
                Self::Here { library, .. } => {
                    let page = library.sessions(filter, |_| true, usize::MAX, after.as_deref(), |error| unread(&format!("{error:#}")))?;
                    (page.items, page.go_on)
                }
                Self::There(remote) => {
                    let [since, until] = [filter.since, filter.until].map(|time| time.map(|time| time.to_string()));
                    let parameters = [
                        ("user", &filter.user),
                        ("since", &since),
                        ("until", &until),
                        ("namespace", &filter.namespace),
                        ("verb", &filter.verb),
                        ("resource", &filter.resource),
                        ("pod", &filter.pod),
                        ("verdict", &filter.verdict),
                        ("text", &filter.text),
                        ("continue", &after),
                    ];
                    let query: Vec<_> = parameters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
                    let listed: Listed = remote.get("/postern/v1/sessions", &query)?;
                    listed.unread.iter().for_each(|why| unread(why));
                    let is_there = |row: &SessionRow| filter.cluster.as_ref().is_none_or(|cluster| row.cluster == *cluster);
                    (listed.items.into_iter().filter(is_there).collect(), listed.go_on)
                }
            };
            rows.append(&mut items);
            match go_on {
                Some(place) => after = Some(place),
                None => return Ok(rows),
            }
        }
    }

    /// A session, by the beginning of its id.
    pub(crate) fn session(&self, begin: &str) -> anyhow::Result<String> {
        const WHOLE: usize = 16;
        if begin.len() >= WHOLE || begin.is_empty() {
            return Ok(begin.to_owned());
        }
        let begin = begin.to_lowercase();
        let found: Vec<String> =
            self.sessions(&Filter::default())?.into_iter().map(|row| row.id).filter(|id| id.starts_with(&begin)).collect();
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => bail!("there is no session that begins with {begin:?}; `session list` shows them"),
            several => bail!("{} sessions begin with {begin:?}: {}", several.len(), several.join(", ")),
        }
    }

    /// The names of a session's recordings.
    pub(crate) fn names(&self, session: &str) -> anyhow::Result<BTreeSet<String>> {
        match self {
            Self::Here { library, .. } => library.shelf().names(session),
            Self::There(remote) => {
                let detail: Detail = remote.get(&format!("/postern/v1/sessions/{}", word(session)?), &[])?;
                Ok(detail.recordings.into_iter().collect())
            }
        }
    }

    /// Opens a recording.
    pub(crate) fn recording(&self, session: &str, name: &str) -> anyhow::Result<Recorded> {
        match self {
            Self::Here { library, .. } => library.shelf().open(session, name),
            Self::There(remote) => {
                let (file, bytes) = remote.file(&format!("/postern/v1/sessions/{}/recordings/{}", word(session)?, word(name)?))?;
                Recorded::new(&format!("{session}/{file}"), bytes)
            }
        }
    }

    /// A stream, by `SESSION/STREAM`.
    pub(crate) fn stream(&self, recording: &str) -> anyhow::Result<Recorded> {
        let (session, name) = recording.split_once('/').context("name a stream as SESSION/STREAM; `session show` prints them")?;
        let file = format!("{name}.stream");
        if !self.names(session)?.contains(&file) {
            bail!("there is no stream {name} in session {session}; `session show {session}` prints them");
        }
        self.recording(session, &file)
    }

    /// Looks at each recording of a session; of one that cannot be read the user is told. Says how many there are.
    pub(crate) fn each(&self, session: &str, mut look: impl FnMut(Recorded)) -> anyhow::Result<usize> {
        let names = self.names(session)?;
        for name in &names {
            match self.recording(session, name) {
                Ok(recorded) => look(recorded),
                Err(error) => unread(&format!("{error:#}")),
            }
        }
        Ok(names.len())
    }

    /// The latest bodies of a session's requests that a gateway has in memory: what only a gateway can tell.
    pub(crate) fn recent_bodies(&self, session: &str) -> anyhow::Result<Vec<CallBody>> {
        match self {
            Self::Here { .. } => Ok(Vec::new()),
            Self::There(remote) => {
                let path = format!("/postern/v1/sessions/{}/bodies", word(session)?);
                let (mut all, mut after) = (Vec::new(), None::<String>);
                loop {
                    let query: Vec<_> = after.as_deref().map(|after| ("continue", after)).into_iter().collect();
                    let Bodies { mut items, go_on } = remote.get(&path, &query)?;
                    all.append(&mut items);
                    match go_on {
                        Some(last) if after.as_ref() != Some(&last) => after = Some(last),
                        _ => return Ok(all),
                    }
                }
            }
        }
    }

    /// Where a text is in a session.
    pub(crate) fn hits(&self, session: &str, text: &str) -> anyhow::Result<Vec<Hit>> {
        match self {
            Self::Here { library, .. } => {
                let (hits, is_cut) = library.hits(session, text, |error| unread(&format!("{error:#}")))?;
                tell_of_cut(session, is_cut);
                Ok(hits)
            }
            Self::There(remote) => {
                let found: Found = remote.get(&format!("/postern/v1/sessions/{}/search", word(session)?), &[("text", text)])?;
                found.unread.iter().for_each(|why| unread(why));
                tell_of_cut(session, found.is_cut);
                Ok(found.items)
            }
        }
    }

    /// The audit log that knows of recordings, where it is on this machine.
    pub(crate) fn log(&self) -> Option<&Path> {
        match self {
            Self::Here { log, .. } => Some(log).filter(|log| log.exists()).map(PathBuf::as_path),
            Self::There(_) => None,
        }
    }

    /// The public key that recordings are signed with.
    pub(crate) fn key(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Here { data, .. } => seal::public_key(&data.join("session.pub")),
            Self::There(remote) => {
                let key: Key = remote.get("/postern/v1/keys/sessions", &[])?;
                base64::engine::general_purpose::STANDARD.decode(key.public_key.trim()).context("the gateway's public key is none")
            }
        }
    }
}

/// An index that is not there.
struct Missing(PathBuf);

impl Missing {
    fn told<T>(&self) -> anyhow::Result<T> {
        bail!("cannot read the database {}: it is not there", self.0.display())
    }
}

impl SessionIndex for Missing {
    fn touch(&self, _: Vec<Touched>) -> Rows<'_, ()> {
        Box::pin(async { self.told() })
    }

    fn get(&self, _: &str) -> Rows<'_, Option<SessionRow>> {
        Box::pin(async { self.told() })
    }

    fn list(&self, _: u64, _: u64) -> Rows<'_, Vec<SessionRow>> {
        Box::pin(async { self.told() })
    }
}

/// A part of a path that is one.
fn word(text: &str) -> anyhow::Result<&str> {
    match !text.is_empty() && !text.starts_with('.') && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')) {
        true => Ok(text),
        false => bail!("{text:?} is no session or recording; `session list` and `session show` print them"),
    }
}

fn tell_of_cut(session: &str, is_cut: bool) {
    if is_cut {
        unread(&format!("session {session}: there is more than is shown; look for a longer text"));
    }
}

fn unread(why: &str) {
    eprintln!("{}", visible(why));
}
