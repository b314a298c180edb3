//! What a verdict is based on, as people are told of it: the questions that led to it, and their answers.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use postern_ground::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::tree::{Root, Step};
use crate::contract::asked::{Answer, Question};

/// Bytes of what a path is known by, in hexadecimal.
pub(super) const ID: usize = 24;
/// Characters that are told of one text.
const MOST_TOLD: usize = 200;

/// What a verdict is based on.
#[derive(Clone, Debug, Default)]
pub enum Basis {
    /// That is not known: a policy of contract 0.1 is told everything, and of an object nobody keeps what was read.
    #[default]
    Unknown,
    /// The policy was asked, and asked this.
    Asked(AskedQuestions),
    /// What it said before, of the same answers.
    Path(KnownPath),
}

/// The path that a remembered verdict stands at the end of.
#[derive(Clone, Debug)]
pub struct KnownPath {
    /// Its digest: the same questions with the same answers have the same one in every gateway, as often as a policy is loaded.
    pub id: Arc<str>,
    /// What it is; for whoever is to tell of it, once a day.
    pub untold: Option<Untold>,
}

/// A path that nobody was told of on a day.
#[derive(Clone, Debug)]
pub struct Untold {
    asked: Vec<Asked>,
    day: u64,
    told_on: Arc<AtomicU64>,
}

impl Untold {
    /// The path, where it was not told on a day, of which the number is: not once a day for each who asks, but by all who ask before it is told.
    pub(super) fn on(day: u64, told_on: &Arc<AtomicU64>, asked: impl FnOnce() -> Vec<Asked>) -> Option<Self> {
        (told_on.load(Ordering::Acquire) != day).then(|| Self { asked: asked(), day, told_on: Arc::clone(told_on) })
    }

    /// The questions, in order, with their answers.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// It is told of now: what names it from now on comes behind.
    pub fn tell_no_more(&self) {
        self.told_on.store(self.day, Ordering::Release);
    }
}

/// What a policy asked in a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AskedQuestions {
    /// The questions, in order, with their answers.
    pub questions: Vec<Asked>,
    /// What it asked, or did, behind them that makes its verdict one that is not remembered (`document.get`, `count`).
    pub spoilt_by: Option<&'static str>,
}

impl AskedQuestions {
    /// The questions as the contract names them, and what spoils it as the last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.questions.iter().map(|asked| asked.question.as_str()).chain(self.spoilt_by)
    }
}

/// A question and its answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Asked {
    /// The question, as the contract names it.
    pub question: String,
    /// How many it was asked to choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
    /// Which of these it is, a text or texts; null where it is none. Of claims only which there are, and whether one is what it is compared with; of a query's values only how many: they may be anybody's secrets.
    pub answer: Value,
    /// What tells it from other questions of that name, for who counts them.
    #[serde(skip)]
    pub key: u64,
}

/// What a path is known by. What is compared with, and every answer, is part of it in full.
pub(super) fn id(root: &Root<'_>, steps: &[Step]) -> Arc<str> {
    let parts: Vec<String> = std::iter::once(format!("{root:?}")).chain(steps.iter().map(|step| format!("{step:?}"))).collect();
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    digest::hex(&digest::of_parts(&parts)[..ID / 2]).into()
}

impl Asked {
    /// A question that was answered.
    pub(crate) fn of(question: &Question, answer: &Answer) -> Self {
        let mut key = DefaultHasher::new();
        question.hash(&mut key);
        let (of, answer) = match (question, answer) {
            (Question::At(windows, ..), Answer::Place(place)) => {
                (Some(windows.len()), place.map_or(Value::Null, |place| format!("window {}", place + 1).into()))
            }
            // Claims and values of a query are somebody's, whatever they are compared with.
            (Question::ClaimIs(_, choices) | Question::ClaimHas(_, choices) | Question::QueryLike(_, choices), Answer::Place(place)) => {
                (Some(choices.len()), place.map_or(Value::Null, |_| true.into()))
            }
            (question, Answer::Place(place)) => {
                let choices = question.choices();
                (Some(choices.len()), place.and_then(|place| choices.get(place)).map_or(Value::Null, |text| short(text).into()))
            }
            (_, Answer::Flag(flag)) => (None, Value::from(*flag)),
            (Question::Claim(_), Answer::Text(text)) => (None, Value::from(text.is_some())),
            (_, Answer::Text(text)) => (None, text.as_deref().map_or(Value::Null, |text| short(text).into())),
            (Question::Query(_), Answer::Texts(values)) => (None, Value::from(values.len())),
            (_, Answer::Texts(texts)) => (None, texts.iter().map(|text| short(text)).collect()),
            (_, Answer::Pairs(pairs)) => (None, json!(pairs.iter().map(|(name, _)| short(name)).collect::<Vec<_>>())),
        };
        Self { question: short(&question.to_string()), of, answer, key: key.finish() }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MOST_TOLD) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::AskedAbout;
    use super::*;
    use crate::contract::questions::Text;
    use crate::sight::Sight;

    #[test]
    fn what_is_told_is_short_and_no_secret_of_a_claim_or_a_query() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let pair = |name: &str, value: &str| (Box::from(name), Box::from(value));
        let told = |question: Question, answer: Answer| serde_json::to_value(Asked::of(&question, &answer)).unwrap();
        let groups = Question::InGroups(texts(&["admins", "ops"]));
        assert_eq!(told(groups.clone(), Answer::Place(Some(1))), json!({"question": "in-groups", "of": 2, "answer": "ops"}));
        assert_eq!(told(groups, Answer::Place(None)), json!({"question": "in-groups", "of": 2, "answer": null}));
        let name = |text: Option<&str>| told(Question::Get(Text::Name), Answer::Text(text.map(Box::from)));
        assert_eq!(name(Some("web")), json!({"question": "get name", "answer": "web"}));
        assert_eq!(name(None), json!({"question": "get name", "answer": null}));
        assert_eq!(name(Some(&"ä".repeat(300)))["answer"], "ä".repeat(200) + "…");
        assert_eq!(
            told(Question::At(vec![(1, 2), (5, 9)], 10, 0), Answer::Place(Some(0))),
            json!({"question": "at", "of": 2, "answer": "window 1"})
        );
        assert_eq!(told(Question::DryRun, Answer::Flag(true)), json!({"question": "dry-run", "answer": true}));
        assert_eq!(told(Question::Groups, Answer::Texts([Box::from("a")].into()))["answer"], json!(["a"]));
        let secret = "hunter2";
        for (question, answer, shown) in [
            (Question::ClaimIs("email".into(), texts(&["\"x\"", "\"hunter2\""])), Answer::Place(Some(1)), json!(true)),
            (Question::QueryLike("token".into(), texts(&["hunter2"])), Answer::Place(Some(0)), json!(true)),
            (Question::ClaimHas("email".into(), texts(&["\"hunter2\""])), Answer::Place(None), Value::Null),
            (Question::Claim("email".into()), Answer::Text(Some(secret.into())), json!(true)),
            (Question::Claims, Answer::Pairs([pair("email", secret)].into()), json!(["email"])),
            (Question::Query("token".into()), Answer::Texts([Box::from(secret)].into()), json!(1)),
            (Question::Queries, Answer::Pairs([pair("token", secret)].into()), json!(["token"])),
        ] {
            let told = told(question, answer);
            assert_eq!(told["answer"], shown);
            assert!(!told.to_string().contains(secret), "{told}");
        }
    }

    #[test]
    fn a_path_is_known_by_all_that_led_there() {
        let root = |cluster| Root { cluster, asked_about: AskedAbout::Request, sight: Sight::Bodies, caller: None };
        let step = |list: &[&str], place| {
            (Arc::new(Question::Is(Text::Verb, list.iter().map(|text| (*text).to_owned()).collect())), Answer::Place(place))
        };
        let known = |root: Root<'_>, steps: &[Step]| id(&root, steps);
        let one = known(root("a"), &[step(&["get", "list"], Some(0))]);
        assert_eq!(one, known(root("a"), &[step(&["get", "list"], Some(0))]), "it is the same in every gateway");
        assert_eq!(one.len(), ID);
        let others = [
            known(root("b"), &[step(&["get", "list"], Some(0))]),
            known(Root { asked_about: AskedAbout::Object, ..root("a") }, &[step(&["get", "list"], Some(0))]),
            known(Root { sight: Sight::Secret, ..root("a") }, &[step(&["get", "list"], Some(0))]),
            known(Root { caller: Some(("i", "n")), ..root("a") }, &[step(&["get", "list"], Some(0))]),
            known(root("a"), &[step(&["get", "list"], Some(1))]),
            known(root("a"), &[step(&["get", "watch"], Some(0))]),
            known(root("a"), &[step(&["get", "list"], Some(0)), step(&["get"], Some(0))]),
            known(root("a"), &[]),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(one != *other && !others[at + 1..].contains(other), "{at}");
        }
    }
}
