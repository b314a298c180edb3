//! What a policy is asked about. Each method asks the host one question: what a policy did not ask, its verdict was not based on.

use serde_json::Value;

use crate::{Command, Document, Surrounding, Text};

/// An operation, its body, and what the host offers.
pub struct Request<'a> {
    /// Who asks.
    pub caller: Caller<'a>,
    body: Option<Document<'a>>,
    asked: Asked<'a>,
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    asked: Asked<'a>,
}

/// In WebAssembly what answers is known when a policy is built: the module then imports what the policy calls, and no more.
#[cfg(target_arch = "wasm32")]
type Asked<'a> = &'a crate::guest::Contract<'a>;
#[cfg(not(target_arch = "wasm32"))]
type Asked<'a> = &'a dyn Host;

/// What is added to a counter.
#[derive(Clone, Copy)]
pub enum Amount<'a> {
    /// So much; 0 asks, and adds nothing.
    Number(u64),
    /// The bytes of an object, as it came.
    SizeOf(&'a Document<'a>),
    /// How many matches a path has in an object.
    Matches(&'a Document<'a>, &'a str),
}

impl From<u64> for Amount<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// What the host answers: behind the methods of [`Request`].
#[doc(hidden)]
pub trait Host {
    fn in_groups(&self, any_of: &[&str]) -> Option<u32>;
    fn is(&self, what: Text, any_of: &[&str]) -> Option<u32>;
    fn like(&self, what: Text, globs: &[&str]) -> Option<u32>;
    fn query_like(&self, key: &str, globs: &[&str]) -> Option<u32>;
    fn claim_is(&self, name: &str, any_of: &[&str]) -> Option<u32>;
    fn claim_has(&self, name: &str, any_of: &[&str]) -> Option<u32>;
    fn has(&self, what: Text) -> bool;
    fn at(&self, windows: &[(u64, u64)], period: u32, offset: i32) -> Option<u32>;
    fn dry_run(&self) -> bool;
    fn approved(&self) -> bool;
    fn is_command(&self) -> bool;
    fn get(&self, what: Text) -> Option<String>;
    fn groups(&self) -> Vec<String>;
    fn claim(&self, name: &str) -> Option<String>;
    fn claims(&self) -> Vec<(String, String)>;
    fn query(&self, key: &str) -> Vec<String>;
    fn queries(&self) -> Vec<(String, String)>;
    fn command(&self) -> Option<Command>;
    fn id(&self) -> String;
    fn received_at(&self) -> u64;
    fn look_around(&self, which: Surrounding) -> Option<Document<'static>>;
    fn annotate(&self, key: &str, value: &str);
    fn count(&self, key: &str, amount: u64, window_seconds: u32) -> u64;
    fn spend(&self, name: &str, amount: Amount<'_>, window_seconds: u32, limits: &[u64]) -> u32;
}

/// The most entries of a list that the host is asked about at once.
const MOST_ASKED: usize = 1_000;

/// Asks about a list, a part of a long one at a time; an empty one fits nothing, and is not asked about.
pub(crate) fn first_of<S: AsRef<str>>(list: &[S], ask: impl Fn(&[&str]) -> Option<u32>) -> Option<usize> {
    list.chunks(MOST_ASKED).enumerate().find_map(|(part, list)| {
        let texts: Vec<&str> = list.iter().map(AsRef::as_ref).collect();
        ask(&texts).map(|at| part * MOST_ASKED + at as usize)
    })
}

/// The same for values, which the host takes as JSON texts.
fn first_value<V: Clone + Into<Value>>(list: &[V], ask: impl Fn(&[&str]) -> Option<u32>) -> Option<usize> {
    let texts: Vec<String> = list.iter().map(|value| value.clone().into().to_string()).collect();
    first_of(&texts, ask)
}

impl<'a> Request<'a> {
    #[doc(hidden)]
    pub fn new(asked: Asked<'a>, body: Option<Document<'a>>) -> Self {
        Self { caller: Caller { asked }, body, asked }
    }

    /// The body, where the request has one. A body that cannot be decoded traps when it is read: the operation is then refused.
    pub fn body(&self) -> Option<&Document<'a>> {
        self.body.as_ref()
    }

    /// Whether a text is one of these.
    pub fn is<S: AsRef<str>>(&self, what: Text, any_of: &[S]) -> bool {
        self.which(what, any_of).is_some()
    }

    /// Which of these a text is.
    pub fn which<S: AsRef<str>>(&self, what: Text, any_of: &[S]) -> Option<usize> {
        first_of(any_of, |list| self.asked.is(what, list))
    }

    /// The first of these that a text matches: `*` stands for any characters, for none and for `/` too.
    pub fn like<S: AsRef<str>>(&self, what: Text, globs: &[S]) -> Option<usize> {
        first_of(globs, |list| self.asked.like(what, list))
    }

    /// Whether there is such a text.
    pub fn has(&self, what: Text) -> bool {
        self.asked.has(what)
    }

    /// A text. [`is`](Self::is) and [`like`](Self::like) say less, and that is all a verdict is then based on.
    pub fn get(&self, what: Text) -> Option<String> {
        self.asked.get(what)
    }

    /// `get`, `list`, `create`, `delete`; a lower-case HTTP method where no resource is addressed.
    pub fn verb(&self) -> String {
        self.get(Text::Verb).unwrap_or_default()
    }

    /// `pods`, `pods/exec`; empty where no resource is addressed.
    pub fn resource(&self) -> String {
        self.get(Text::Kind).unwrap_or_default()
    }

    /// The namespace addressed; none for what has none and for lists over all of them.
    pub fn namespace(&self) -> Option<String> {
        self.get(Text::Namespace)
    }

    /// The object's name; none for lists.
    pub fn object_name(&self) -> Option<String> {
        self.get(Text::Name)
    }

    /// The normalised path.
    pub fn path(&self) -> String {
        self.get(Text::Path).unwrap_or_default()
    }

    /// The first value of a query parameter: where there are several kube-apiserver takes this one.
    pub fn query_value(&self, key: &str) -> Option<String> {
        self.query_values(key).into_iter().next()
    }

    /// Every value of a query parameter.
    pub fn query_values(&self, key: &str) -> Vec<String> {
        self.asked.query(key)
    }

    /// The query, in order, keys repeated as they came.
    pub fn query(&self) -> Vec<(String, String)> {
        self.asked.queries()
    }

    /// The first of these that any value of a query parameter matches: to refuse by one, not to let pass by it.
    pub fn query_like<S: AsRef<str>>(&self, key: &str, globs: &[S]) -> Option<usize> {
        first_of(globs, |list| self.asked.query_like(key, list))
    }

    /// The first window [from, until) in which the request was accepted, in seconds since 1970 in UTC with `offset` added; with a `period` they begin anew each time
    /// so many seconds have passed.
    pub fn at(&self, windows: &[(u64, u64)], period: u32, offset: i32) -> Option<usize> {
        windows
            .chunks(MOST_ASKED)
            .enumerate()
            .find_map(|(part, windows)| self.asked.at(windows, period, offset).map(|at| part * MOST_ASKED + at as usize))
    }

    /// When the gateway accepted the request, in Unix milliseconds. [`at`](Self::at) says less.
    pub fn received_at(&self) -> u64 {
        self.asked.received_at()
    }

    /// Whether kube-apiserver is asked to change nothing, and would obey.
    pub fn dry_run(&self) -> bool {
        self.asked.dry_run()
    }

    /// Whether approvals were asked for, and given: true in on_object and on_chunk of an operation that waited.
    pub fn approved(&self) -> bool {
        self.asked.approved()
    }

    /// Whether it opens a stream into a container: exec and attach.
    pub fn is_command(&self) -> bool {
        self.asked.is_command()
    }

    /// What opens a stream into a container; none for everything but exec and attach.
    pub fn command(&self) -> Option<Command> {
        self.asked.command()
    }

    /// The id of its audit events.
    pub fn id(&self) -> String {
        self.asked.id()
    }

    /// One of the objects that the policy's `needs` name; none where there is no such object.
    pub fn around(&self, which: Surrounding) -> Option<Document<'static>> {
        self.asked.look_around(which)
    }

    /// Whether the caller is in one of these groups.
    pub fn is_in<S: AsRef<str>>(&self, groups: &[S]) -> bool {
        self.caller.is_in(groups)
    }

    /// A verified claim of the caller's token.
    pub fn claim(&self, name: &str) -> Option<Value> {
        self.caller.claim(name)
    }

    /// Adds a fact to the audit event: never a secret.
    pub fn annotate(&self, key: &str, value: impl AsRef<str>) {
        self.asked.annotate(key, value.as_ref());
    }

    /// Adds to a counter and returns what was counted in the last `window_seconds`; 0 asks without counting.
    pub fn count(&self, key: &str, amount: u64, window_seconds: u32) -> u64 {
        self.asked.count(key, amount, window_seconds)
    }

    /// Adds to a counter of that name that is the caller's own, and says how many of the limits, each larger than the one before, what was added in the last
    /// `window_seconds` is over.
    pub fn spend<'d>(&self, name: &str, amount: impl Into<Amount<'d>>, window_seconds: u32, limits: &[u64]) -> usize {
        self.asked.spend(name, amount.into(), window_seconds, limits) as usize
    }
}

impl Caller<'_> {
    /// Whether the caller is in one of these groups.
    pub fn is_in<S: AsRef<str>>(&self, groups: &[S]) -> bool {
        self.group_of(groups).is_some()
    }

    /// Which of these groups the caller is in, the first of them.
    pub fn group_of<S: AsRef<str>>(&self, groups: &[S]) -> Option<usize> {
        first_of(groups, |list| self.asked.in_groups(list))
    }

    /// The name of the caller, used for audit and for Kubernetes.
    pub fn username(&self) -> String {
        self.asked.get(Text::Username).unwrap_or_default()
    }

    /// The verified issuer of the caller's credential.
    pub fn issuer(&self) -> String {
        self.asked.get(Text::Issuer).unwrap_or_default()
    }

    /// The groups that the caller's claims or certificate give.
    pub fn groups(&self) -> Vec<String> {
        self.asked.groups()
    }

    /// A verified claim of the caller's token; none of one that the token has twice.
    pub fn claim(&self, name: &str) -> Option<Value> {
        serde_json::from_str(&self.asked.claim(name)?).ok()
    }

    /// Which of these a claim is.
    pub fn claim_is<V: Clone + Into<Value>>(&self, name: &str, any_of: &[V]) -> Option<usize> {
        first_value(any_of, |list| self.asked.claim_is(name, list))
    }

    /// Which of these a claim that is a list has, the first of them.
    pub fn claim_has<V: Clone + Into<Value>>(&self, name: &str, any_of: &[V]) -> Option<usize> {
        first_value(any_of, |list| self.asked.claim_has(name, list))
    }

    /// All claims of the caller's token, as JSON texts; none of a client certificate.
    pub fn claims(&self) -> Vec<(String, String)> {
        self.asked.claims()
    }
}
