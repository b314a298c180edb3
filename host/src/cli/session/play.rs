//! Plays a stream, or writes it in the form of another player.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use serde_json::{Value, json};

use super::super::table::printable;
use super::{RecordingSource, ShowForm, show};
use crate::cli::audit::operation_of;
use crate::record::session::format::Kind;
use crate::record::session::read::Recorded;
use crate::record::session::search::Filter;

pub(super) fn replay(place: &RecordingSource, recording: &str, speed: f64, idle_limit: Option<f64>) -> anyhow::Result<()> {
    if !(speed > 0.0 && speed.is_finite()) {
        bail!("--speed: must be greater than 0");
    }
    if !recording.contains('/') {
        return show(place, &place.session(recording)?, &Filter::default(), ShowForm::Text, false);
    }
    let recorded = place.stream(recording)?;
    let mut out = std::io::stdout().lock();
    let (mut before, mut frames) = (None, 0);
    for (kind, micros, payload) in recorded.frames() {
        if matches!(kind, Kind::Stdout | Kind::Stderr | Kind::Mark) {
            let pause = before.map_or(0.0, |before: u64| micros.saturating_sub(before) as f64 / 1e6 / speed);
            // Nobody waits longer than a day, whatever the file says.
            std::thread::sleep(Duration::from_secs_f64(pause.min(idle_limit.unwrap_or(f64::MAX).max(0.0)).min(86_400.0)));
            before = Some(micros);
        }
        let written = match kind {
            Kind::Stdout => out.write_all(payload),
            Kind::Stderr => std::io::stderr().write_all(payload),
            Kind::Mark => {
                let what = serde_json::from_slice::<Value>(payload).unwrap_or_default();
                writeln!(std::io::stderr(), "\r\n[{}]", printable(what["what"].as_str().unwrap_or("something is missing")))
            }
            _ => Ok(()),
        };
        if written.and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        frames += 1;
    }
    if recorded.is_unfinished() {
        eprintln!("\r\n[the recording has no end: its stream is open, or was cut short]");
    }
    if std::io::stdout().is_terminal() {
        eprintln!("\r\n[{}; {frames} frames]", printable(&recorded.ended()));
    }
    Ok(())
}

pub(super) fn export(place: &RecordingSource, recording: &str, format: &str, output: Option<PathBuf>) -> anyhow::Result<()> {
    let recorded = place.stream(recording)?;
    let text = if format == "json" { to_json(&recorded) } else { to_asciicast(&recorded) };
    match output {
        Some(file) => std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display())),
        None => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}

fn to_json(recorded: &Recorded) -> String {
    let mut text = format!("{}\n", recorded.header);
    for (kind, micros, payload) in recorded.frames() {
        let payload = match std::str::from_utf8(payload) {
            Ok(plain) => json!({"text": plain}),
            Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(payload)}),
        };
        let name = format!("{kind:?}").to_lowercase();
        if !matches!(kind, Kind::Header | Kind::Chain | Kind::Seal) {
            text += &format!("{}\n", json!({"kind": name, "microseconds": micros, "payload": payload}));
        }
    }
    text
}

/// asciicast v2 (docs.asciinema.org/manual/asciicast/v2): a header, then an event a line.
fn to_asciicast(recorded: &Recorded) -> String {
    let size = |payload: &[u8]| {
        let size = serde_json::from_slice::<Value>(payload).unwrap_or_default();
        // A terminal that does not know its size says 0, which no player can show.
        Some((size["Width"].as_u64()?, size["Height"].as_u64()?)).filter(|(width, height)| *width > 0 && *height > 0)
    };
    let start = recorded.frames().next().map_or(0, |(_, micros, _)| micros);
    let (width, height) = recorded.frames().filter(|(kind, ..)| *kind == Kind::Resize).find_map(|(_, _, p)| size(p)).unwrap_or((80, 24));
    let argv = recorded.header.pointer("/command/argv").and_then(Value::as_array).cloned().unwrap_or_default();
    let command = argv.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let title = operation_of(&recorded.header);
    let header =
        json!({"version": 2, "width": width, "height": height, "timestamp": start / 1_000_000, "title": title, "command": command});
    let tty = recorded.header.pointer("/command/tty").and_then(Value::as_bool).unwrap_or(false);
    let mut text = format!("{header}\n");
    // A character may be cut in two by frames: its beginning waits for its end.
    let mut cut: [Vec<u8>; 3] = Default::default();
    for (kind, micros, payload) in recorded.frames() {
        let (code, index) = match kind {
            Kind::Stdout => ("o", 0),
            Kind::Stderr => ("o", 1),
            Kind::Stdin => ("i", 2),
            Kind::Resize => {
                if let Some((width, height)) = size(payload) {
                    text += &format!("{}\n", json!([seconds(micros, start), "r", format!("{width}x{height}")]));
                }
                continue;
            }
            _ => continue,
        };
        cut[index].extend_from_slice(payload);
        let whole = match std::str::from_utf8(&cut[index]) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => cut[index].len(),
        };
        let rest = cut[index].split_off(whole);
        let piece = std::mem::replace(&mut cut[index], rest);
        let mut piece = String::from_utf8_lossy(&piece).into_owned();
        if !tty && code == "o" {
            // Without a terminal a line ends in a line feed alone; a player is a terminal.
            piece = piece.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        if !piece.is_empty() {
            text += &format!("{}\n", json!([seconds(micros, start), code, piece]));
        }
    }
    text
}

fn seconds(micros: u64, start: u64) -> f64 {
    micros.saturating_sub(start) as f64 / 1e6
}
