//! JSONPath (RFC 9535), of which a gateway can apply while streaming: names, indexes, wildcards and descendants.

use std::fmt::Write;

use serde_json::Value;

/// Longest path and most steps taken.
const LONGEST: usize = 1024;
const MOST_STEPS: usize = 24;

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Whether the step may be taken at any depth below (`..`).
    pub(super) descend: bool,
    pub(super) what: Child,
}

/// Which children a step takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Name(String),
    Index(usize),
    Any,
}

/// A path that is not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError(String);

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PathError {}

impl Path {
    /// Parses a path such as `$.data.*`, `$.spec.containers[*].env[0]['value']` or `$..password`.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let error = |why: &str| PathError(format!("{:?} is not a path: {why}", text.chars().take(80).collect::<String>()));
        if text.len() > LONGEST {
            return Err(error("it is over 1024 bytes long"));
        }
        let mut rest = text.strip_prefix('$').ok_or_else(|| error("it does not begin with $"))?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let descend = rest.starts_with("..");
            rest = if descend { &rest[2..] } else { rest };
            let dotted = descend && !rest.starts_with('[') || !descend && rest.starts_with('.');
            if !descend && dotted {
                rest = &rest[1..];
            }
            let what;
            (what, rest) = if dotted { dot_child(rest) } else { bracket_child(rest) }
                .ok_or_else(|| error("use .name, ['name'], [0], [*], .* and ..name; filters, slices and negative indexes are not taken"))?;
            steps.push(Step { descend, what });
        }
        match steps.len() {
            0 => Err(error("it names no field")),
            n if n > MOST_STEPS => Err(error("it has more than 24 steps")),
            _ => Ok(Self { steps }),
        }
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The members its steps name, one after another; none for a step that may lead to several, or to an element.
    pub fn names(&self) -> Vec<Option<&str>> {
        self.steps
            .iter()
            .map(|step| match step {
                Step { descend: false, what: Child::Name(name) } => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Every match in a value: its normalized path and the value. At most `limit` of them.
    pub fn select<'a>(&self, root: &'a Value, limit: usize) -> Vec<(String, &'a Value)> {
        let mut found = Vec::new();
        let mut at = String::from("$");
        walk(&self.steps, root, &mut at, &mut found, limit);
        found
    }

    /// The first match in a value.
    pub fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.select(root, 1).pop().map(|(_, value)| value)
    }
}

fn dot_child(rest: &str) -> Option<(Child, &str)> {
    if let Some(rest) = rest.strip_prefix('*') {
        return Some((Child::Any, rest));
    }
    // RFC 9535 member-name-shorthand.
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii())).unwrap_or(rest.len());
    (end > 0 && !rest.starts_with(|c: char| c.is_ascii_digit())).then(|| (Child::Name(rest[..end].into()), &rest[end..]))
}

fn bracket_child(rest: &str) -> Option<(Child, &str)> {
    let rest = rest.strip_prefix('[')?;
    if let Some(rest) = rest.strip_prefix("*]") {
        return Some((Child::Any, rest));
    }
    let quote = rest.chars().next()?;
    if !matches!(quote, '\'' | '"') {
        let (index, rest) = rest.split_once(']')?;
        return Some((Child::Index(index.parse().ok().filter(|_| index.bytes().all(|b| b.is_ascii_digit()))?), rest));
    }
    let mut name = String::new();
    let mut chars = rest[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next().map(|(_, c)| c).filter(|c| matches!(c, '\\' | '\'' | '"' | '/'))?),
            c if c == quote => return rest[1 + at + 1..].strip_prefix(']').map(|rest| (Child::Name(name), rest)),
            c => name.push(c),
        }
    }
    None
}

fn walk<'a>(steps: &[Step], value: &'a Value, at: &mut String, found: &mut Vec<(String, &'a Value)>, limit: usize) {
    if found.len() >= limit {
        return;
    }
    let Some((step, rest)) = steps.split_first() else {
        found.push((at.clone(), value));
        return;
    };
    let mut visit = |at: &mut String, matches: bool, child: &'a Value| {
        if matches {
            walk(rest, child, at, found, limit);
        }
        if step.descend {
            walk(steps, child, at, found, limit);
        }
    };
    let length = at.len();
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                let matches = match &step.what {
                    Child::Name(name) => name == key,
                    Child::Any => true,
                    Child::Index(_) => false,
                };
                if matches || step.descend {
                    let _ = write!(at, "['{}']", key.replace('\\', "\\\\").replace('\'', "\\'"));
                    visit(at, matches, child);
                    at.truncate(length);
                }
            }
        }
        Value::Array(list) => {
            for (index, child) in list.iter().enumerate() {
                let matches = match step.what {
                    Child::Index(wanted) => wanted == index,
                    Child::Any => true,
                    Child::Name(_) => false,
                };
                if matches || step.descend {
                    let _ = write!(at, "[{index}]");
                    visit(at, matches, child);
                    at.truncate(length);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_select_as_rfc_9535_says() {
        let object = json!({"data": {"a": "1", "b.c": "2"}, "list": [{"p": 1}, {"p": 2, "q": {"p": 3}}]});
        let select = |path: &str| -> Vec<(String, String)> {
            Path::parse(path).unwrap().select(&object, 100).into_iter().map(|(p, v)| (p, v.to_string())).collect()
        };
        assert_eq!(select("$.data.*").len(), 2);
        assert_eq!(select("$.data['b.c']"), [("$['data']['b.c']".into(), "\"2\"".into())]);
        assert_eq!(select("$.list[1].p"), [("$['list'][1]['p']".into(), "2".into())]);
        assert_eq!(select("$..p").iter().map(|m| m.1.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(select("$..[0]").len(), 1);
        assert_eq!(select("$.data[0]").len(), 0);
    }

    #[test]
    fn what_cannot_be_streamed_is_refused() {
        for bad in ["", "$", "data", "$.", "$[", "$['a", "$[?@.x]", "$[-1]", "$[1:2]", "$.a b", "$['a','b']", "$[+1]"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
        assert!(Path::parse(&format!("${}", ".a".repeat(25))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics_and_what_parses_selects_within_its_limit(text in r"\$[a-c.*'\[\]0-9é\\\\]{0,20}") {
            if let Ok(path) = Path::parse(&text) {
                let object = json!({"a": [{"b": 1}, {"c": {"a": [1, 2, 3]}}], "b": {"a": 1, "b": 2, "c": 3}});
                proptest::prop_assert!(path.select(&object, 3).len() <= 3);
            }
        }
    }
}
