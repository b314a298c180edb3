//! An answer, an item at a time: list items, Table rows and watch events are masked and sent as they come, in bounded memory.

use std::sync::Arc;

use serde_json::Value;

use super::Look;
use super::accept::Asked;
use super::events::Watched;
use super::lexer::{Lexer, array_start};
use super::partial;
use crate::classify::Shape;
use crate::decide;
use crate::mask::{Plan, Plans, Report, Unreadable, member};
use crate::policy::contract::{Denial, Verdict};
use crate::policy::{Mode, Observed, Outcome, Policy, Runtime, Subject};
use crate::status::Refusal;

/// What is done with each object.
pub struct Treatment {
    /// The masks declared on the request.
    pub masks: Option<Arc<Plan>>,
    /// Policies asked for each object.
    pub on_object: Vec<Arc<Policy>>,
    /// What they run in.
    pub runtime: Option<Arc<Runtime>>,
    /// The operation, for them.
    pub subject: Arc<Subject>,
    /// Where masks are compiled.
    pub plans: Arc<Plans>,
    /// The resource.
    pub resource: String,
    /// How the answer was asked for.
    pub asked: Asked,
    /// How a watch that goes on where its client has read before learns what that was.
    pub look_back: Look,
}

/// Takes an answer in pieces and gives it out masked.
pub struct Items {
    pub(super) treatment: Treatment,
    state: State,
    pub(super) buffer: Vec<u8>,
    /// Bytes of `buffer` that were looked at.
    pub(super) seen: usize,
    pub(super) lexer: Lexer,
    largest: usize,
    kept: bool,
    /// What is known of a watch.
    pub(super) watch: Watched,
    /// What was hidden.
    pub report: Report,
    /// Objects that a policy hid.
    pub hidden: u64,
    /// What policies that are observed would have done with them.
    pub observed: Observed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// One object: all of it is needed.
    Whole,
    /// Before the array of items or rows.
    Head,
    /// In it; whether the elements are Table rows.
    Array { rows: bool },
    /// After it.
    Tail,
    /// One event after another.
    Events,
}

/// Why an answer ends early.
#[derive(Debug)]
pub enum Stop {
    /// It cannot be read.
    Unreadable(Unreadable),
    /// A policy failed on an object.
    Failed(String),
    /// A policy hid the one object that was asked for.
    Hidden,
    /// A policy ended the answer: what the caller is told.
    Terminated(String),
}

impl From<Unreadable> for Stop {
    fn from(why: Unreadable) -> Self {
        Self::Unreadable(why)
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "the answer must be masked and cannot be read: {why}"),
            Self::Failed(why) | Self::Terminated(why) => f.write_str(why),
            Self::Hidden => f.write_str("a policy hides this object"),
        }
    }
}

impl Treatment {
    /// The declared masks, where nothing else is done with an object.
    fn declared(&self) -> Option<&Plan> {
        self.masks.as_deref().filter(|_| self.on_object.is_empty() && self.asked.partial.is_none())
    }
}

impl Items {
    /// Begins an answer.
    pub fn new(treatment: Treatment, verb: &str, shape: Shape, largest: usize) -> Self {
        let state = match (shape, verb) {
            (Shape::Watch, _) => State::Events,
            (_, "list" | "deletecollection") => State::Head,
            _ => State::Whole,
        };
        Self {
            treatment,
            state,
            buffer: Vec::new(),
            seen: 0,
            lexer: Lexer::default(),
            largest,
            kept: false,
            watch: Watched::default(),
            report: Report::new(),
            hidden: 0,
            observed: Observed::default(),
        }
    }

    /// Whether the answer is sent as it comes; a single object is sent when it is all there.
    pub fn streams(&self) -> bool {
        self.state != State::Whole
    }

    /// Whether anything may be changed: policies that are observed change nothing.
    pub(super) fn changes(&self) -> bool {
        self.treatment.masks.is_some() || self.may_hide()
    }

    /// Whether a policy may hide an object, or end the answer at one.
    pub(super) fn may_hide(&self) -> bool {
        decide::may_hide(&self.treatment.on_object)
    }

    /// How an answer ends that a policy ended: a watch says so in a last event after what was ready, anything else can only break off.
    pub(super) fn parting(&self, stop: Stop) -> Option<(Vec<u8>, String)> {
        let Stop::Terminated(why) = stop else { return None };
        if self.state != State::Events {
            return Some((Vec::new(), why));
        }
        Some((Refusal::forbidden(&why).to_event().into_bytes(), why))
    }

    /// The most bytes held at a time.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// Takes a piece; what can be sent is appended to `out`.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        if self.state == State::Tail {
            out.extend_from_slice(data);
            return Ok(());
        }
        self.buffer.extend_from_slice(data);
        if self.state == State::Head && !self.find_array(out)? {
            return self.check_size();
        }
        match self.state {
            State::Array { rows } => self.take_elements(rows, out)?,
            State::Events => self.take_events(out)?,
            _ => {}
        }
        self.check_size()
    }

    /// Ends the answer.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        match self.state {
            State::Tail => Ok(()),
            State::Array { .. } => Err(Unreadable::Malformed.into()),
            // A watch that ends in half an event had nothing more to say.
            State::Events => Ok(()),
            State::Whole | State::Head => {
                let whole = std::mem::take(&mut self.buffer);
                if whole.iter().all(u8::is_ascii_whitespace) {
                    return Ok(());
                }
                self.whole(&whole, out)
            }
        }
    }

    pub(super) fn check_size(&self) -> Result<(), Stop> {
        if self.buffer.len() > self.largest { Err(Unreadable::TooLarge.into()) } else { Ok(()) }
    }

    /// One object, or a Table of it.
    fn whole(&mut self, object: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        if is_kind(object, b"\"Status\"", b"\"v1\"")? {
            out.extend_from_slice(object);
            return Ok(());
        }
        if is_table(object)? {
            self.table(object, out)?;
            // The one row of the one object.
            return if self.state == State::Whole && self.hidden > 0 { Err(Stop::Hidden) } else { Ok(()) };
        }
        if let Some(version) = self.treatment.asked.partial
            && member(object, b"items")? == Some(b"null")
        {
            out.extend_from_slice(&partial::list_head(&[&object[..object.len().saturating_sub(1)], b",\"x\":["].concat(), version)?);
            out.extend_from_slice(b"]}");
            return Ok(());
        }
        match self.element(object, false)? {
            Some(masked) => {
                out.extend_from_slice(&masked);
                Ok(())
            }
            None => Err(Stop::Hidden),
        }
    }

    /// A Table that is all there.
    pub(super) fn table(&mut self, table: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        let outer = std::mem::replace(&mut self.buffer, table.to_vec());
        let (seen, kept, state) = (self.seen, self.kept, self.state);
        (self.seen, self.kept, self.state, self.lexer) = (0, false, State::Head, Lexer::default());
        let done = match self.find_array(out)? {
            true => self.take_elements(true, out),
            false => {
                out.extend_from_slice(table);
                Ok(())
            }
        };
        let whole = matches!(self.state, State::Tail | State::Head);
        (self.buffer, self.seen, self.kept, self.state, self.lexer) = (outer, seen, kept, state, Lexer::default());
        done?;
        if whole { Ok(()) } else { Err(Unreadable::Malformed.into()) }
    }

    /// Looks for the array of items or rows; what stands before it goes out.
    fn find_array(&mut self, out: &mut Vec<u8>) -> Result<bool, Stop> {
        let Some((start, rows)) = array_start(&self.buffer) else { return Ok(false) };
        match self.treatment.asked.partial.filter(|_| !rows) {
            Some(version) => out.extend_from_slice(&partial::list_head(&self.buffer[..start], version)?),
            None => out.extend_from_slice(&self.buffer[..start]),
        }
        self.buffer.drain(..start);
        self.state = State::Array { rows };
        Ok(true)
    }

    fn take_elements(&mut self, rows: bool, out: &mut Vec<u8>) -> Result<(), Stop> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        loop {
            if self.lexer.depth == 0 && self.seen <= start {
                start += buffer[start..].iter().take_while(|b| b.is_ascii_whitespace() || **b == b',').count();
                if buffer.get(start) == Some(&b']') {
                    out.extend_from_slice(&buffer[start..]);
                    self.state = State::Tail;
                    return Ok(());
                }
                self.seen = start;
                if let Some(length) = self.mask_next(&buffer[start..], rows, out)? {
                    start += length;
                    continue;
                }
            }
            let Some(end) = self.lexer.value_end(&buffer, &mut self.seen)? else { break };
            if let Some(plan) = self.treatment.declared().filter(|_| !rows) {
                require_object(&buffer[start..end])?;
                comma(&mut self.kept, out);
                plan.apply(&buffer[start..end], &self.treatment.resource, false, out, &mut self.report)?;
            } else if let Some(masked) = self.element(&buffer[start..end], rows)? {
                comma(&mut self.kept, out);
                out.extend_from_slice(&masked);
            }
            (start, self.seen) = (end, end);
        }
        self.seen -= start;
        self.buffer = buffer[start..].to_vec();
        Ok(())
    }

    /// The usual case: no object is looked at by a policy, what is hidden was declared once for all, and the next object is all there. One pass masks it and
    /// finds its end.
    fn mask_next(&mut self, text: &[u8], rows: bool, out: &mut Vec<u8>) -> Result<Option<usize>, Stop> {
        let Some(plan) = self.treatment.declared().filter(|_| !rows && !text.is_empty()) else { return Ok(None) };
        require_object(text)?;
        let (before, kept) = (out.len(), self.kept);
        comma(&mut self.kept, out);
        let end = plan.apply_to_first(text, &self.treatment.resource, false, out, &mut self.report);
        if end.is_none() {
            out.truncate(before);
            self.kept = kept;
        }
        Ok(end)
    }

    /// One object or row, masked; none when a policy hides it.
    pub(super) fn element(&mut self, element: &[u8], row: bool) -> Result<Option<Vec<u8>>, Stop> {
        require_object(element)?;
        let mut plans: Vec<Arc<Plan>> = self.treatment.masks.iter().cloned().collect();
        if !self.treatment.on_object.is_empty() {
            let object = if row { member(element, b"object")?.unwrap_or(b"null") } else { element };
            let size = object.len() as u64;
            let object: Arc<Value> = Arc::new(serde_json::from_slice(object).map_err(|_| Unreadable::Malformed)?);
            match self.look_at(&object, size)? {
                Some(more) => plans.extend(more),
                None => {
                    self.hidden += 1;
                    return Ok(None);
                }
            }
        }
        let asked = self.treatment.asked;
        let mut current = None;
        let count = plans.len();
        for (index, plan) in plans.iter().enumerate() {
            let source: &[u8] = current.as_deref().unwrap_or(element);
            let mut masked = Vec::with_capacity(source.len() + 64);
            if row {
                // Only the last plan may take the object away that the others must read.
                let include = if index + 1 == count { asked.rows } else { crate::mask::RowObject::Object };
                plan.apply_row(source, &self.treatment.resource, include, &mut masked, &mut self.report)?;
            } else {
                plan.apply(source, &self.treatment.resource, false, &mut masked, &mut self.report)?;
            }
            current = Some(masked);
        }
        if row && count == 0 {
            let none = self.treatment.plans.of(&[]).map_err(|e| Stop::Failed(e.to_string()))?;
            let mut out = Vec::new();
            none.apply_row(element, &self.treatment.resource, asked.rows, &mut out, &mut self.report)?;
            current = Some(out);
        }
        let masked = current.unwrap_or_else(|| element.to_vec());
        match asked.partial.filter(|_| !row) {
            Some(version) => Ok(Some(partial::object(&masked, version)?)),
            None => Ok(Some(masked)),
        }
    }

    /// What all policies want with an object: the masks they ask for, or none to hide it.
    pub(super) fn look_at(&mut self, object: &Arc<Value>, size: u64) -> Result<Option<Vec<Arc<Plan>>>, Stop> {
        let mut plans = Vec::new();
        for policy in &self.treatment.on_object {
            match self.treatment.ask(policy, object, size, &mut self.observed)? {
                Some(more) => plans.extend(more),
                None => return Ok(None),
            }
        }
        Ok(Some(plans))
    }
}

/// Whether it is a Table of the API server's own, and not a custom resource whose kind is called so.
pub(super) fn is_table(object: &[u8]) -> Result<bool, Unreadable> {
    is_kind(object, b"\"Table\"", b"\"meta.k8s.io/")
}

/// Whether an object is of a kind, and of a version that begins so.
fn is_kind(object: &[u8], kind: &[u8], version: &[u8]) -> Result<bool, Unreadable> {
    Ok(member(object, b"kind")? == Some(kind) && member(object, b"apiVersion")?.is_some_and(|of| of.starts_with(version)))
}

/// Goes before each element but the first that is kept.
fn comma(kept: &mut bool, out: &mut Vec<u8>) {
    if std::mem::replace(kept, true) {
        out.push(b',');
    }
}

/// What a policy wants with an object.
enum Wanted {
    Nothing,
    Masks(Arc<Plan>),
    Hidden,
    Ended(Denial),
}

impl Treatment {
    /// What a policy wants with an object: more masks, or none to hide it. What one wants that is observed is noted.
    fn ask(
        &self,
        policy: &Arc<Policy>,
        object: &Arc<Value>,
        size: u64,
        observed: &mut Observed,
    ) -> Result<Option<Option<Arc<Plan>>>, Stop> {
        let Some(runtime) = &self.runtime else { return Ok(Some(None)) };
        let answer = policy.call_on_object(runtime, &self.subject, Arc::clone(object), size);
        let exhausted = answer.exhausted;
        let wanted = answer.verdict.and_then(|verdict| self.wanted(policy, verdict));
        if let Err(why) = &wanted {
            policy.complain("an object", why);
        }
        if policy.mode == Mode::Observe {
            observed.add(&policy.name, outcome(&wanted));
            return Ok(Some(None));
        }
        match policy.in_force(wanted, exhausted) {
            Ok(None | Some(Wanted::Nothing)) => Ok(Some(None)),
            Ok(Some(Wanted::Masks(plan))) => Ok(Some(Some(plan))),
            Ok(Some(Wanted::Hidden)) => Ok(None),
            Ok(Some(Wanted::Ended(denial))) => Err(Stop::Terminated(decide::blocked_by(&policy.name, &denial))),
            Err(why) => Err(Stop::Failed(format!("the policy {} failed on an object: {why}", policy.name))),
        }
    }

    /// A mask that is none is a failure of the policy that gave it.
    fn wanted(&self, policy: &Policy, verdict: Verdict) -> Result<Wanted, String> {
        Ok(match verdict {
            Verdict::Allow => Wanted::Nothing,
            // No object waits for an approval: one that is asked for was a failure.
            Verdict::Block(_) | Verdict::RequireApproval(_) => Wanted::Hidden,
            Verdict::Terminate(denial) => Wanted::Ended(denial),
            Verdict::Mask(masks) => Wanted::Masks(self.plans.of_policy(&policy.name, &masks).map_err(|error| error.to_string())?),
        })
    }
}

fn outcome(wanted: &Result<Wanted, String>) -> Outcome {
    match wanted {
        Ok(Wanted::Nothing) => Outcome::Allow,
        Ok(Wanted::Masks(_)) => Outcome::Mask,
        Ok(Wanted::Hidden) => Outcome::Block,
        Ok(Wanted::Ended(_)) => Outcome::Terminate,
        Err(_) => Outcome::Failed,
    }
}

/// Masks name fields of objects: what is none has nothing they could find, and does not pass for that.
pub(super) fn require_object(value: &[u8]) -> Result<(), Unreadable> {
    match value.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(()),
        _ => Err(Unreadable::Malformed),
    }
}

#[cfg(test)]
#[path = "items_tests.rs"]
pub(super) mod tests;
