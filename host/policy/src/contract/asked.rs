//! A question about an operation, as it is asked, and its answer: what a decision was based on. Questions that are equal are answered alike of operations that
//! are alike, whoever asks: a policy that runs, or what is remembered of it.

use std::borrow::Cow;
use std::fmt;

use super::PolicyOperation;
use super::questions::Text;
use crate::document::{Object, which};

/// A question about an operation that has an answer worth remembering. What an operation's id, its time or its command is has none: each is another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// Which of these groups the caller is in.
    InGroups(Vec<String>),
    /// Which of these a text is.
    Is(Text, Vec<String>),
    /// Which of these globs it matches.
    Like(Text, Vec<String>),
    /// Which of these globs a value of the query matches.
    QueryLike(String, Vec<String>),
    /// Which of these canonical JSON texts a claim is.
    ClaimIs(String, Vec<String>),
    /// Which of these it has among its elements.
    ClaimHas(String, Vec<String>),
    /// Whether there is a text.
    Has(Text),
    /// In which of these windows it was accepted.
    At(Vec<(u64, u64)>, u32, i32),
    /// Whether nothing is to be changed.
    DryRun,
    /// Whether approvals were given.
    Approved,
    /// Whether it opens a stream into a container.
    IsCommand,
    /// A text.
    Get(Text),
    /// The caller's groups.
    Groups,
    /// A claim.
    Claim(String),
    /// All of them.
    Claims,
    /// The values of a key of the query.
    Query(String),
    /// The query.
    Queries,
    /// Which of these canonical JSON texts stands at a path of members in the object that is asked about.
    ObjectIs(Vec<String>, Vec<String>),
    /// How many values a path of members has there: one or none.
    ObjectMatches(Vec<String>),
}

/// What an operation answers: its own texts are not copied.
#[derive(Debug)]
pub(crate) enum Answered<'a> {
    /// Which of a list, or none.
    Place(Option<usize>),
    /// Yes or no.
    Flag(bool),
    /// A text, or none.
    Text(Option<Cow<'a, str>>),
    /// Several.
    Texts(Vec<&'a str>),
    /// Several, each with its name.
    Pairs(&'a [(String, String)]),
}

/// The same, kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// Which of a list, or none.
    Place(Option<usize>),
    /// Yes or no.
    Flag(bool),
    /// A text, or none.
    Text(Option<Box<str>>),
    /// Several.
    Texts(Box<[Box<str>]>),
    /// Several, each with its name.
    Pairs(Box<[(Box<str>, Box<str>)]>),
}

/// As the contract names it, with what it is about and without what it is compared with.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InGroups(_) => f.write_str("in-groups"),
            Self::Is(what, _) => write!(f, "is {}", what.name()),
            Self::Like(what, _) => write!(f, "like {}", what.name()),
            Self::QueryLike(key, _) => write!(f, "query-like {key}"),
            Self::ClaimIs(name, _) => write!(f, "claim-is {name}"),
            Self::ClaimHas(name, _) => write!(f, "claim-has {name}"),
            Self::Has(what) => write!(f, "has {}", what.name()),
            Self::At(..) => f.write_str("at"),
            Self::DryRun => f.write_str("dry-run"),
            Self::Approved => f.write_str("approved"),
            Self::IsCommand => f.write_str("is-command"),
            Self::Get(what) => write!(f, "get {}", what.name()),
            Self::Groups => f.write_str("groups"),
            Self::Claim(name) => write!(f, "claim {name}"),
            Self::Claims => f.write_str("claims"),
            Self::Query(key) => write!(f, "query {key}"),
            Self::Queries => f.write_str("queries"),
            Self::ObjectIs(names, _) => write!(f, "document.is $.{}", names.join(".")),
            Self::ObjectMatches(names) => write!(f, "document.matches $.{}", names.join(".")),
        }
    }
}

impl Question {
    /// What an operation answers, and the object of its answer that is asked about. An error is a question that cannot be asked.
    pub(crate) fn answer<'a>(&self, of: &'a PolicyOperation, object: Option<&Object>) -> Result<Answered<'a>, &'static str> {
        let object = || object.ok_or("there is no object");
        Ok(match self {
            Self::InGroups(any_of) => Answered::Place(of.in_groups(any_of)),
            Self::Is(what, any_of) => Answered::Place(of.is(*what, any_of)),
            Self::Like(what, globs) => Answered::Place(of.like(*what, globs)),
            Self::QueryLike(key, globs) => Answered::Place(of.query_like(key, globs)),
            Self::ClaimIs(name, any_of) => Answered::Place(of.claim_is(name, any_of)),
            Self::ClaimHas(name, any_of) => Answered::Place(of.claim_has(name, any_of)),
            Self::Has(what) => Answered::Flag(of.text(*what).is_some()),
            Self::At(windows, period, offset) => Answered::Place(of.at(windows, *period, *offset)?),
            Self::DryRun => Answered::Flag(of.is_dry_run()),
            Self::Approved => Answered::Flag(of.is_approved()),
            Self::IsCommand => Answered::Flag(of.command().is_some()),
            Self::Get(what) => Answered::Text(of.text(*what)),
            Self::Groups => Answered::Texts(of.groups().iter().map(String::as_str).collect()),
            Self::Claim(name) => Answered::Text(of.claim(name).map(Cow::Borrowed)),
            Self::Claims => Answered::Pairs(of.claims()),
            Self::Query(key) => Answered::Texts(of.query(key).collect()),
            Self::Queries => Answered::Pairs(of.queries()),
            Self::ObjectIs(names, any_of) => Answered::Place(which(object()?, names, any_of)?),
            Self::ObjectMatches(names) => Answered::Flag(object()?.has(names)),
        })
    }

    /// The texts of which one is the answer; none where it is asked for something else.
    pub(crate) fn choices(&self) -> &[String] {
        match self {
            Self::InGroups(list)
            | Self::Is(_, list)
            | Self::Like(_, list)
            | Self::QueryLike(_, list)
            | Self::ClaimIs(_, list)
            | Self::ClaimHas(_, list)
            | Self::ObjectIs(_, list) => list,
            _ => &[],
        }
    }

    /// Bytes of what it asks about.
    pub(crate) fn size(&self) -> usize {
        let texts = |list: &[String]| list.iter().map(|text| size_of::<String>() + text.len()).sum::<usize>();
        size_of::<Self>()
            + match self {
                Self::InGroups(list) | Self::Is(_, list) | Self::Like(_, list) => texts(list),
                Self::QueryLike(name, list) | Self::ClaimIs(name, list) | Self::ClaimHas(name, list) => name.len() + texts(list),
                Self::At(windows, ..) => size_of_val(windows.as_slice()),
                Self::Claim(name) | Self::Query(name) => name.len(),
                Self::ObjectIs(names, list) => texts(names) + texts(list),
                Self::ObjectMatches(names) => texts(names),
                _ => 0,
            }
    }
}

impl Answered<'_> {
    /// Whether it is an answer that was kept.
    pub(crate) fn is(&self, kept: &Answer) -> bool {
        match (self, kept) {
            (Self::Place(place), Answer::Place(kept)) => place == kept,
            (Self::Flag(flag), Answer::Flag(kept)) => flag == kept,
            (Self::Text(text), Answer::Text(kept)) => text.as_deref() == kept.as_deref(),
            (Self::Texts(texts), Answer::Texts(kept)) => texts.iter().copied().eq(kept.iter().map(|text| &**text)),
            (Self::Pairs(pairs), Answer::Pairs(kept)) => {
                pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(kept.iter().map(|(name, value)| (&**name, &**value)))
            }
            _ => false,
        }
    }

    /// The answer, to be kept.
    pub(crate) fn kept(&self) -> Answer {
        match self {
            Self::Place(place) => Answer::Place(*place),
            Self::Flag(flag) => Answer::Flag(*flag),
            Self::Text(text) => Answer::Text(text.as_deref().map(Into::into)),
            Self::Texts(texts) => Answer::Texts(texts.iter().map(|text| Box::from(*text)).collect()),
            Self::Pairs(pairs) => Answer::Pairs(pairs.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()),
        }
    }
}

impl Answer {
    /// Bytes of its texts.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Place(_) | Self::Flag(_) | Self::Text(None) => 0,
            Self::Text(Some(text)) => text.len(),
            Self::Texts(texts) => texts.iter().map(|text| size_of::<Box<str>>() + text.len()).sum(),
            Self::Pairs(pairs) => pairs.iter().map(|(name, value)| 2 * size_of::<Box<str>>() + name.len() + value.len()).sum(),
        }
    }
}
