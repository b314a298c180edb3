//! Tickets as they are kept: whole steps, each done or not done, whoever else asks at the same moment.

mod sqlite;

use super::Ticket;
use crate::store::Rows;

pub use sqlite::SqliteTickets;

/// Where tickets are kept.
pub trait Tickets: Send + Sync {
    /// The ticket of the same intent that has not ended; where there is none this one, which is pending, is opened, unless `most_pending` of its requester
    /// are in its cluster: then none. Two who ask at the same moment find one ticket. What ended long ago is forgotten on the way.
    fn find_or_open(&self, ticket: Ticket, most_pending: u32) -> Rows<'_, Option<Ticket>>;

    /// A ticket by its id.
    fn get(&self, id: &str) -> Rows<'_, Option<Ticket>>;

    /// A page of the tickets somebody may see: those that are pending first, then the latest first.
    fn list(&self, of: Seen) -> Rows<'_, Page>;

    /// Puts a ticket in the place of what it was made from, and gives it as it is kept now; none when that was changed meanwhile, and then nothing is.
    fn replace(&self, ticket: Ticket) -> Rows<'_, Option<Ticket>>;
}

/// Which tickets are asked for.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Those that this requester opened,
    pub requester: String,
    /// and those that one of these groups may answer.
    pub groups: Vec<String>,
    /// Of one cluster only, where one is named.
    pub cluster: Option<String>,
    /// Unix seconds by which they are pending or have ended.
    pub now: u64,
    /// The most of a page.
    pub limit: u32,
    /// Where the page before ended.
    pub after: Option<String>,
}

/// A page of tickets.
#[derive(Debug)]
pub struct Page {
    /// The tickets.
    pub items: Vec<Ticket>,
    /// What the next page is asked for with, when there are more.
    pub go_on: Option<String>,
}

#[cfg(test)]
mod tests;
