//! What one operation's masks compile to.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use regex::Regex;

use super::literals::Literals;
use super::path::{Path, PathError, RawSegment, Step};
use super::placeholder::Transform;
use super::text::{Pattern, TextRules};
use super::token::{Scope, TokenKey};

/// Most masks, steps of all their paths, and conditions of all of them that one operation may have: each object pays for them.
pub(super) const MOST_MASKS: usize = 64;
const MOST_STEPS: usize = 128;
const MOST_CONDITIONS: usize = 64;
/// The longest path and value of a condition, and the longest regular expression, in bytes: what is made of them is kept, and told of.
const LONGEST_PATH: usize = 1 << 10;
const LONGEST_VALUE: usize = 1 << 10;
const LONGEST_PATTERN: usize = 4 << 10;
/// How large a regular expression may become, compiled, and what is remembered of it while it searches, in bytes.
pub(super) const LARGEST_PROGRAM: usize = 1 << 20;
pub(super) const LARGEST_STATES: usize = 1 << 20;
/// The longest that is said of masks that are none, in characters.
const LONGEST_WHY: usize = 300;

/// What to hide, as a policy says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mask {
    /// What to hide.
    pub what: Selector,
    /// How it is written.
    pub how: Transform,
    /// Applied to an object when every condition holds.
    pub when: Vec<Condition>,
}

/// What to hide.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Object fields, by JSONPath.
    Field(String),
    /// A regular expression over text streams and over string values.
    Text(String),
    /// The values of the Secrets the addressed pod uses.
    PodSecrets,
}

impl Mask {
    /// Whether masks are within bounds, before anything is done with them: whoever gives them may give what costs more than it looks.
    pub fn check(masks: &[Self]) -> Result<(), InvalidMask> {
        let conditions = masks.iter().map(|mask| mask.when.len()).sum::<usize>();
        for (what, count, most) in [("masks", masks.len(), MOST_MASKS), ("conditions", conditions, MOST_CONDITIONS)] {
            if count > most {
                return Err(InvalidMask::new(format!("{count} {what}; at most {most} are taken")));
            }
        }
        let within = |what: &str, text: &str, most: usize| match text.len() {
            length if length > most => Err(InvalidMask::new(format!("{what} of {length} bytes; at most {most} are taken"))),
            _ => Ok(()),
        };
        for mask in masks {
            match &mask.what {
                Selector::Field(path) => within("a path", path, LONGEST_PATH)?,
                Selector::Text(text) => within("a regular expression", text, LONGEST_PATTERN)?,
                Selector::PodSecrets => {}
            }
            for condition in &mask.when {
                within("a path", &condition.path, LONGEST_PATH)?;
                within("the value of a condition", &condition.value, LONGEST_VALUE)?;
            }
        }
        Ok(())
    }

    /// Its size in memory, about.
    pub(super) fn size(&self) -> usize {
        let what = match &self.what {
            Selector::Field(text) | Selector::Text(text) => text.len(),
            Selector::PodSecrets => 0,
        };
        let condition = |condition: &Condition| size_of::<Condition>() + condition.path.len() + condition.value.len();
        size_of::<Self>() + what + self.when.iter().map(condition).sum::<usize>()
    }
}

/// A test on another field of the same object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The field.
    pub path: String,
    /// Whether it must be equal, or must not.
    pub equal: bool,
    /// The value: text as it is, anything else as JSON writes it.
    pub value: String,
}

/// The compiled masks of one operation.
#[derive(Debug)]
pub struct Plan {
    pub(super) fields: Vec<Arc<Field>>,
    pub(super) texts: Vec<Arc<Text>>,
    /// How the values of the pod's Secrets are written, when they are hidden.
    pub(super) pod_secrets: Option<Transform>,
    /// One bit a step, of all paths one after another.
    pub(super) steps: Vec<(Step, Option<usize>)>,
    pub(super) start: u128,
    pub(super) descending: u128,
    pub(super) key: TokenKey,
    /// Whether any mask writes tokens.
    pub(super) tokenizes: bool,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) path: String,
    pub(super) how: Transform,
    pub(super) when: Vec<(Path, bool, String)>,
}

/// A mask of text, compiled.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) pattern: Regex,
    /// The expression for text that flows.
    pub(super) flowing: Arc<Pattern>,
    pub(super) how: Transform,
}

impl Text {
    /// Compiles a regular expression.
    pub(super) fn compile(text: &str, how: Transform) -> Result<Self, InvalidMask> {
        let pattern = regex::RegexBuilder::new(text)
            .size_limit(LARGEST_PROGRAM)
            .dfa_size_limit(LARGEST_STATES)
            .build()
            .map_err(|error| InvalidMask::no_expression(&error))?;
        if pattern.is_match("") {
            return Err(InvalidMask::new("the text mask matches the empty text; it would hide everything and nothing".into()));
        }
        Ok(Self { pattern, flowing: Arc::new(Pattern::compile(text, how)?), how })
    }

    /// Its size in memory, about.
    pub(super) fn size(&self) -> usize {
        self.flowing.size() + self.pattern.as_str().len()
    }
}

/// Which paths hid how many values. Never a value.
pub type MaskCounts = BTreeMap<String, u64>;

/// What has the program of a mask of text.
type Programs<'a> = &'a mut dyn FnMut(&str, Transform) -> Result<Arc<Text>, InvalidMask>;

impl Plan {
    /// Compiles masks; an error is an invalid answer of the policy that gave them.
    pub fn compile(masks: &[Mask], key: &TokenKey) -> Result<Self, InvalidMask> {
        Mask::check(masks)?;
        Self::compile_with(masks, key, &mut |pattern, how| Text::compile(pattern, how).map(Arc::new))
    }

    /// Hides nothing.
    pub(super) fn none(key: &TokenKey) -> Self {
        Self {
            fields: Vec::new(),
            texts: Vec::new(),
            pod_secrets: None,
            steps: Vec::new(),
            start: 0,
            descending: 0,
            key: key.clone(),
            tokenizes: false,
        }
    }

    /// Compiles masks that were checked, with programs from elsewhere.
    pub(super) fn compile_with(masks: &[Mask], key: &TokenKey, program: Programs<'_>) -> Result<Self, InvalidMask> {
        let mut plan = Self::none(key);
        plan.tokenizes = masks.iter().any(|mask| mask.how == Transform::Tokenize);
        for mask in masks {
            match &mask.what {
                Selector::Field(path) => plan.add_field(path, mask)?,
                Selector::PodSecrets if !mask.when.is_empty() => {
                    return Err(InvalidMask::new("a mask of the pod's Secrets takes no conditions".into()));
                }
                Selector::PodSecrets => plan.hide_pod_secrets(mask.how),
                Selector::Text(text) => {
                    if !mask.when.is_empty() {
                        return Err(InvalidMask::new("a text mask takes no conditions".into()));
                    }
                    plan.texts.push(program(text, mask.how)?);
                }
            }
        }
        plan.sort();
        Ok(plan)
    }

    /// One of several, which hides what each of them does.
    pub(super) fn combined(plans: &[Arc<Self>], key: &TokenKey) -> Result<Self, InvalidMask> {
        let masks = plans.iter().map(|plan| plan.fields.len() + plan.texts.len() + usize::from(plan.pod_secrets.is_some())).sum::<usize>();
        let conditions = plans.iter().flat_map(|plan| &plan.fields).map(|field| field.when.len()).sum::<usize>();
        let steps = plans.iter().map(|plan| plan.steps.len()).sum::<usize>();
        for (what, count, most) in
            [("masks", masks, MOST_MASKS), ("conditions", conditions, MOST_CONDITIONS), ("steps of paths", steps, MOST_STEPS)]
        {
            if count > most {
                return Err(InvalidMask::new(format!("they are {count} {what} together; at most {most} are taken")));
            }
        }
        let mut all = Self::none(key);
        for plan in plans.iter().filter(|plan| !plan.steps.is_empty()) {
            let (fields, steps) = (all.fields.len(), all.steps.len());
            all.start |= plan.start << steps;
            all.descending |= plan.descending << steps;
            all.steps.extend(plan.steps.iter().map(|(step, end)| (step.clone(), end.map(|field| field + fields))));
            all.fields.extend(plan.fields.iter().cloned());
        }
        for plan in plans {
            all.texts.extend(plan.texts.iter().cloned());
            all.tokenizes |= plan.tokenizes;
            plan.pod_secrets.into_iter().for_each(|how| all.hide_pod_secrets(how));
        }
        all.sort();
        Ok(all)
    }

    fn hide_pod_secrets(&mut self, how: Transform) {
        self.pod_secrets = Some(self.pod_secrets.map_or(how, |other| other.stronger(how)));
    }

    /// What shows less goes first: what it has hidden no other finds.
    fn sort(&mut self) {
        self.texts.sort_by_key(|text| std::cmp::Reverse(text.how.strength()));
    }

    fn add_field(&mut self, path: &str, mask: &Mask) -> Result<(), InvalidMask> {
        let compiled = Path::parse(path)?;
        let mut when = Vec::new();
        for condition in &mask.when {
            when.push((Path::parse(&condition.path)?, condition.equal, condition.value.clone()));
        }
        self.start |= 1 << self.steps.len().min(127);
        let last = compiled.steps().len() - 1;
        for (index, step) in compiled.steps().iter().enumerate() {
            if self.steps.len() >= MOST_STEPS {
                return Err(InvalidMask::new(format!("the paths have more than {MOST_STEPS} steps together")));
            }
            if step.descend {
                self.descending |= 1 << self.steps.len();
            }
            self.steps.push((step.clone(), (index == last).then_some(self.fields.len())));
        }
        self.fields.push(Arc::new(Field { path: path.to_owned(), how: mask.how, when }));
        Ok(())
    }

    /// What is hidden: a field's path, `text` and a pattern, `pod-secrets`.
    pub fn names(&self) -> Vec<String> {
        let fields = self.fields.iter().map(|field| field.path.clone());
        let texts = self.texts.iter().map(|text| format!("text {}", text.pattern));
        fields.chain(texts).chain(self.pod_secrets.map(|_| "pod-secrets".to_owned())).collect()
    }

    /// Its size in memory with that of its programs, about.
    pub(super) fn size(&self) -> usize {
        let condition = |(path, _, value): &(Path, bool, String)| size_of_val(path.steps()) + value.len();
        let field = |field: &Arc<Field>| 2 * field.path.len() + field.when.iter().map(condition).sum::<usize>();
        self.fields.iter().map(field).sum::<usize>() + self.texts.iter().map(|text| text.size()).sum::<usize>()
    }

    /// Whether any mask reads objects.
    pub fn reads_objects(&self) -> bool {
        !self.fields.is_empty() || !self.texts.is_empty()
    }

    /// Whether any mask reads text streams.
    pub fn reads_text(&self) -> bool {
        !self.texts.is_empty() || self.pod_secrets.is_some()
    }

    /// Whether the values of the pod's Secrets are hidden.
    pub fn hides_pod_secrets(&self) -> bool {
        self.pod_secrets.is_some()
    }

    /// What is hidden in text that flows from a pod, with the values of the pod's Secrets.
    pub fn text_rules(&self, known: Option<Arc<Literals>>, scope: Scope) -> Arc<TextRules> {
        let patterns = self.texts.iter().map(|text| Arc::clone(&text.flowing)).collect();
        Arc::new(TextRules { patterns, literals: known.zip(self.pod_secrets), key: self.key.clone(), scope })
    }

    /// The states after a member or an element, and the mask that ends there.
    pub(super) fn step(&self, states: u128, active: u64, at: RawSegment<'_>) -> (u128, Option<usize>) {
        let (mut next, mut hit) = (states & self.descending, None);
        let mut rest = states;
        while rest != 0 {
            let bit = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let (step, end) = &self.steps[bit];
            let matches = step.what.takes(at);
            match end {
                Some(field) if matches && active & (1 << field) != 0 => hit = self.stronger(hit, Some(*field)),
                None if matches => next |= 1 << (bit + 1),
                _ => {}
            }
        }
        (next, hit)
    }

    /// Of two masks on one value the one that shows less; of equals the first.
    pub(super) fn stronger(&self, one: Option<usize>, other: Option<usize>) -> Option<usize> {
        match (one, other) {
            (Some(first), Some(second)) if self.fields[second].how.strength() > self.fields[first].how.strength() => other,
            (None, _) => other,
            _ => one,
        }
    }

    /// Hides values that an error's Status repeats: kube-apiserver writes them after "Invalid value: ".
    pub fn hide_in_status(&self, status: &mut serde_json::Value) {
        let hide = |message: &mut serde_json::Value| {
            let Some(text) = message.as_str() else { return };
            let mut hidden = text.to_owned();
            if !self.fields.is_empty()
                && let Some(start) = text.find("Invalid value: ").map(|at| at + "Invalid value: ".len())
            {
                let end = text.rfind(": ").filter(|end| *end >= start).unwrap_or(text.len());
                hidden = format!("{}{}{}", &text[..start], super::placeholder::MARKER, &text[end..]);
            }
            *message = self.hide_text(&hidden, &Scope::default(), &mut MaskCounts::new()).unwrap_or(hidden).into();
        };
        if let Some(message) = status.get_mut("message") {
            hide(message);
        }
        let causes = status.pointer_mut("/details/causes").and_then(|c| c.as_array_mut());
        for cause in causes.into_iter().flatten() {
            if let Some(message) = cause.get_mut("message") {
                hide(message);
            }
        }
    }

    /// Why an object these masks apply to must not be replaced: what a mask left out would be gone.
    pub fn loses(&self, replaces: bool) -> Option<String> {
        let field = self.fields.iter().find(|field| replaces && field.how == Transform::Remove)?;
        Some(format!("{} is hidden from you, and replacing the object would lose it; patch the fields you mean", field.path))
    }

    /// Whether a body has, where a mask hides something, what a mask leaves of numbers and booleans.
    pub fn may_have_left(&self, body: &serde_json::Value) -> bool {
        let left = |value: &serde_json::Value| *value == serde_json::json!(false) || value.as_f64() == Some(0.0);
        let is_patch = body.is_array();
        self.fields.iter().any(|field| match Path::parse(&field.path) {
            // A JSON patch names its places in another way: each of its values is looked at.
            Ok(_) if is_patch => true,
            Ok(path) => {
                path.visit(body, &mut |_, value| if left(value) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }).is_break()
            }
            Err(_) => true,
        })
    }

    /// The strongest of the text masks that find something in a value.
    pub(super) fn of_text(&self, text: &str, is_bytes: bool) -> Option<Transform> {
        use base64::Engine;
        let decoded = is_bytes.then(|| base64::engine::general_purpose::STANDARD.decode(text).ok()).flatten();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let text = decoded.as_deref().unwrap_or(text);
        self.texts.iter().find(|mask| mask.pattern.is_match(text)).map(|mask| mask.how)
    }

    /// Hides what the text masks match in a line or a string. None when nothing matches.
    pub fn hide_text(&self, text: &str, scope: &Scope, report: &mut MaskCounts) -> Option<String> {
        let mut hidden: Option<String> = None;
        for mask in &self.texts {
            let current = hidden.as_deref().unwrap_or(text);
            let mut count = 0;
            let replaced = mask.pattern.replace_all(current, |found: &regex::Captures<'_>| {
                count += 1;
                match mask.how {
                    Transform::Remove => String::new(),
                    how => super::placeholder::hide(how, found[0].as_bytes(), &self.key, scope, b""),
                }
            });
            if count > 0 {
                let replaced = replaced.into_owned();
                *report.entry("text".into()).or_default() += count;
                hidden = Some(replaced);
            }
        }
        hidden
    }
}

/// Why masks do not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct InvalidMask {
    why: String,
    is_exhausted: bool,
}

impl InvalidMask {
    pub(super) fn new(why: String) -> Self {
        Self { why: why.chars().take(LONGEST_WHY).collect(), is_exhausted: false }
    }

    /// The masks of a policy took too long to compile, all of them that it gave of late.
    pub(super) fn too_long() -> Self {
        let why = "its masks are dear, or others with each request, and to compile them takes too long";
        Self { why: why.into(), is_exhausted: true }
    }

    /// Whether nothing is known to be wrong with the masks, and there was no time for them.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// What is wrong with a regular expression; its text, which may be long, is not repeated.
    pub(super) fn no_expression(error: &regex::Error) -> Self {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default();
        Self::new(format!("the text mask is not a regular expression: {}", why.strip_prefix("error: ").unwrap_or(why)))
    }
}

impl From<PathError> for InvalidMask {
    fn from(error: PathError) -> Self {
        Self::new(error.to_string())
    }
}
