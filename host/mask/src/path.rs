//! JSONPath (RFC 9535), of which a gateway can apply while streaming: names, indexes, wildcards and descendants.

use std::fmt::Write;
use std::ops::ControlFlow;

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathError(String);

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

    /// The first match in a value.
    pub fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        let mut first = None;
        let _ = self.visit(root, &mut |_, value| {
            first = Some(value);
            ControlFlow::Break(())
        });
        first
    }

    /// Calls `found` with every match in a value, in the order of the document, until it breaks off. However many ways the steps lead to a value, it is
    /// visited once: what this costs grows with the document and the steps, and not with their combinations.
    pub fn visit<'a>(&self, root: &'a Value, found: Found<'a, '_>) -> ControlFlow<()> {
        self.walk(START, root, &mut Vec::new(), found)
    }

    fn walk<'a>(&self, states: StateSet, value: &'a Value, at: &mut Vec<At<'a>>, found: Found<'a, '_>) -> ControlFlow<()> {
        let mut child = |place: At<'a>, value: &'a Value| {
            let (next, ends) = self.step(states, place.into());
            if next == 0 && !ends {
                return ControlFlow::Continue(());
            }
            at.push(place);
            if ends {
                found(at, value)?;
            }
            if next != 0 {
                self.walk(next, value, at, found)?;
            }
            at.pop();
            ControlFlow::Continue(())
        };
        match value {
            Value::Object(members) => members.iter().try_for_each(|(key, value)| child(At::Name(key), value)),
            Value::Array(elements) => elements.iter().enumerate().try_for_each(|(index, value)| child(At::Index(index), value)),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Whether it may lead to what is not known of a document, to something around it, or into it: a member of the object at `at`, of which only some names
    /// can be told that they are not its own.
    pub fn may_reach<'a>(&self, at: impl Iterator<Item = At<'a>>, may_be: impl Fn(&str) -> bool) -> bool {
        let mut states = START;
        for place in at {
            let (next, ends) = self.step(states, place.into());
            if ends || next == 0 {
                return ends;
            }
            states = next;
        }
        self.steps.iter().enumerate().filter(|(bit, _)| states & (1 << bit) != 0).any(|(_, step)| {
            step.descend
                || match &step.what {
                    Child::Name(name) => may_be(name),
                    Child::Any => true,
                    Child::Index(_) => false,
                }
        })
    }

    /// The states after a member or an element, and whether the path ends there.
    pub(super) fn step(&self, states: StateSet, at: RawSegment<'_>) -> (StateSet, bool) {
        let (mut next, mut ends, mut rest) = (0, false, states);
        while rest != 0 {
            let bit = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let step = &self.steps[bit];
            if step.descend {
                next |= 1 << bit;
            }
            if step.what.takes(at) {
                match bit + 1 == self.steps.len() {
                    true => ends = true,
                    false => next |= 1 << (bit + 1),
                }
            }
        }
        (next, ends)
    }
}

impl Child {
    /// Whether a step takes a member or an element.
    pub(super) fn takes(&self, at: RawSegment<'_>) -> bool {
        match (self, at) {
            (Self::Any, _) => true,
            (Self::Name(name), RawSegment::Name(key)) => name.as_bytes() == key,
            (Self::Index(index), RawSegment::Index(at)) => *index == at,
            _ => false,
        }
    }
}

/// The steps that may be taken next, a bit for each: there are at most 24.
pub(super) type StateSet = u32;
/// At the root: the first step.
pub(super) const START: StateSet = 1;

/// What is called with a match: where it is, and its value.
pub type Found<'a, 'f> = &'f mut dyn FnMut(&[At<'a>], &'a Value) -> ControlFlow<()>;

/// One step from a value to one in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At<'a> {
    /// To a member of an object.
    Name(&'a str),
    /// To an element of an array.
    Index(usize),
}

/// A member or an element, in a text that is not known to be UTF-8.
#[derive(Clone, Copy)]
pub(super) enum RawSegment<'a> {
    Name(&'a [u8]),
    Index(usize),
}

impl<'a> From<At<'a>> for RawSegment<'a> {
    fn from(at: At<'a>) -> Self {
        match at {
            At::Name(name) => Self::Name(name.as_bytes()),
            At::Index(index) => Self::Index(index),
        }
    }
}

/// Writes a normalized path (RFC 9535, section 2.7).
pub fn normalized(at: &[At<'_>]) -> String {
    let mut text = String::with_capacity(normalized_length(at));
    text.push('$');
    for step in at {
        let _ = match step {
            At::Name(key) if key.contains(['\\', '\'']) => {
                write!(text, "['{}']", key.replace('\\', "\\\\").replace('\'', "\\'"))
            }
            At::Name(key) => write!(text, "['{key}']"),
            At::Index(index) => write!(text, "[{index}]"),
        };
    }
    text
}

/// How long it is, or somewhat less: known before it is written.
pub fn normalized_length(at: &[At<'_>]) -> usize {
    1 + at.iter().map(|step| if let At::Name(key) = step { key.len() + 4 } else { 3 }).sum::<usize>()
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selected(path: &str, object: &Value) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let _ = Path::parse(path).unwrap().visit(object, &mut |at, value| {
            found.push((normalized(at), value.to_string()));
            ControlFlow::Continue(())
        });
        found
    }

    #[test]
    fn however_many_ways_lead_to_a_value_it_is_visited_once() {
        let deep = (0..100).fold(json!({"a": 1}), |inner, _| json!({"a": inner, "b": [0]}));
        for (path, count) in
            [("$..a".to_owned(), 101), (format!("${}..x", "..a".repeat(20)), 0), (format!("${}", "..*".repeat(20)), 3 * 101 + 1)]
        {
            let (path, mut matches) = (Path::parse(&path).unwrap(), 0);
            let _ = path.visit(&deep, &mut |_, _| {
                matches += 1;
                ControlFlow::Continue(())
            });
            fn nodes(value: &Value) -> usize {
                1 + value.as_object().into_iter().flatten().map(|(_, v)| nodes(v)).sum::<usize>()
                    + value.as_array().into_iter().flatten().map(nodes).sum::<usize>()
            }
            assert!(matches <= nodes(&deep) && matches <= count, "{matches}");
        }
        assert_eq!(selected("$..a..a", &json!({"a": {"a": {"a": 1}}})).len(), 2);
        assert_eq!(selected("$..['it\\'s']", &json!({"it's": 1}))[0].0, "$['it\\'s']");
    }

    #[test]
    fn paths_select_as_rfc_9535_says() {
        let object = json!({"data": {"a": "1", "b.c": "2"}, "list": [{"p": 1}, {"p": 2, "q": {"p": 3}}]});
        let select = |path: &str| selected(path, &object);
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
        fn no_path_panics_and_a_match_is_called_by_its_place(text in r"\$[a-c.*'\[\]0-9é\\\\]{0,20}") {
            if let Ok(path) = Path::parse(&text) {
                let object = json!({"a": [{"b": 1}, {"c": {"a": [1, 2, 3]}}], "b": {"a": 1, "b": 2, "c": 3}});
                let _ = path.visit(&object, &mut |at, value| {
                    // What a match is called leads to it, and to nothing else.
                    let again = Path::parse(&normalized(at)).unwrap();
                    assert_eq!(again.first(&object), Some(value));
                    ControlFlow::Continue(())
                });
            }
        }
    }
}
