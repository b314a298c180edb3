//! An object held by the host, which a policy reads through a handle, as far as it was granted to see it.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::contract::canonical;
use crate::sight::{self, Sight};
use postern_mask::json::{self, Unreadable};
use postern_mask::path::{Path, normalized, normalized_length};

/// Most matches and most text one call gives back.
const MOST_MATCHES: usize = 10_000;
const MOST_TEXT: usize = 8 << 20;
const COMPARES_TOO_MUCH: &str = "it compares more than 10,000 matches or 8 MiB; ask for less";
/// Places that are looked for in an object before it is parsed.
const MOST_LOOKS: u32 = 4;
/// The longest object of which places are read without it being parsed: each is looked for from its beginning.
const LONGEST_SCANNED: usize = 128 << 10;

/// The body of a request, parsed when a policy first asks what is in it. What is said of one that cannot be read is what the policy fails with.
pub trait Body: fmt::Debug + Send + Sync {
    /// The object in it, for who reads all of it.
    fn value(&self) -> Result<&Arc<Value>, String>;
    /// The body, for who reads along one path only.
    fn value_along(&self, path: &Path) -> Result<&Arc<Value>, String>;
    /// Its bytes as they came.
    fn size(&self) -> Result<u64, String>;
}

/// An object of an answer, as it came. It is parsed when a policy first reads more of it than stands at places that are seen without.
#[derive(Debug)]
pub struct Object {
    text: Box<[u8]>,
    size: u64,
    parsed: OnceLock<Arc<Value>>,
    /// How often something was looked for in the text.
    looks: AtomicU32,
}

impl Object {
    /// Takes the text of one; an error where the parser would not take it.
    pub fn read(text: &[u8]) -> Result<Self, Unreadable> {
        json::check(text)?;
        Ok(Self { text: text.into(), size: text.len() as u64, parsed: OnceLock::new(), looks: AtomicU32::new(0) })
    }

    /// One that was put together, of what came in so many bytes.
    pub fn of(value: Value, size: u64) -> Self {
        Self { text: value.to_string().into_bytes().into(), size, parsed: Arc::new(value).into(), looks: AtomicU32::new(0) }
    }

    /// Whether it may be looked through again and again: that is done for questions that are remembered, under no deadline.
    pub(super) fn is_short(&self) -> bool {
        self.text.len() <= LONGEST_SCANNED
    }

    fn value(&self) -> &Arc<Value> {
        // What was checked is taken.
        self.parsed.get_or_init(|| Arc::new(serde_json::from_slice(&self.text).unwrap_or_default()))
    }

    /// Whether anything stands at a path of members.
    pub(super) fn has(&self, names: &[impl AsRef<str>]) -> bool {
        match self.written_at(names) {
            Some(found) => found.is_some(),
            None => self.built_at(names).is_some(),
        }
    }

    /// What stands at a path of members.
    pub(super) fn at(&self, names: &[impl AsRef<str>]) -> Option<Value> {
        match self.written_at(names) {
            Some(found) => found.and_then(|raw| serde_json::from_slice(raw).ok()),
            None => self.built_at(names).cloned(),
        }
    }

    /// What is written there; none once it is parsed, or had better be: whoever asks for more than a few places has the text passed again and again.
    fn written_at(&self, names: &[impl AsRef<str>]) -> Option<Option<&[u8]>> {
        let looks = self.parsed.get().is_none() && self.looks.fetch_add(1, Ordering::Relaxed) < MOST_LOOKS;
        if looks { json::at(&self.text, names).ok() } else { None }
    }

    fn built_at(&self, names: &[impl AsRef<str>]) -> Option<&Value> {
        names.iter().try_fold(self.value().as_ref(), |value, name| value.as_object()?.get(name.as_ref()))
    }
}

/// A Kubernetes object.
#[derive(Debug)]
pub struct Document {
    source: Source,
    sight: Sight,
    /// What of it the policy may see, made when it is first read: once for all handles of the same object.
    seen: Seen,
}

/// What of an object a policy may see.
pub(super) type Seen = Arc<OnceLock<Arc<Value>>>;

#[derive(Debug)]
enum Source {
    /// Parsed.
    Ready(Arc<Value>),
    /// The request's body, parsed when it is first read.
    Body(Arc<dyn Body>),
    /// An object of an answer.
    Object(Arc<Object>),
}

impl Document {
    /// An object that was parsed.
    pub(super) fn ready(object: Arc<Value>, sight: Sight, seen: Seen) -> Self {
        Self { source: Source::Ready(object), sight, seen }
    }

    /// An object of an answer.
    pub(super) fn object(object: Arc<Object>, sight: Sight) -> Self {
        Self { source: Source::Object(object), sight, seen: Seen::default() }
    }

    /// The body of a request. What it holds is known by what it is for: a patch may call itself a Secret, and kube-apiserver does not mind.
    pub(super) fn body(body: Arc<dyn Body>, sight: Sight) -> Self {
        let sight = if sight == Sight::Bodies { Sight::Whole } else { sight };
        Self { source: Source::Body(body), sight, seen: Seen::default() }
    }

    /// The object, for who reads all of it, or along one path.
    fn value(&self, along: Option<&Path>) -> Result<&Arc<Value>, wasmtime::Error> {
        let whole = match (&self.source, along) {
            (Source::Ready(value), _) => Ok(value),
            (Source::Object(object), _) => Ok(object.value()),
            (Source::Body(body), None) => body.value(),
            (Source::Body(body), Some(path)) => body.value_along(path),
        };
        let whole = whole.map_err(wasmtime::Error::msg)?;
        Ok(self.seen.get_or_init(|| sight::of(whole, self.sight)))
    }

    pub(super) fn get(&self, path: &str) -> Result<Option<String>, wasmtime::Error> {
        let path = self.compile(path)?;
        if let Some((object, names)) = self.plain(&path) {
            return Ok(object.at(&names).map(|value| value.to_string()));
        }
        Ok(path.first(self.value(Some(&path))?).map(Value::to_string))
    }

    pub(super) fn select(&self, path: &str) -> Result<Vec<(String, String)>, wasmtime::Error> {
        let (mut found, mut size, mut too_much) = (Vec::new(), 0, None);
        // What is over a limit is known before it is written.
        let path = self.compile(path)?;
        let _ = path.visit(self.value(Some(&path))?, &mut |at, value| {
            size += normalized_length(at);
            if found.len() >= MOST_MATCHES {
                // A policy that saw some of them would decide about what it did not see.
                too_much = Some("select matches more than 10,000 values; ask for less");
            } else if size <= MOST_TEXT {
                let text = value.to_string();
                size += text.len();
                found.push((normalized(at), text));
            }
            if size > MOST_TEXT {
                too_much = Some("select gives more than 8 MiB; ask for less");
            }
            if too_much.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        too_much.map_or(Ok(found), |why| Err(wasmtime::Error::msg(why)))
    }

    /// The first of these [`canonical`] texts that any match of a path is.
    pub(super) fn is(&self, path: &str, any_of: &[String]) -> Result<Option<usize>, wasmtime::Error> {
        let path = self.compile(path)?;
        if let Some((object, names)) = self.plain(&path) {
            return which(object, &names, any_of).map_err(wasmtime::Error::msg);
        }
        // By their texts: however many there are, each match is looked up once.
        let mut places = HashMap::new();
        for (at, one) in any_of.iter().enumerate() {
            places.entry(one).or_insert(at);
        }
        let (mut first, mut count, mut size) = (None, 0, 0);
        let _ = path.visit(self.value(Some(&path))?, &mut |_, value| {
            let text = canonical(value);
            (count, size) = (count + 1, size + text.len());
            first = places.get(&text).copied().into_iter().chain(first).min();
            let is_decided = first == Some(0) || count > MOST_MATCHES || size > MOST_TEXT;
            if is_decided { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if first != Some(0) && (count > MOST_MATCHES || size > MOST_TEXT) {
            return Err(wasmtime::Error::msg(COMPARES_TOO_MUCH));
        }
        Ok(first)
    }

    /// How many matches a path has.
    pub(super) fn matches(&self, path: &str) -> Result<u32, wasmtime::Error> {
        let path = self.compile(path)?;
        if let Some((object, names)) = self.plain(&path) {
            return Ok(object.has(&names).into());
        }
        let mut count = 0;
        let whole = path.visit(self.value(Some(&path))?, &mut |_, _| {
            count += 1;
            if count > MOST_MATCHES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match (whole, u32::try_from(count)) {
            (ControlFlow::Continue(()), Ok(count)) => Ok(count),
            _ => Err(wasmtime::Error::msg("it counts more than 10,000 matches; ask for less")),
        }
    }

    pub(super) fn json(&self) -> Result<String, wasmtime::Error> {
        Ok(self.value(None)?.to_string())
    }

    pub(super) fn size(&self) -> Result<u64, wasmtime::Error> {
        Ok(match &self.source {
            Source::Ready(value) => value.to_string().len() as u64,
            Source::Object(object) => object.size,
            Source::Body(body) => body.size().map_err(wasmtime::Error::msg)?,
        })
    }

    /// The object and the members on the way to what a path leads to, where that shows as it is and is seen without the rest.
    fn plain<'a>(&self, path: &'a Path) -> Option<(&Arc<Object>, Vec<&'a str>)> {
        let Source::Object(object) = &self.source else { return None };
        if !object.is_short() {
            return None;
        }
        let names = path.names().into_iter().collect::<Option<Vec<_>>>()?;
        self.sight.shows_as_it_is(&names).then_some((object, names))
    }

    /// What a question about a path may be remembered by; none where its answer depends on more than what stands there.
    pub(super) fn remembered_by(&self, path: &str) -> Option<Vec<String>> {
        let path = self.compile(path).ok()?;
        Some(self.plain(&path)?.1.into_iter().map(str::to_owned).collect())
    }

    /// A path that is none is the policy's fault, and the operation is not decided by a guess; nor by what the policy was not granted to see.
    fn compile(&self, path: &str) -> Result<Path, wasmtime::Error> {
        let path = Path::parse(path).map_err(|e| wasmtime::Error::msg(e.to_string()))?;
        match self.sight {
            Sight::Metadata if !sight::is_metadata(&path) => Err(wasmtime::Error::msg(
                "it reads more of an object than its metadata, and its manifest does not name the capability bodies",
            )),
            _ => Ok(path),
        }
    }
}

/// The first of these [`canonical`] texts that is what stands at a path of members.
pub(super) fn which(object: &Object, names: &[impl AsRef<str>], any_of: &[String]) -> Result<Option<usize>, &'static str> {
    let Some(text) = object.at(names).as_ref().map(canonical) else { return Ok(None) };
    let first = any_of.iter().position(|one| *one == text);
    if first != Some(0) && text.len() > MOST_TEXT { Err(COMPARES_TOO_MUCH) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A body that is this.
    #[derive(Debug)]
    struct Is(Arc<Value>);

    impl Body for Is {
        fn value(&self) -> Result<&Arc<Value>, String> {
            Ok(&self.0)
        }

        fn value_along(&self, _: &Path) -> Result<&Arc<Value>, String> {
            Ok(&self.0)
        }

        fn size(&self) -> Result<u64, String> {
            Ok(0)
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2..3i64).prop_map(Value::from),
            prop::sample::select(vec!["Secret", "ConfigMap", "red", ""]).prop_map(Value::from),
            Just(json!(0.5)),
        ];
        let name = prop::sample::select(vec!["kind", "metadata", "labels", "annotations", "data", "status", "token", "team"]);
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                4 => prop::collection::btree_map(name.clone(), inner.clone(), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
                1 => prop::collection::vec(inner, 0..3).prop_map(Value::Array),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        /// Whatever a policy may see of it: what is read at its place is what is read in the whole.
        #[test]
        fn an_object_that_is_not_built_reads_as_one_that_is(
            object in any_json(),
            names in prop::collection::vec(prop::sample::select(vec!["kind", "metadata", "labels", "annotations", "data", "status", "token", "team", "*"]), 1..4),
            sight in prop::sample::select(vec![Sight::Metadata, Sight::Bodies, Sight::Secret, Sight::Token, Sight::Whole]),
            is_read_before in any::<bool>(),
        ) {
            let path = format!("$.{}", names.join("."));
            let built = Document::ready(Arc::new(object.clone()), sight, Seen::default());
            let text = Arc::new(Object::read(object.to_string().as_bytes()).unwrap());
            if is_read_before {
                text.value();
            }
            let read = Document::object(text, sight);
            let said = |result: Result<String, wasmtime::Error>| result.map_err(|error| error.to_string());
            let any_of: Vec<String> = ["\"red\"", "1", "null", "{}", "\"\"", "\"postern-masked\""].map(str::to_owned).into();
            let all = |document: &Document| {
                [
                    said(document.get(&path).map(|text| format!("{text:?}"))),
                    said(document.is(&path, &any_of).map(|place| format!("{place:?}"))),
                    said(document.matches(&path).map(|count| count.to_string())),
                    said(document.select(&path).map(|found| format!("{found:?}"))),
                    said(document.json()),
                ]
            };
            prop_assert_eq!(all(&read), all(&built), "{} of {} as {:?}", path, object, sight);
            // What a memory goes by is what the policy was answered.
            if let Some(names) = read.remembered_by(&path) {
                let Source::Object(object) = &read.source else { panic!("it is one") };
                prop_assert_eq!(which(object, &names, &any_of).unwrap(), built.is(&path, &any_of).unwrap());
                prop_assert_eq!(u32::from(object.has(&names)), built.matches(&path).unwrap());
            }
        }
    }

    /// kube-apiserver takes a strategic merge patch of any kind and puts the right one in.
    #[test]
    fn what_a_body_calls_itself_hides_nothing_from_a_policy() {
        let read = |body: Value, sight, path: &str| Document::body(Arc::new(Is(Arc::new(body))), sight).get(path).unwrap();
        let patch = json!({"kind": "Secret", "rules": [{"verbs": ["*"]}]});
        assert_eq!(read(patch, Sight::Bodies, "$.rules[0].verbs[0]").as_deref(), Some(r#""*""#));
        let secret = json!({"kind": "Other", "stringData": {"a": "hunter2"}});
        assert_eq!(read(secret, Sight::Secret, "$.stringData.a").as_deref(), Some(r#""postern-masked""#));
    }
}
