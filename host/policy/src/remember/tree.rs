//! The questions of one policy as a tree: the first is always the same, each answer leads to the next, and at the end stands what was decided.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::{About, Asked, Decision};
use crate::contract::asked::{Answer, Question};
use crate::sight::Sight;

/// The most answers to one question that lead on, and how many of them one caller may have brought: names are the caller's to invent.
const MOST_WAYS: usize = 64;
const MOST_WAYS_OF_ONE: usize = MOST_WAYS / 4;
/// How long a tree that takes no more in stays as it is.
const LEARNT_FOR: Duration = Duration::from_secs(3600);

/// A question and its answer.
pub(super) type Step = (Arc<Question>, Answer);

/// What it is asked about.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum AskedAbout {
    /// An operation.
    Request,
    /// One with a body that it may read.
    RequestWithBody,
    /// An object of an answer.
    Object,
}

/// Where a run begins: what it may know without a question. What one cluster asks leads to nothing that another has learnt.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Root<'a> {
    pub(super) cluster: &'a str,
    pub(super) asked_about: AskedAbout,
    /// What the policy may see, which its masks are held against.
    pub(super) sight: Sight,
    /// Issuer and name, where each caller has a tree of their own.
    pub(super) caller: Option<(&'a str, &'a str)>,
}

/// The same, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnedRoot {
    cluster: Box<str>,
    asked_about: AskedAbout,
    sight: Sight,
    caller: Option<(Box<str>, Box<str>)>,
}

impl Root<'_> {
    pub(super) fn kept(&self) -> OwnedRoot {
        let caller = self.caller.map(|(issuer, name)| (issuer.into(), name.into()));
        OwnedRoot { cluster: self.cluster.into(), asked_about: self.asked_about, sight: self.sight, caller }
    }

    fn size(&self) -> usize {
        size_of::<OwnedRoot>() + self.cluster.len() + self.caller.map_or(0, |(issuer, name)| issuer.len() + name.len())
    }

    fn is(&self, kept: &OwnedRoot) -> bool {
        let caller = kept.caller.as_ref().map(|(issuer, name)| (&**issuer, &**name));
        self.cluster == &*kept.cluster && self.asked_about == kept.asked_about && self.sight == kept.sight && self.caller == caller
    }
}

/// What follows from the answers so far.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// The next question.
    Asks(Arc<Question>, Vec<Way>),
    /// There is none.
    Decided(Arc<Decision>),
}

/// An answer, and where it leads.
#[derive(Clone, Debug)]
pub(super) struct Way {
    answer: Answer,
    next: Arc<Node>,
    /// Whose operation brought it.
    by: u64,
}

/// All that is remembered of one policy.
#[derive(Debug)]
pub(super) struct Tree {
    hasher: RandomState,
    /// By the hash of where they begin, each with that itself.
    roots: HashMap<u64, Vec<(OwnedRoot, Arc<Node>)>>,
    /// Each question once, however often it stands in the tree.
    questions: HashSet<Arc<Question>>,
    /// Bytes, by whose operations brought them.
    taken: HashMap<u64, usize>,
    begun: Instant,
    pub(super) paths: usize,
}

/// What a run is beside those that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Another, that goes along with them as far as the answers are the same; and whether the question where it leaves them takes one more answer.
    New {
        /// Whether it does.
        has_room: bool,
    },
    /// One of them.
    Known,
    /// Not one of the same policy: the same answers led to another question, or to another decision.
    Differs,
}

/// What became of a path that was to be taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is in the tree.
    In,
    /// There is no room for it.
    Full,
    /// It differs from what is known.
    Differs,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            roots: HashMap::new(),
            questions: HashSet::new(),
            taken: HashMap::new(),
            begun: Instant::now(),
            paths: 0,
        }
    }
}

impl Tree {
    /// The first question of those that begin there, to be walked from while others learn.
    pub(super) fn first(&self, root: &Root<'_>) -> Option<Arc<Node>> {
        self.begin(root).cloned()
    }

    fn begin(&self, root: &Root<'_>) -> Option<&Arc<Node>> {
        let begun = self.roots.get(&self.hasher.hash_one(root))?;
        begun.iter().find(|(kept, _)| root.is(kept)).map(|(_, node)| node)
    }

    /// The steps of a run, with the questions that are known already.
    pub(super) fn shared(&self, steps: Vec<(Question, Answer)>) -> Vec<Step> {
        let shared = |(question, answer)| (self.questions.get(&question).cloned().unwrap_or_else(|| Arc::new(question)), answer);
        steps.into_iter().map(shared).collect()
    }

    /// Bytes that a path has beside what the tree has of its questions.
    pub(super) fn size(&self, root: &Root<'_>, steps: &[Step]) -> usize {
        let way = size_of::<Way>() + size_of::<Vec<Way>>();
        root.size() + steps.iter().map(|(question, answer)| way + answer.size() + self.new_question(question)).sum::<usize>()
    }

    fn new_question(&self, question: &Arc<Question>) -> usize {
        if self.questions.contains(question) { 0 } else { question.size() + size_of::<Arc<Question>>() }
    }

    /// What a run for a caller is beside those that are known.
    pub(super) fn look(&self, caller: u64, root: &Root<'_>, steps: &[Step], decision: &Decision) -> Look {
        let Some(mut node) = self.begin(root) else { return Look::New { has_room: true } };
        for (question, answer) in steps {
            let Node::Asks(asked, ways) = &**node else { return Look::Differs };
            if asked != question {
                return Look::Differs;
            }
            match ways.iter().find(|way| way.answer == *answer) {
                Some(way) => node = &way.next,
                None => return Look::New { has_room: has_room(ways, answer, caller) },
            }
        }
        match &**node {
            Node::Decided(known) if **known == *decision => Look::Known,
            _ => Look::Differs,
        }
    }

    /// Takes a path in, for a caller.
    pub(super) fn insert(&mut self, budget: &Budget, caller: u64, root: &Root<'_>, steps: &[Step], decision: &Arc<Decision>) -> Taken {
        let bytes = self.size(root, steps) + decision.size();
        match self.look(caller, root, steps, decision) {
            Look::Differs => return Taken::Differs,
            Look::Known => return Taken::In,
            Look::New { has_room } if !has_room || !budget.take(caller, bytes) => return Taken::Full,
            Look::New { .. } => {}
        }
        *self.taken.entry(caller).or_default() += bytes;
        self.questions.extend(steps.iter().map(|(question, _)| Arc::clone(question)));
        let begun = self.roots.entry(self.hasher.hash_one(root)).or_default();
        let at = begun.iter().position(|(kept, _)| root.is(kept));
        match at.and_then(|at| begun.get_mut(at)) {
            Some((_, node)) => Arc::make_mut(node).add(caller, steps, decision),
            None => begun.push((root.kept(), Arc::new(Node::of(caller, steps, decision)))),
        }
        self.paths += 1;
        Taken::In
    }

    /// Whether it has been as it is for so long that it may be learnt anew.
    pub(super) fn is_old(&self) -> bool {
        self.begun.elapsed() >= LEARNT_FOR
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, budget: &Budget) {
        budget.give_back(std::mem::take(&mut self.taken));
        *self = Self::default();
    }
}

impl Node {
    /// What was decided of what gives all the answers of a path from here; none where its answers lead off those that are known.
    pub(super) fn walk(&self, about: &About<'_>) -> Option<&Arc<Decision>> {
        let mut node = self;
        loop {
            match node {
                Self::Decided(decision) => return Some(decision),
                Self::Asks(question, ways) => {
                    let answered = question.answer(about.operation, about.object).ok()?;
                    node = &ways.iter().find(|way| answered.is(&way.answer))?.next;
                }
            }
        }
    }

    /// The questions on the way from here, with its answers.
    pub(super) fn path(&self, about: &About<'_>) -> Vec<Asked> {
        let (mut node, mut path) = (self, Vec::new());
        while let Self::Asks(question, ways) = node {
            let way =
                question.answer(about.operation, about.object).ok().and_then(|answered| ways.iter().find(|way| answered.is(&way.answer)));
            let Some(way) = way else { break };
            path.push(Asked::of(question, &way.answer));
            node = &way.next;
        }
        path
    }

    /// A path that nothing else goes along with.
    fn of(by: u64, steps: &[Step], decision: &Arc<Decision>) -> Self {
        let last = Self::Decided(Arc::clone(decision));
        let asks = |next, (question, answer): &Step| {
            Self::Asks(Arc::clone(question), vec![Way { answer: answer.clone(), next: Arc::new(next), by }])
        };
        steps.iter().rev().fold(last, asks)
    }

    /// Adds a path that agrees with those that are there.
    fn add(&mut self, by: u64, steps: &[Step], decision: &Arc<Decision>) {
        let (Self::Asks(_, ways), [(_, answer), rest @ ..]) = (self, steps) else { return };
        match ways.iter().position(|way| way.answer == *answer) {
            // Who walks there now goes on as it was.
            Some(at) => Arc::make_mut(&mut ways[at].next).add(by, rest, decision),
            None => ways.push(Way { answer: answer.clone(), next: Arc::new(Self::of(by, rest, decision)), by }),
        }
    }
}

/// Whether a question takes one more answer.
fn has_room(ways: &[Way], answer: &Answer, caller: u64) -> bool {
    // Which of a list is the policy's to invent, as long as the list is.
    let of_one = if matches!(answer, Answer::Place(_) | Answer::Flag(_)) { 2 * MOST_WAYS_OF_ONE } else { MOST_WAYS_OF_ONE };
    ways.len() < MOST_WAYS && ways.iter().filter(|way| way.by == caller).count() < of_one
}
