//! Where recordings are found: on the gateway's disk and, if there is one, in the object store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::runtime::Runtime;

use super::file::{PART, is_finished};
use super::read::Recorded;
use crate::store::Objects;

/// The recordings of a gateway.
pub struct Shelf {
    directory: PathBuf,
    objects: Option<(Objects, Own)>,
}

/// What asks the store. It may be let go of by a task of another runtime, and then nobody waits for it.
struct Own(Option<Runtime>);

impl Own {
    fn run<T>(&self, asked: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.0.as_ref().context("the object store is not asked any more")?.block_on(asked)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shelf {
    /// Those in a directory, and in an object store.
    pub fn new(directory: PathBuf, objects: Option<Objects>) -> anyhow::Result<Self> {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let objects = objects.map(|objects| anyhow::Ok((objects, Own(Some(runtime()?))))).transpose()?;
        Ok(Self { directory, objects })
    }

    /// The directory of those that are on the disk.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The recordings of a session, by the names they have, or will have, when they are finished.
    pub fn names(&self, session: &str) -> anyhow::Result<BTreeSet<String>> {
        anyhow::ensure!(
            session.len() == 16 && session.bytes().all(|b| b.is_ascii_hexdigit()),
            "{session:?} is no session; `session list` shows them"
        );
        let here = std::fs::read_dir(self.directory.join(session)).into_iter().flatten().flatten();
        let mut names: BTreeSet<String> = here.filter_map(|entry| finished_name(entry.file_name().to_str()?)).collect();
        if let Some((objects, runtime)) = &self.objects {
            let stored = runtime.run(objects.list(session)).context("the object store (sessions.objectStore) does not answer")?;
            names.extend(stored.iter().filter_map(|name| finished_name(name)));
        }
        Ok(names)
    }

    /// Opens a recording. It may be finished, or go to the store, while it is looked for.
    pub fn open(&self, session: &str, name: &str) -> anyhow::Result<Recorded> {
        let place = self.directory.join(session);
        // What is finished goes before what has its name, and once more: it may be finished meanwhile.
        for file in [name.to_owned(), format!("{name}.{PART}"), name.to_owned()] {
            match std::fs::read(place.join(&file)) {
                Ok(bytes) => return Recorded::new(&format!("{session}/{file}"), bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", place.join(&file).display())),
            }
        }
        let stored = match &self.objects {
            Some((objects, runtime)) => runtime.run(objects.get(session, name)).with_context(|| format!("{session}/{name}"))?,
            None => None,
        };
        Recorded::new(&format!("{session}/{name}"), stored.with_context(|| format!("{session}/{name} is gone"))?)
    }
}

/// The name of a recording's file when it is finished.
fn finished_name(file: &str) -> Option<String> {
    let name = file.strip_suffix(&format!(".{PART}")).unwrap_or(file);
    is_finished(name).then(|| name.to_owned())
}
