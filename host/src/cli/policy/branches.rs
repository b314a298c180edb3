//! What the cases of a policy reach of its tests: each has two sides, and a case that goes the one shows nothing of the other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cli::table::printable;
use crate::policy::Asked;
use crate::rehearse::cases::Tried;

/// Questions that went one way only that are told.
const MOST_TOLD: usize = 5;

/// The questions that a policy asked in all of its cases.
#[derive(Debug, Default)]
pub(super) struct Branches {
    /// Different questions, or different answers, that led to a verdict.
    paths: usize,
    /// By the question, as it is told and by all that it asks about: whether it was answered with none or no, and with anything else.
    sides: BTreeMap<(String, Option<usize>, u64), [bool; 2]>,
    /// What ends remembering, in the order of names.
    spoilt_by: BTreeSet<&'static str>,
}

impl Branches {
    /// Of cases that were tried; none where on-request was never asked, or asks no questions since it is of contract 0.1.
    pub(super) fn of<'a>(tried: impl Iterator<Item = &'a Tried>) -> Option<Self> {
        let (mut branches, mut paths, mut is_asked) = (Self::default(), BTreeSet::new(), false);
        for (tried, asked) in tried.filter_map(|tried| Some((tried, tried.asked.as_ref()?))) {
            is_asked = true;
            branches.spoilt_by.extend(asked.spoilt_by);
            // A value has as many sides as there are values.
            for question in asked.questions.iter().filter(|question| question.of.is_some() || question.answer.is_boolean()) {
                let side = usize::from(has_answer(question));
                branches.sides.entry((question.question.clone(), question.of, question.key)).or_default()[side] = true;
            }
            paths.insert((tried.digest.as_str(), serde_json::to_string(&asked.questions).unwrap_or_default()));
        }
        branches.paths = paths.len();
        is_asked.then_some(branches)
    }

    /// What is told of them, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let reached = self.sides.values().flatten().filter(|side| **side).count();
        let mut lines = vec![format!("branches {reached} of {} reached, on {}", 2 * self.sides.len(), counted(self.paths, "path"))];
        let one_sided: Vec<_> = self.sides.iter().filter(|(_, sides)| sides.iter().any(|side| !side)).collect();
        for ((question, of, _), [none, _]) in one_sided.iter().take(MOST_TOLD) {
            let what = match (of, none) {
                (Some(of), true) => format!("one of its {of}"),
                (Some(of), false) => format!("none of its {of}"),
                (None, true) => "yes".to_owned(),
                (None, false) => "no".to_owned(),
            };
            lines.push(format!("         one way only: {}, never {what}", printable(question)));
        }
        if one_sided.len() > MOST_TOLD {
            lines.push(format!("         and {} more", one_sided.len() - MOST_TOLD));
        }
        if !self.spoilt_by.is_empty() {
            let what: Vec<&str> = self.spoilt_by.iter().copied().collect();
            lines.push(format!("         what it does with {} is not counted", what.join(", ")));
        }
        lines
    }
}

/// Whether it is more than no or none.
fn has_answer(asked: &Asked) -> bool {
    !matches!(asked.answer, Value::Null | Value::Bool(false))
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::AskedQuestions;
    use serde_json::json;

    fn tried(digest: &str, questions: Value, spoilt_by: Option<&'static str>) -> Tried {
        let questions = serde_json::from_value(questions).unwrap();
        Tried { asked: Some(AskedQuestions { questions, spoilt_by }), digest: digest.into(), ..Tried::default() }
    }

    #[test]
    fn a_question_has_two_sides_and_the_one_that_no_case_reaches_is_told() {
        let is = |answer: Value| json!({"question": "is verb", "of": 2, "answer": answer});
        let groups = |answer: Value| json!({"question": "in-groups", "of": 1, "answer": answer});
        let dry = json!({"question": "dry-run", "answer": false});
        let cases = [
            tried("a", json!([is(json!("get")), groups(json!(null))]), None),
            tried("a", json!([is(json!(null)), dry, {"question": "get name", "answer": "web"}]), Some("document.get")),
            tried("a", json!([is(json!("get")), groups(json!(null))]), None),
            // With other settings it is another path.
            tried("b", json!([is(json!("get")), groups(json!(null))]), None),
            Tried::default(),
        ];
        let lines = Branches::of(cases.iter()).unwrap().lines();
        assert_eq!(
            lines,
            [
                "branches 4 of 6 reached, on 3 paths",
                "         one way only: dry-run, never yes",
                "         one way only: in-groups, never one of its 1",
                "         what it does with document.get is not counted",
            ]
        );
        assert!(Branches::of([Tried::default()].iter()).is_none(), "it was never asked");
        // Two questions of one name are two.
        let mut cases = [tried("a", json!([is(json!("get")), is(json!(null))]), None)];
        cases[0].asked.as_mut().unwrap().questions[1].key = 1;
        assert_eq!(Branches::of(cases.iter()).unwrap().lines()[0], "branches 2 of 4 reached, on 1 path");
    }
}
