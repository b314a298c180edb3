//! What a policy asked about an operation, and was answered, in words.

use serde_json::Value;

use super::table::printable;
use crate::policy::Asked;

/// Questions with their answers, in order.
pub(super) fn in_words(asked: &[Asked]) -> String {
    if asked.is_empty() { "nothing".to_owned() } else { asked.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn one(asked: &Asked) -> String {
    let answer = match &asked.answer {
        Value::Null => "none".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => format!("{number} of its values"),
        Value::Array(texts) if texts.is_empty() => "none".to_owned(),
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(printable).collect::<Vec<_>>().join(" and "),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    };
    let of = asked.of.map(|of| format!(" of {of}")).unwrap_or_default();
    format!("{}: {answer}{of}", printable(&asked.question))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn questions_are_told_with_their_answers() {
        let asked = json!([
            {"question": "is verb", "of": 2, "answer": "get"}, {"question": "in-groups", "of": 3, "answer": null}, {"question": "dry-run", "answer": false},
            {"question": "get name", "answer": "web\u{1b}"}, {"question": "groups", "answer": ["a", "b"]}, {"question": "query limit", "answer": 1},
        ]);
        let asked: Vec<Asked> = serde_json::from_value(asked).unwrap();
        let told = in_words(&asked);
        assert_eq!(
            told,
            format!(
                "is verb: get of 2, in-groups: none of 3, dry-run: no, get name: {}, groups: a and b, query limit: 1 of its values",
                printable("web\u{1b}")
            )
        );
        assert!(!told.contains('\u{1b}'));
        assert_eq!(in_words(&[]), "nothing");
    }
}
