use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::*;
use crate::contract::asked::{Answered, Question};
use crate::contract::questions::Text;
use crate::contract::{Caller, Denial, Operation, Target};
use crate::sight::Sight;

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.throw(words.len())]
    }
}

const NAMES: [&str; 6] = ["ann", "bob", "ci", "prod-key", "", "a/b"];
const GROUPS: [&str; 4] = ["dev", "sre", "ops", "system:masters"];
const VERBS: [&str; 4] = ["get", "list", "delete", "create"];
const GLOBS: [&str; 5] = ["*", "prod-*", "*n*", "ann", "a*b"];
const TEXTS: [Text; 6] = [Text::Verb, Text::Kind, Text::Namespace, Text::Name, Text::Place, Text::Username];

fn operation(dice: &mut Dice) -> PolicyOperation {
    let some = |dice: &mut Dice| (dice.throw(3) > 0).then(|| dice.of(&NAMES).to_owned());
    let groups = GROUPS.iter().filter(|_| dice.throw(2) == 0).map(|group| (*group).to_owned()).collect();
    let claims = (0..dice.throw(3)).map(|_| (dice.of(&["sub", "team"]).to_owned(), format!("{:?}", dice.of(&NAMES)))).collect();
    PolicyOperation::new(Operation {
        id: format!("{}", dice.0),
        cluster: dice.of(&["one", "other"]).into(),
        received_at: dice.throw(200) as u64 * 1000,
        caller: Caller { username: dice.of(&NAMES).into(), groups, issuer: dice.of(&["i", "j"]).into(), claims },
        verb: dice.of(&VERBS).into(),
        target: (dice.throw(8) > 0).then(|| Target {
            resource: dice.of(&["pods", "secrets"]).into(),
            subresource: (dice.throw(3) == 0).then(|| "exec".into()),
            namespace: some(dice),
            name: some(dice),
            ..Target::default()
        }),
        path: "/".into(),
        query: (0..dice.throw(3)).map(|_| (dice.of(&["k", "l"]).to_owned(), dice.of(&NAMES).to_owned())).collect(),
        dry_run: dice.throw(2) == 0,
        command: None,
    })
}

fn question(dice: &mut Dice) -> Question {
    fn some(dice: &mut Dice, words: &[&str]) -> Vec<String> {
        (0..=dice.throw(3)).map(|_| dice.of(words).to_owned()).collect()
    }
    let text = TEXTS[dice.throw(TEXTS.len())];
    match dice.throw(15) {
        0 => Question::InGroups(some(dice, &GROUPS)),
        1 => Question::Is(text, some(dice, &NAMES)),
        2 => Question::Like(text, some(dice, &GLOBS)),
        3 => Question::QueryLike(dice.of(&["k", "l"]).into(), some(dice, &GLOBS)),
        4 => Question::ClaimIs("sub".into(), vec![format!("{:?}", dice.of(&NAMES))]),
        5 => Question::Has(text),
        6 => Question::At(vec![(dice.throw(100) as u64, dice.throw(100) as u64), (50, 99)], 100, 0),
        7 => Question::DryRun,
        8 => Question::Approved,
        9 => Question::Get(text),
        10 => Question::Groups,
        11 => Question::Claim("team".into()),
        12 => Question::Claims,
        13 => Question::Query("k".into()),
        _ => Question::Queries,
    }
}

/// A policy: what it asks next depends on all that it was answered, and on nothing else.
struct Program(u64);

impl Program {
    /// What it says of an operation, and what it asked for that.
    fn run(&self, of: &PolicyOperation, has_body: bool) -> (Run, Decision) {
        let (mut run, mut known) = (Run::default(), DefaultHasher::new());
        (self.0, has_body).hash(&mut known);
        loop {
            let mut dice = Dice(known.finish() | 1);
            dice.throw(2);
            if dice.throw(4) == 0 {
                return (run, decision(&format!("{:x}", known.finish() % 5)));
            }
            let asked = question(&mut dice);
            let answered = asked.answer(of, None).unwrap();
            answered.kept().hash(&mut known);
            run.note(asked, &answered);
        }
    }
}

fn decision(reason: &str) -> Decision {
    let verdict = match reason {
        "0" => Verdict::Allow,
        reason => Verdict::Block(Denial { reason: reason.into(), hint: None }),
    };
    Decision::new(Arc::new(verdict), vec![("says".into(), reason.into())])
}

fn remembered(how: Remember) -> (Remembered, Arc<Budget>) {
    let budget = Arc::new(Budget::default());
    (Remembered::new(how, Arc::clone(&budget)), budget)
}

fn about(operation: &PolicyOperation, has_body: bool) -> About<'_> {
    About { operation, has_body, object: None }
}

fn recall(memory: &Remembered, of: &PolicyOperation, has_body: bool) -> Option<Arc<Decision>> {
    memory.recall(&about(of, has_body), Sight::Metadata, Some(1)).map(|(decision, _)| decision)
}

/// Asks a program about operations, with what is remembered of it before it, and says how many were decided from memory.
fn compare(seed: u64, how: Remember, operations: usize) -> usize {
    let (memory, budget) = remembered(how);
    let (program, mut dice, mut known) = (Program(seed), Dice(seed | 1), 0);
    for _ in 0..operations {
        let (of, has_body) = (operation(&mut dice), dice.throw(2) == 0);
        let (run, says) = program.run(&of, has_body);
        match recall(&memory, &of, has_body) {
            Some(remembered) => {
                assert_eq!(*remembered, says, "of {of:?}");
                known += 1;
            }
            None => memory.learn(&about(&of, has_body), Sight::Metadata, run, says).expect("it is deterministic"),
        }
    }
    assert!(!memory.is_spoilt());
    drop(memory);
    assert_eq!(budget.taken(), 0, "what was taken is given back");
    known
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn what_is_remembered_is_what_the_policy_says(seed in any::<u64>(), per_caller in any::<bool>()) {
        compare(seed, if per_caller { Remember::PerCaller } else { Remember::On }, 1_000);
    }
}

#[test]
fn most_of_what_is_asked_again_and_again_is_remembered() {
    let known: usize = (1..=20).map(|seed| compare(seed * 0x9e37_79b9, Remember::On, 5_000)).sum();
    assert!(known > 50_000, "{known} of 100,000 were decided from memory");
}

fn of(caller: &str, name: &str) -> PolicyOperation {
    PolicyOperation::new(Operation {
        caller: Caller { username: caller.into(), ..Caller::default() },
        target: Some(Target { name: Some(name.into()), ..Target::default() }),
        verb: "get".into(),
        ..Operation::default()
    })
}

fn run(of: &PolicyOperation, questions: &[Question]) -> Run {
    let mut run = Run::default();
    for question in questions {
        run.note(question.clone(), &question.answer(of, None).unwrap());
    }
    run
}

const NAME: [Question; 1] = [Question::Get(Text::Name)];

/// Has a path seen twice.
fn learn(memory: &Remembered, of: &PolicyOperation, says: &str) {
    for _ in 0..2 {
        memory.learn(&about(of, false), Sight::Metadata, run(of, &NAME), decision(says)).unwrap();
    }
}

#[test]
fn what_was_said_once_is_not_remembered_and_what_was_said_twice_is() {
    let (memory, _) = remembered(Remember::On);
    let web = of("ann", "web");
    memory.learn(&about(&web, false), Sight::Metadata, run(&web, &NAME), decision("1")).unwrap();
    assert!(recall(&memory, &web, false).is_none());
    memory.learn(&about(&web, false), Sight::Metadata, run(&web, &NAME), decision("1")).unwrap();
    assert_eq!(recall(&memory, &of("bob", "web"), false).as_deref(), Some(&decision("1")), "whoever asks");
    assert!(recall(&memory, &web, true).is_none(), "a body is another beginning");
    assert!(recall(&memory, &of("ann", "db"), false).is_none(), "and so is another name");
    let (memory, _) = remembered(Remember::PerCaller);
    learn(&memory, &web, "1");
    assert!(recall(&memory, &web, false).is_some() && recall(&memory, &of("bob", "web"), false).is_none());
    let (memory, _) = remembered(Remember::Off);
    learn(&memory, &web, "1");
    assert!(recall(&memory, &web, false).is_none());
}

#[test]
fn who_says_two_things_of_the_same_answers_is_never_remembered_again() {
    let web = of("ann", "web");
    // Another verdict the second time, another when it is known, and another question.
    let kind = [Question::Get(Text::Kind)];
    for (twice, asks, says) in [(false, &NAME, "2"), (true, &NAME, "2"), (true, &kind, "1")] {
        let (memory, budget) = remembered(Remember::On);
        memory.learn(&about(&web, false), Sight::Metadata, run(&web, &NAME), decision("1")).unwrap();
        if twice {
            memory.learn(&about(&web, false), Sight::Metadata, run(&web, &NAME), decision("1")).unwrap();
        }
        assert_eq!(memory.learn(&about(&web, false), Sight::Metadata, run(&web, asks), decision(says)), Err(NotDeterministic));
        learn(&memory, &web, "1");
        assert!(memory.is_spoilt() && recall(&memory, &web, false).is_none() && budget.taken() == 0);
    }
}

#[test]
fn one_in_a_thousand_is_asked_again() {
    let (memory, _) = remembered(Remember::On);
    let web = of("ann", "web");
    learn(&memory, &web, "1");
    assert_eq!((0..10_000).filter(|_| recall(&memory, &web, false).is_none()).count(), 10);
    memory.learn(&about(&web, false), Sight::Metadata, run(&web, &NAME), decision("1")).unwrap();
    assert_eq!(memory.paths(), 1, "what is known is not learnt again");
}

#[test]
fn what_a_verdict_is_based_on_is_told_once_and_named_each_time() {
    let (memory, _) = remembered(Remember::On);
    let known = |of: &PolicyOperation, day| match memory.recall(&about(of, false), Sight::Metadata, day) {
        Some((_, Basis::Path(KnownPath { id, untold }))) => {
            (id, untold.inspect(Untold::tell_no_more).map(|untold| untold.asked().to_vec()))
        }
        other => panic!("{other:?}"),
    };
    let (web, db) = (of("ann", "web"), of("ann", "db"));
    learn(&memory, &web, "1");
    learn(&memory, &db, "1");
    let (id, untold) = known(&web, None);
    assert!(untold.is_none(), "who only asks tells nobody");
    for _ in 0..2 {
        let (_, Basis::Path(KnownPath { untold, .. })) = memory.recall(&about(&web, false), Sight::Metadata, Some(1)).unwrap() else {
            panic!()
        };
        assert!(untold.is_some(), "until somebody has told of it everybody is to");
    }
    let (again, untold) = known(&of("bob", "web"), Some(1));
    assert_eq!((again, serde_json::to_string(&untold).unwrap().as_str()), (Arc::clone(&id), r#"[{"question":"get name","answer":"web"}]"#));
    assert_eq!(known(&web, Some(1)), (Arc::clone(&id), None), "once");
    let (other, untold) = known(&db, Some(1));
    assert!(other != id && untold.is_some_and(|asked| asked[0].answer == "db"));
    assert!(known(&web, Some(2)).1.is_some() && known(&web, Some(2)).1.is_none(), "once a day");
    // Another gateway, and the same one when the policy was loaded anew, know it by the same.
    let (fresh, _) = remembered(Remember::On);
    learn(&fresh, &web, "1");
    let (_, Basis::Path(anew)) = fresh.recall(&about(&web, false), Sight::Metadata, Some(1)).unwrap() else { panic!("it is known") };
    assert!(anew.id == id && anew.untold.is_some());
}

#[test]
fn names_that_are_invented_push_nothing_out() {
    let (memory, budget) = remembered(Remember::On);
    let web = of("ann", "web");
    learn(&memory, &web, "1");
    for n in 0..10_000 {
        learn(&memory, &of("eve", &format!("{n:0>900}")), "1");
    }
    assert!(recall(&memory, &web, false).is_some() && memory.paths() == 17, "a question takes 16 answers of one caller");
    for n in 0..100 {
        learn(&memory, &of(&format!("eve-{n}"), &n.to_string()), "1");
    }
    assert_eq!(memory.paths(), 64, "and 64 in all");
    assert!(budget.taken() < 1 << 20, "{}", budget.taken());
    // Where the names lead on to others, what one caller may fill is an eighth.
    let (memory, budget) = remembered(Remember::On);
    let twice = [Question::Get(Text::Name), Question::Get(Text::Verb)];
    let learn = |of: &PolicyOperation, verb: &[Question]| {
        for _ in 0..2 {
            memory.learn(&about(of, false), Sight::Metadata, run(of, verb), decision("1")).unwrap();
        }
    };
    let twice = [&twice[..], &[Question::Get(Text::Path)]].concat();
    for n in 0..16 * 16 * 16 {
        let part = |at: u32| format!("{:0>900}", n / 16_u32.pow(at) % 16);
        let of = PolicyOperation::new(Operation {
            verb: part(0),
            path: part(1),
            caller: Caller { username: "eve".into(), ..Caller::default() },
            target: Some(Target { name: Some(part(2)), ..Target::default() }),
            ..Operation::default()
        });
        learn(&of, &twice);
    }
    assert!((1000 << 10..=1 << 20).contains(&budget.taken()), "{}", budget.taken());
    learn(&of("ann", "web"), &twice);
    assert!(recall(&memory, &of("ann", "web"), false).is_some(), "others have room");
}

/// A mask is held against what the policy may see, which another resource changes though the policy did not ask for it.
#[test]
fn what_may_be_seen_is_where_a_path_begins() {
    let (memory, _) = remembered(Remember::On);
    let web = of("ann", "web");
    learn(&memory, &web, "1");
    assert!(memory.recall(&about(&web, false), Sight::Bodies, Some(1)).is_none() && recall(&memory, &web, false).is_some());
}

#[test]
fn one_caller_has_one_share_whatever_policies_and_clusters_there_are() {
    let budget = Arc::new(Budget::default());
    let policies: Vec<Remembered> = (0..8).map(|_| Remembered::new(Remember::On, Arc::clone(&budget))).collect();
    let questions = [Question::Get(Text::Name), Question::Get(Text::Verb)];
    for n in 0..16 * 16 * 2 {
        let (cluster, part) = (["one", "other"][n % 2].to_owned(), |at: u32| format!("{:0>900}", n / 2 / 16_usize.pow(at) % 16));
        let caller = Caller { username: "eve".into(), ..Caller::default() };
        let target = Some(Target { name: Some(part(1)), ..Target::default() });
        let of = PolicyOperation::new(Operation { cluster, verb: part(0), caller, target, ..Operation::default() });
        for memory in policies.iter().flat_map(|memory| [memory; 2]) {
            memory.learn(&about(&of, false), Sight::Metadata, run(&of, &questions), decision("1")).unwrap();
        }
    }
    assert!((1000 << 10..=1 << 20).contains(&budget.taken()), "{}", budget.taken());
}

/// A client that asks for more things in turn than wait to be seen again.
#[test]
fn a_long_round_of_operations_comes_to_be_known() {
    let (memory, _) = remembered(Remember::On);
    let groups: Vec<Vec<String>> = (0..8).map(|n| vec![format!("g{n}")]).collect();
    let questions: Vec<Question> = groups.iter().map(|group| Question::InGroups(group.clone())).collect();
    let asks = |n: usize| {
        let groups = (0..8).filter(|bit| n >> bit & 1 == 1).map(|bit| format!("g{bit}")).collect();
        PolicyOperation::new(Operation { caller: Caller { groups, ..Caller::default() }, ..Operation::default() })
    };
    let known = |_| {
        (0..200).filter(|n| {
            let of = asks(*n);
            let known = recall(&memory, &of, false).is_some();
            memory.learn(&about(&of, false), Sight::Metadata, run(&of, &questions), decision("1")).unwrap();
            known
        })
    };
    let last = (0..40).map(|round| known(round).count()).fold(0, |_, count| count);
    assert!(last > 150, "{last} of 200 are known after forty rounds");
}

#[test]
fn a_run_that_asks_what_no_memory_answers_is_not_remembered() {
    let web = of("ann", "web");
    let long = of("ann", &"x".repeat(2000));
    let mut counts = run(&web, &NAME);
    counts.leave("count");
    let many: Vec<Question> = NAME.iter().cycle().take(129).cloned().collect();
    for (of, run, why) in [
        (&web, counts, "count"),
        (&long, run(&long, &NAME), "1 KiB"),
        (&web, run(&web, &many), "128"),
        (&web, run(&web, &[Question::InGroups(vec!["g".repeat(20_000)])]), "16 KiB"),
    ] {
        assert!(run.open().is_some_and(|what| what.contains(why)), "{why}");
        let (memory, _) = remembered(Remember::On);
        memory.learn(&about(of, false), Sight::Metadata, run, decision("1")).unwrap();
        assert!(recall(&memory, of, false).is_none() && memory.paths() == 0);
    }
    assert!(matches!(Question::Approved.answer(&web, None), Ok(Answered::Flag(false))));
}
