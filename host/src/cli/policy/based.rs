//! What verdicts were based on, out of the audit log, and what they are based on now.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;

use crate::cli::asked::in_words;
use crate::cli::table::printable;
use crate::policy::{Asked, AskedQuestions, Basis};
use crate::record::query::{self, Query, stage_of};
use crate::words::Stage;

/// What a policy's verdict was based on in an event, in words; none where the event does not say.
pub(super) fn then(log: &Path, answer: &Value) -> Option<String> {
    if let Some(names) = answer["asked"].as_array() {
        let names: Vec<String> = names.iter().filter_map(Value::as_str).map(printable).collect();
        return Some(if names.is_empty() { "it asked nothing".to_owned() } else { format!("it asked {}", names.join(", ")) });
    }
    let (digest, id) = (answer["digest"].as_str()?, answer["basis"].as_str()?);
    Some(match told_of(log, digest, id) {
        Some(asked) => format!("what it said before of {}", in_words(&asked)),
        None => format!("what it said before of the answers {}, which the log no longer has", printable(id)),
    })
}

/// What it is based on, in words.
pub(super) fn now(basis: &Basis) -> Option<String> {
    match basis {
        Basis::Asked(AskedQuestions { questions, spoilt_by: None }) => Some(in_words(questions)),
        Basis::Asked(AskedQuestions { questions, spoilt_by: Some(what) }) if questions.is_empty() => Some((*what).to_owned()),
        Basis::Asked(AskedQuestions { questions, spoilt_by: Some(what) }) => Some(format!("{}, then {what}", in_words(questions))),
        Basis::Path(_) | Basis::Unknown => None,
    }
}

/// What the log tells of a path of a policy.
fn told_of(log: &Path, digest: &str, id: &str) -> Option<Vec<Asked>> {
    let mut found = None;
    let wanted = Query { text: Some(id.to_owned()), ..Query::default() };
    let asked = query::ask(log, &wanted, |line| {
        if stage_of(line) == Some(Stage::Basis)
            && let Ok(event) = serde_json::from_slice::<Value>(line)
            && event["basis"] == id
            && event["digest"] == digest
        {
            found = serde_json::from_value(event["questions"].clone()).ok();
        }
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    asked.ok().and(found)
}
