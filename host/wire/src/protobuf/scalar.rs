//! Values that JSON writes in a form of their own.

use std::fmt::Write;

use base64::Engine;
use serde_json::Value;
use time::OffsetDateTime;

use super::Undecodable;
use super::wire::{Field, Wire};

/// Text. Kubernetes takes bytes that are no UTF-8 and writes them otherwise; what would differ is not guessed.
pub(super) fn string(bytes: &[u8]) -> Result<String, Undecodable> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Undecodable::new("a text in it is no UTF-8"))
}

/// Bytes in base64.
pub(super) fn bytes(bytes: &[u8]) -> Value {
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

/// A number with a fraction, as Go writes it: whole ones without one.
pub(super) fn double(bits: u64) -> Result<Value, Undecodable> {
    let number = f64::from_bits(bits);
    // JSON knows no others.
    if !number.is_finite() {
        return Err(Undecodable::new("a number in it is infinite or none"));
    }
    Ok(if number.fract() == 0.0 && number.abs() < 9e15 { Value::from(number as i64) } else { Value::from(number) })
}

/// `metav1.Time` (RFC 3339, seconds) or, with `micro`, `metav1.MicroTime`; none when it is zero.
pub(super) fn time(message: &[u8], micro: bool) -> Result<Option<Value>, Undecodable> {
    if message.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut wire = Wire::new(message);
    while let Some(field) = wire.next()? {
        match field {
            (1, Field::Varint(value)) => seconds = value.cast_signed(),
            (2, Field::Varint(value)) => nanos = i64::from(value as i32),
            (number, _) => return Err(Undecodable::new(format!("a time has a field {number} that nobody knows"))),
        }
    }
    if !(0..1_000_000_000).contains(&nanos) {
        seconds = seconds.saturating_add(nanos.div_euclid(1_000_000_000));
        nanos = nanos.rem_euclid(1_000_000_000);
    }
    // Before 0001 and after 9999 Go does not write a time as RFC 3339 has it.
    if !(-62_135_596_800..=253_402_300_799).contains(&seconds) {
        return Err(Undecodable::new("a time in it is not between the years 1 and 9999"));
    }
    if seconds == -62_135_596_800 && (!micro || nanos / 1000 == 0) {
        return Ok(None);
    }
    let at = OffsetDateTime::from_unix_timestamp(seconds).map_err(|why| Undecodable::new(format!("a time in it is none: {why}")))?;
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let whole = format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month));
    Ok(Some(if micro { format!("{whole}.{:06}Z", nanos / 1000) } else { format!("{whole}Z") }.into()))
}

/// `metav1.Duration`, as Go's `time.Duration.String` has it.
pub(super) fn duration(nanos: i64) -> String {
    let (sign, total) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let fraction = |value: u64, digits: usize| {
        let unit = 10u64.pow(digits as u32);
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 6)),
        _ => {
            let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
            let mut text = String::new();
            if minutes >= 60 {
                let _ = write!(text, "{}h", minutes / 60);
            }
            if minutes > 0 {
                let _ = write!(text, "{}m", minutes % 60);
            }
            text + &fraction(rest, 9) + "s"
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1500, "1.5µs"),
            (-5_000_000, "-5ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn times_of_every_age() {
        let of = |seconds: i64| {
            let mut message = vec![0x08];
            let mut rest = seconds.cast_unsigned();
            while rest >= 0x80 {
                message.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            message.push(rest as u8);
            time(&message, false).unwrap().map(|v| v.as_str().unwrap().to_owned())
        };
        assert_eq!(of(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(of(-1).unwrap(), "1969-12-31T23:59:59Z");
        assert_eq!(of(-11_644_473_600).unwrap(), "1601-01-01T00:00:00Z");
        assert_eq!(of(-62_135_596_799).unwrap(), "0001-01-01T00:00:01Z");
        assert_eq!(of(-62_135_596_800), None);
        assert_eq!(of(253_402_300_799).unwrap(), "9999-12-31T23:59:59Z");
    }
}
