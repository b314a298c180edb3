//! For tests: operations put together natively, without WebAssembly and without a gateway.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use crate::{Caller, Channel, ChunkVerdict, Command, Document, Host, Operation, Policy, Request, Surrounding, Target, Verdict};

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
        policy.on_request(&Request::new(&self.operation, self.body.clone().map(Document::Native), self))
    }

    /// What it answers for an object that comes back.
    pub fn ask_object<P: Policy>(&self, policy: &P, object: Value) -> Verdict {
        policy.on_object(&Request::new(&self.operation, None, self), &Document::Native(object))
    }

    /// What it answers for a piece of output.
    pub fn ask_chunk<P: Policy>(&self, policy: &P, channel: Channel, data: &[u8]) -> ChunkVerdict {
        policy.on_chunk(&Request::new(&self.operation, None, self), channel, data)
    }

    /// The facts policies have left on this operation and on those made of it.
    pub fn annotations(&self) -> Vec<(String, String)> {
        self.kept.annotations.borrow().clone()
    }
}

/// Counters are shared by an operation and those made of it; their windows never end.
impl Host for Given {
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
}
