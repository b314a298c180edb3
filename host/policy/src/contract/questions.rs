//! What a policy may ask about an operation: one answer to each question, whoever asks it.

use std::borrow::Cow;

use serde_json::Value;

use super::PolicyOperation;
use super::v0_1::types::{Command, Target};

/// The most entries of a list that is asked about, and bytes of their texts. The host looks through it, and no deadline ends what the host does.
const MOST_ASKED: usize = 1_000;
const MOST_TEXT: usize = 1 << 20;

/// A text of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// The verb.
    Verb,
    /// The resource, with its subresource where there is one.
    Kind,
    /// The API group.
    ApiGroup,
    /// The API version.
    ApiVersion,
    /// The resource in the plural.
    Resource,
    /// The subresource.
    Subresource,
    /// The namespace.
    Namespace,
    /// The object's name.
    Name,
    /// Namespace and name.
    Place,
    /// The normalised path.
    Path,
    /// The name of the cluster.
    Cluster,
    /// The caller's name.
    Username,
    /// The issuer of the caller's credential.
    Issuer,
    /// The container that a command is for.
    Container,
}

impl Text {
    /// As the contract names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Verb => "verb",
            Self::Kind => "kind",
            Self::ApiGroup => "api-group",
            Self::ApiVersion => "api-version",
            Self::Resource => "resource",
            Self::Subresource => "subresource",
            Self::Namespace => "namespace",
            Self::Name => "name",
            Self::Place => "place",
            Self::Path => "path",
            Self::Cluster => "cluster",
            Self::Username => "username",
            Self::Issuer => "issuer",
            Self::Container => "container",
        }
    }
}

/// That a list has no more entries than may be asked about.
pub(crate) fn few<T>(list: &[T]) -> Result<(), &'static str> {
    if list.len() > MOST_ASKED { Err("a list of more than 1,000 entries is asked about; ask for less") } else { Ok(()) }
}

/// That texts are not more, nor longer together, than what may be asked about.
pub(crate) fn bounded(texts: &[String]) -> Result<(), &'static str> {
    if texts.iter().map(String::len).sum::<usize>() > MOST_TEXT {
        return Err("more than 1 MiB of texts is asked about; ask for less");
    }
    few(texts)
}

/// JSON texts in their [`canonical`] form.
pub(crate) fn values(texts: &[String]) -> Result<Vec<String>, String> {
    let read = |text: &String| match serde_json::from_str(text) {
        Ok(value) => Ok(canonical(&value)),
        Err(error) => Err(format!("what is asked about is no JSON text: {error}")),
    };
    bounded(texts)?;
    texts.iter().map(read).collect()
}

/// A value in the one form in which it is compared: without blanks, members by name, and numbers that are the same written the same. `1`, `1.0` and `1e0` are one
/// number, and so are `0` and `-0`: kube-apiserver takes either for an integer where one is expected.
pub(crate) fn canonical(value: &Value) -> String {
    let list = |parts: Vec<String>| parts.join(",");
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < i64::MAX as f64 => (float as i64).to_string(),
            (None, Some(float)) => float.to_string(),
            _ => number.to_string(),
        },
        Value::Array(elements) => format!("[{}]", list(elements.iter().map(canonical).collect())),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), canonical(value));
            format!("{{{}}}", list(members.iter().map(member).collect()))
        }
        other => other.to_string(),
    }
}

impl PolicyOperation {
    /// A text, where there is one.
    pub(crate) fn text(&self, what: Text) -> Option<Cow<'_, str>> {
        let of = &self.0;
        let target = of.target.as_ref();
        Some(match what {
            Text::Verb => of.verb.as_str().into(),
            Text::Kind => kind(target?),
            Text::ApiGroup => target?.api_group.as_str().into(),
            Text::ApiVersion => target?.api_version.as_str().into(),
            Text::Resource => target?.resource.as_str().into(),
            Text::Subresource => target?.subresource.as_deref()?.into(),
            Text::Namespace => target?.namespace.as_deref()?.into(),
            Text::Name => target?.name.as_deref()?.into(),
            Text::Place => place(target?)?,
            Text::Path => of.path.as_str().into(),
            Text::Cluster => of.cluster.as_str().into(),
            Text::Username => of.caller.username.as_str().into(),
            Text::Issuer => of.caller.issuer.as_str().into(),
            Text::Container => of.command.as_ref()?.container.as_deref()?.into(),
        })
    }

    /// The first of the groups that the caller is in.
    pub(crate) fn in_groups(&self, any_of: &[String]) -> Option<usize> {
        any_of.iter().position(|group| self.groups().contains(group))
    }

    /// The first that a text is.
    pub(crate) fn is(&self, what: Text, any_of: &[String]) -> Option<usize> {
        let text = self.text(what)?;
        any_of.iter().position(|one| *one == *text)
    }

    /// The first glob that a text matches.
    pub(crate) fn like(&self, what: Text, globs: &[String]) -> Option<usize> {
        let text = self.text(what)?;
        globs.iter().position(|glob| Glob::new(glob).matches(&text))
    }

    /// The first glob that any value of a key of the query matches.
    pub(crate) fn query_like(&self, key: &str, globs: &[String]) -> Option<usize> {
        let values: Vec<&str> = self.query(key).collect();
        globs.iter().position(|glob| {
            let glob = Glob::new(glob);
            values.iter().any(|value| glob.matches(value))
        })
    }

    /// The first [`canonical`] text that a claim is.
    pub(crate) fn claim_is(&self, name: &str, any_of: &[String]) -> Option<usize> {
        let claim = canonical(&serde_json::from_str(self.claim(name)?).ok()?);
        any_of.iter().position(|one| *one == claim)
    }

    /// The first [`canonical`] text that a claim has among its elements.
    pub(crate) fn claim_has(&self, name: &str, any_of: &[String]) -> Option<usize> {
        let elements: Vec<Value> = serde_json::from_str(self.claim(name)?).ok()?;
        let elements: Vec<String> = elements.iter().map(canonical).collect();
        any_of.iter().position(|one| elements.contains(one))
    }

    /// The first window in which the request was accepted.
    pub(crate) fn at(&self, windows: &[(u64, u64)], period: u32, offset: i32) -> Result<Option<usize>, &'static str> {
        let latest = u64::from(period);
        if period > 0 && windows.iter().any(|&(from, until)| from >= latest || until > latest) {
            return Err("a window goes beyond its period; one that ends before it begins goes on into the next");
        }
        let shifted = i128::from(self.0.received_at / 1000) + i128::from(offset);
        let now = if period == 0 { shifted } else { shifted.rem_euclid(i128::from(period)) };
        Ok(windows.iter().position(|&(from, until)| {
            let (has_begun, has_ended) = (now >= i128::from(from), now >= i128::from(until));
            // One that ends before it begins goes over the end of the period.
            if until < from && period > 0 { has_begun || !has_ended } else { has_begun && !has_ended }
        }))
    }

    /// Whether nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.0.dry_run
    }

    /// What opens a stream into a container.
    pub(crate) fn command(&self) -> Option<&Command> {
        self.0.command.as_ref()
    }

    /// A claim as JSON text. Of one that is there twice none is told: which of them holds nobody could say.
    pub(crate) fn claim(&self, name: &str) -> Option<&str> {
        let mut found = self.claims().iter().filter(|(key, _)| key == name);
        let (_, claim) = found.next()?;
        found.next().is_none().then_some(claim.as_str())
    }

    /// All claims.
    pub(crate) fn claims(&self) -> &[(String, String)] {
        &self.0.caller.claims
    }

    /// The values of a key of the query.
    pub(crate) fn query(&self, key: &str) -> impl Iterator<Item = &str> {
        self.queries().iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The query.
    pub(crate) fn queries(&self) -> &[(String, String)] {
        &self.0.query
    }

    /// The id of its audit events.
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// Unix milliseconds at which it was accepted.
    pub(crate) fn received_at(&self) -> u64 {
        self.0.received_at
    }
}

fn kind(target: &Target) -> Cow<'_, str> {
    match &target.subresource {
        Some(subresource) => format!("{}/{subresource}", target.resource).into(),
        None => target.resource.as_str().into(),
    }
}

fn place(target: &Target) -> Option<Cow<'_, str>> {
    let (namespace, name) = (target.namespace.as_deref(), target.name.as_deref());
    (namespace.is_some() || name.is_some()).then(|| format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default()).into())
}

/// A text with stars in it. A star is the only sign that stands for anything else than itself: for any characters, and for none.
struct Glob<'a> {
    /// What comes before the first star, and after the last; one that has none is this alone.
    first: &'a str,
    last: Option<&'a str>,
    /// What comes between them.
    middle: Vec<&'a str>,
    /// Bytes that stand for themselves.
    literal: usize,
}

impl<'a> Glob<'a> {
    fn new(glob: &'a str) -> Self {
        let literal = glob.len() - glob.matches('*').count();
        let Some((first, rest)) = glob.split_once('*') else { return Self { first: glob, last: None, middle: Vec::new(), literal } };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        Self { first, last: Some(last), middle: middle.split('*').filter(|piece| !piece.is_empty()).collect(), literal }
    }

    /// Whether a text is that, from its beginning to its end. Pieces are looked for from the left, each where it comes first: one pass, whatever the glob.
    fn matches(&self, text: &str) -> bool {
        let Some(last) = self.last else { return self.first == text };
        if self.literal > text.len() {
            return false;
        }
        let rest = text.strip_prefix(self.first).and_then(|rest| rest.strip_suffix(last));
        rest.is_some_and(|rest| self.middle.iter().try_fold(rest, |rest, piece| Some(rest.split_once(piece)?.1)).is_some())
    }
}

#[cfg(test)]
mod tests;
