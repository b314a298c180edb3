//! For tests: operations put together natively, without WebAssembly and without a gateway.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use crate::document::same;
use crate::{Amount, Channel, ChunkVerdict, Command, Document, Host, Policy, Request, Surrounding, Text, Verdict, glob};

/// An operation, whose fields a test can set.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The id of its audit events.
    pub id: String,
    /// The name of the cluster.
    pub cluster: String,
    /// Unix milliseconds at which the gateway accepted it.
    pub received_at: u64,
    /// Who asks.
    pub caller: Caller,
    /// The verb.
    pub verb: String,
    /// The resource addressed; none where there is none.
    pub target: Option<Target>,
    /// The normalised path.
    pub path: String,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    /// What opens a stream into a container.
    pub command: Option<Command>,
    /// Whether approvals were given.
    pub approved: bool,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name.
    pub username: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The verified issuer.
    pub issuer: String,
    /// Verified claims, as JSON texts.
    pub claims: Vec<(String, String)>,
}

/// What an operation addresses.
#[derive(Clone, Debug)]
pub struct Target {
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The API version.
    pub api_version: String,
    /// The resource in the plural.
    pub resource: String,
    /// The subresource.
    pub subresource: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: Option<String>,
}

/// A policy configured with settings, as JSON text.
pub fn policy<P: Policy>(settings: &str) -> Result<P, String> {
    crate::configure(settings)
}

/// An operation of `ann`, who is in no group, in the namespace `default`. Resources are written `pods`, `pods/exec`, `deployments.apps`.
pub fn operation(verb: &str, resource: &str) -> Given {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(r, s)| (r, Some(s.to_owned())));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    Given {
        operation: Operation {
            id: "test".into(),
            cluster: "test".into(),
            received_at: 1_767_225_600_000,
            caller: Caller { username: "ann".into(), groups: Vec::new(), issuer: "https://issuer.example".into(), claims: Vec::new() },
            verb: verb.into(),
            target: Some(Target {
                api_group: group.into(),
                api_version: "v1".into(),
                resource: resource.into(),
                subresource,
                namespace: Some("default".into()),
                name: None,
            }),
            path: "/".into(),
            query: Vec::new(),
            dry_run: false,
            command: None,
            approved: false,
        },
        body: None,
        around: Vec::new(),
        kept: Rc::default(),
    }
}

/// A command run in the pod `web`.
pub fn exec(argv: &[&str]) -> Given {
    let mut given = operation("create", "pods/exec").named("web");
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    given.operation.command = Some(Command { container: None, argv, stdin: false, tty: false });
    given
}

/// An operation and what is around it.
#[derive(Clone)]
pub struct Given {
    /// The operation; its fields can be set.
    pub operation: Operation,
    body: Option<Value>,
    around: Vec<(Surrounding, Value)>,
    kept: Rc<Kept>,
}

#[derive(Default)]
struct Kept {
    counters: RefCell<BTreeMap<(String, u32), u64>>,
    annotations: RefCell<Vec<(String, String)>>,
}

impl Given {
    fn change(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// The object's name.
    pub fn named(&self, name: &str) -> Self {
        self.change(|g| g.target().name = Some(name.into()))
    }

    /// In a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        self.change(|g| g.target().namespace = Some(namespace.into()))
    }

    /// In no namespace, or over all of them.
    pub fn everywhere(&self) -> Self {
        self.change(|g| g.target().namespace = None)
    }

    /// By a caller in these groups.
    pub fn by(&self, username: &str, groups: &[&str]) -> Self {
        self.change(|g| {
            g.operation.caller.username = username.into();
            g.operation.caller.groups = groups.iter().map(|group| (*group).into()).collect();
        })
    }

    /// With a parameter in its query.
    pub fn query(&self, key: &str, value: &str) -> Self {
        self.change(|g| g.operation.query.push((key.into(), value.into())))
    }

    /// As a dry run.
    pub fn dry_run(&self) -> Self {
        self.change(|g| g.operation.dry_run = true)
    }

    /// After an approval was given.
    pub fn approved(&self) -> Self {
        self.change(|g| g.operation.approved = true)
    }

    /// At a time, in Unix milliseconds.
    pub fn at(&self, milliseconds: u64) -> Self {
        self.change(|g| g.operation.received_at = milliseconds)
    }

    /// With a body.
    pub fn body(&self, body: Value) -> Self {
        self.change(|g| g.body = Some(body))
    }

    /// With one of the objects that the policy needs to know.
    pub fn around(&self, which: Surrounding, object: Value) -> Self {
        self.change(|g| g.around.push((which, object)))
    }

    fn target(&mut self) -> &mut Target {
        self.operation.target.as_mut().expect("the operation addresses a resource")
    }

    /// What the policy answers, whether its rules match or not.
    pub fn ask<P: Policy>(&self, policy: &P) -> Verdict {
        policy.on_request(&Request::new(self, self.body.clone().map(Document::Native)))
    }

    /// What it answers for an object that comes back.
    pub fn ask_object<P: Policy>(&self, policy: &P, object: Value) -> Verdict {
        policy.on_object(&Request::new(self, None), &Document::Native(object))
    }

    /// What it answers for a piece of output.
    pub fn ask_chunk<P: Policy>(&self, policy: &P, channel: Channel, data: &[u8]) -> ChunkVerdict {
        policy.on_chunk(&Request::new(self, None), channel, data)
    }

    /// The facts policies have left on this operation and on those made of it.
    pub fn annotations(&self) -> Vec<(String, String)> {
        self.kept.annotations.borrow().clone()
    }
}

impl Given {
    fn values_of_claim(&self, name: &str) -> Option<Value> {
        serde_json::from_str(&Host::claim(self, name)?).ok()
    }
}

fn position<T>(list: &[T], fits: impl FnMut(&T) -> bool) -> Option<u32> {
    list.iter().position(fits).map(|at| at as u32)
}

/// A value that is asked about.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text} is no JSON text: {error}"))
}

/// What the host answers. Counters are shared by an operation and those made of it; their windows never end.
impl Host for Given {
    fn in_groups(&self, any_of: &[&str]) -> Option<u32> {
        position(any_of, |group| self.operation.caller.groups.iter().any(|own| own == group))
    }

    fn is(&self, what: Text, any_of: &[&str]) -> Option<u32> {
        let text = self.get(what)?;
        position(any_of, |one| *one == text)
    }

    fn like(&self, what: Text, globs: &[&str]) -> Option<u32> {
        let text = self.get(what)?;
        position(globs, |pattern| glob(pattern, &text))
    }

    fn query_like(&self, key: &str, globs: &[&str]) -> Option<u32> {
        let values = Host::query(self, key);
        position(globs, |pattern| values.iter().any(|value| glob(pattern, value)))
    }

    fn claim_is(&self, name: &str, any_of: &[&str]) -> Option<u32> {
        let claim = self.values_of_claim(name)?;
        position(any_of, |one| same(&claim, &value(one)))
    }

    fn claim_has(&self, name: &str, any_of: &[&str]) -> Option<u32> {
        let claim = self.values_of_claim(name)?;
        position(any_of, |one| claim.as_array().is_some_and(|elements| elements.iter().any(|element| same(element, &value(one)))))
    }

    fn has(&self, what: Text) -> bool {
        self.get(what).is_some()
    }

    fn at(&self, windows: &[(u64, u64)], period: u32, offset: i32) -> Option<u32> {
        let latest = u64::from(period);
        let goes_beyond = |&&(from, until): &&(u64, u64)| period > 0 && (from >= latest || until > latest);
        assert!(windows.iter().find(goes_beyond).is_none(), "a window of {windows:?} goes beyond its period, {period}");
        let shifted = i128::from(self.operation.received_at / 1000) + i128::from(offset);
        let now = if period == 0 { shifted } else { shifted.rem_euclid(i128::from(period)) };
        position(windows, |&(from, until)| {
            let (has_begun, has_ended) = (now >= i128::from(from), now >= i128::from(until));
            if until < from && period > 0 { has_begun || !has_ended } else { has_begun && !has_ended }
        })
    }

    fn dry_run(&self) -> bool {
        self.operation.dry_run
    }

    fn approved(&self) -> bool {
        self.operation.approved
    }

    fn is_command(&self) -> bool {
        self.operation.command.is_some()
    }

    fn get(&self, what: Text) -> Option<String> {
        let of = &self.operation;
        let target = of.target.as_ref();
        match what {
            Text::Verb => Some(of.verb.clone()),
            Text::Path => Some(of.path.clone()),
            Text::Cluster => Some(of.cluster.clone()),
            Text::Username => Some(of.caller.username.clone()),
            Text::Issuer => Some(of.caller.issuer.clone()),
            Text::Container => of.command.as_ref()?.container.clone(),
            Text::ApiGroup => Some(target?.api_group.clone()),
            Text::ApiVersion => Some(target?.api_version.clone()),
            Text::Resource => Some(target?.resource.clone()),
            Text::Subresource => target?.subresource.clone(),
            Text::Namespace => target?.namespace.clone(),
            Text::Name => target?.name.clone(),
            Text::Kind => {
                let Target { resource, subresource, .. } = target?;
                Some(subresource.as_ref().map_or_else(|| resource.clone(), |subresource| format!("{resource}/{subresource}")))
            }
            Text::Place => {
                let Target { namespace, name, .. } = target?;
                let of = |text: &Option<String>| text.clone().unwrap_or_default();
                (namespace.is_some() || name.is_some()).then(|| format!("{}/{}", of(namespace), of(name)))
            }
        }
    }

    fn groups(&self) -> Vec<String> {
        self.operation.caller.groups.clone()
    }

    fn claim(&self, name: &str) -> Option<String> {
        let mut found = self.operation.caller.claims.iter().filter(|(key, _)| key == name);
        let (_, claim) = found.next()?;
        found.next().is_none().then(|| claim.clone())
    }

    fn claims(&self) -> Vec<(String, String)> {
        self.operation.caller.claims.clone()
    }

    fn query(&self, key: &str) -> Vec<String> {
        self.operation.query.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }

    fn queries(&self) -> Vec<(String, String)> {
        self.operation.query.clone()
    }

    fn command(&self) -> Option<Command> {
        self.operation.command.clone()
    }

    fn id(&self) -> String {
        self.operation.id.clone()
    }

    fn received_at(&self) -> u64 {
        self.operation.received_at
    }

    fn look_around(&self, which: Surrounding) -> Option<Document<'static>> {
        self.around.iter().find(|(known, _)| *known == which).map(|(_, object)| Document::Native(object.clone()))
    }

    fn annotate(&self, key: &str, value: &str) {
        self.kept.annotations.borrow_mut().push((key.into(), value.into()));
    }

    fn count(&self, key: &str, amount: u64, window_seconds: u32) -> u64 {
        let mut counters = self.kept.counters.borrow_mut();
        let sum = counters.entry((key.into(), window_seconds)).or_default();
        *sum += amount;
        *sum
    }

    fn spend(&self, name: &str, amount: Amount<'_>, window_seconds: u32, limits: &[u64]) -> u32 {
        assert!(limits.windows(2).all(|pair| pair[0] < pair[1]), "of the limits {limits:?} each must be larger than the one before");
        let amount = match amount {
            Amount::Number(number) => number,
            Amount::SizeOf(document) => document.size(),
            Amount::Matches(document, path) => document.matches(path) as u64,
        };
        let Caller { issuer, username, .. } = &self.operation.caller;
        let spent = Host::count(self, &format!("spent {issuer:?} {username:?} {name}"), amount, window_seconds);
        limits.iter().filter(|limit| spent > **limit).count() as u32
    }
}
