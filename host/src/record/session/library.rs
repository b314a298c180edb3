//! Recordings as they are read: the index of sessions, and the shelf their files lie on. What is done here waits for the disk, and for the object store.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::index::{SessionIndex, SessionRow};
use super::read::Recorded;
use super::search::{Filter, Hit, hits};
use super::shelf::Shelf;
use crate::store::wait;

/// Sessions of which the recordings are read for one page.
const MOST_READ: usize = 1000;
/// Hits that are told of one session.
const MOST_HITS: usize = 10_000;
/// How long recordings are read for one page; what is left is another's.
const LONGEST: Duration = Duration::from_secs(20);

/// The recordings of a gateway, and which sessions there are.
pub struct Library {
    index: Box<dyn SessionIndex>,
    shelf: Shelf,
}

/// Sessions, the latest first.
#[derive(Debug, Default)]
pub struct Page {
    /// The sessions.
    pub items: Vec<SessionRow>,
    /// What the next page is asked for with, when there may be more.
    pub go_on: Option<String>,
}

impl Library {
    /// Reads an index and a shelf.
    pub fn new(index: impl SessionIndex + 'static, shelf: Shelf) -> Self {
        Self { index: Box::new(index), shelf }
    }

    /// The shelf.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// The sessions that a filter lets through and somebody may see: at most `limit`, from where a page ended. A recording that cannot be read is told to `unread`.
    pub fn sessions(
        &self,
        filter: &Filter,
        may_see: impl Fn(&SessionRow) -> bool,
        limit: usize,
        after: Option<&str>,
        mut unread: impl FnMut(anyhow::Error),
    ) -> anyhow::Result<Page> {
        let (since, until) = filter.times();
        let mut rows = wait(self.index.list(since, until))?;
        rows.sort_by(|one, other| place_of(other).cmp(&place_of(one)));
        let after =
            after.map(|after| place_after(after).context("continue is no place in a list; give what the page before said")).transpose()?;
        let is_after = |row: &SessionRow| after.as_ref().is_none_or(|(last, id)| place_of(row) < (*last, id.as_str()));
        let fits = |row: &SessionRow| {
            filter.user.as_ref().is_none_or(|user| row.username.contains(user.as_str()))
                && filter.cluster.as_ref().is_none_or(|cluster| row.cluster == *cluster)
        };
        rows.retain(|row| fits(row) && may_see(row) && is_after(row));
        let (mut page, mut read, began) = (Page::default(), 0, Instant::now());
        let mut last: Option<(u64, String)> = None;
        for row in rows {
            let is_enough = page.items.len() >= limit || read >= MOST_READ || read > 0 && began.elapsed() > LONGEST;
            if is_enough {
                page.go_on = last.map(|(last, id)| format!("{last}.{id}"));
                return Ok(page);
            }
            last = Some((row.last, row.id.clone()));
            if !filter.looks_inside() {
                page.items.push(row);
                continue;
            }
            read += 1;
            let (mut fits, mut says) = (false, filter.text.is_none());
            self.each(&row.id, &mut unread, |recorded| {
                fits = fits || recorded.entries().iter().any(|entry| filter.fits(entry));
                says = says || filter.text.as_ref().is_some_and(|text| !hits(&recorded, text, 1).is_empty());
            })?;
            if fits && says {
                page.items.push(row);
            }
        }
        Ok(page)
    }

    /// A session by its id.
    pub fn session(&self, id: &str) -> anyhow::Result<Option<SessionRow>> {
        wait(self.index.get(id))
    }

    /// Where a text is in a session, the first first; and whether there is more.
    pub fn hits(&self, session: &str, text: &str, mut unread: impl FnMut(anyhow::Error)) -> anyhow::Result<(Vec<Hit>, bool)> {
        let mut found = Vec::new();
        self.each(session, &mut unread, |recorded| found.extend(hits(&recorded, text, (MOST_HITS + 1).saturating_sub(found.len()))))?;
        let is_cut = found.len() > MOST_HITS;
        found.truncate(MOST_HITS);
        found.sort();
        Ok((found, is_cut))
    }

    /// Looks at each recording of a session, and says how many there are.
    pub fn each(&self, session: &str, unread: &mut impl FnMut(anyhow::Error), mut look: impl FnMut(Recorded)) -> anyhow::Result<usize> {
        let names = self.shelf.names(session)?;
        for name in &names {
            match self.shelf.open(session, name) {
                Ok(recorded) => look(recorded),
                Err(error) => unread(error),
            }
        }
        Ok(names.len())
    }

    /// The directory of recordings.
    pub fn directory(&self) -> &Path {
        self.shelf.directory()
    }
}

/// Where a session stands: by when something happened last, and by its id.
fn place_of(row: &SessionRow) -> (u64, &str) {
    (row.last, row.id.as_str())
}

/// Where a page ended, by what it said; none where that is no place.
pub fn place_after(text: &str) -> Option<(u64, String)> {
    let (last, id) = text.split_once('.').filter(|(_, id)| !id.is_empty())?;
    Some((last.parse().ok()?, id.to_owned()))
}
