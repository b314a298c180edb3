//! What time it is, and how it is written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

/// Seconds since the beginning of 1970.
pub fn now() -> u64 {
    since_1970().as_secs()
}

/// The time since the beginning of 1970.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The processor's time that this thread has used. What work may take is counted in it: on a machine with much to do, work that waits for a processor takes no more of it.
pub fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// How long it is until a second since the beginning of 1970; at most a year: no stream lasts longer, whatever its credential says.
pub fn time_left(end: u64) -> Duration {
    Duration::from_secs(end.saturating_sub(now()).min(365 * 86_400))
}

/// The present time as RFC 3339 has it, in milliseconds and UTC.
pub fn timestamp() -> String {
    timestamp_of(since_1970())
}

/// A time since the beginning of 1970 as RFC 3339 has it, in milliseconds and UTC. What lies behind the year 9999, for which there is no such form, is its end.
pub fn timestamp_of(time: Duration) -> String {
    const LAST: i64 = 253_402_300_799;
    let seconds = i64::try_from(time.as_secs()).unwrap_or(LAST).min(LAST);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", u8::from(month), time.subsec_millis())
}

#[cfg(test)]
mod tests;
