use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const START: u64 = 1_800_000_000;

/// A directory that goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("postern-query-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn log(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The event of a number, at its second.
fn event(n: u64) -> Value {
    let (verdict, stage, status) = if n.is_multiple_of(10) { ("block", "refused", 403) } else { ("allow", "completed", 200) };
    let resource = if n.is_multiple_of(3) { "secrets" } else { "pods" };
    let mut event = json!({
        "stage": stage, "id": format!("id-{n}"), "source": format!("10.0.0.{}:4{n}", n % 5),
        "cluster": "default", "verb": "get", "path": "/api/v1", "verdict": verdict, "status": status, "session": format!("{n:016x}"),
        "target": {"resource": resource, "namespace": "shop", "name": format!("n{n}")},
        "caller": {"username": format!("user-\"{}\"", n % 7), "groups": ["a"], "issuer": "https://issuer"},
        "policies": [{"policy": "p", "verdict": verdict}],
    });
    if n.is_multiple_of(4) {
        event["target"]["subresource"] = "exec".into();
    }
    event
}

fn write(file: &Path, numbers: std::ops::Range<u64>) {
    let mut out = io::BufWriter::new(std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap());
    for n in numbers {
        // As the chain writes it: the number and the hash of the line before come first, then the time.
        let event = event(n).to_string();
        let time = timestamp_of(Duration::from_secs(START + n));
        let (prev, hash) = ("0".repeat(64), "1".repeat(64));
        writeln!(out, "{{\"seq\":{n},\"prev\":\"{prev}\",\"time\":\"{time}\",{},\"hash\":\"{hash}\"}}", &event[1..event.len() - 1])
            .unwrap();
    }
}

fn numbers(log: &Path, query: &Query) -> Vec<u64> {
    let mut found = Vec::new();
    ask(log, query, |line| {
        let event: Value = serde_json::from_slice(line).unwrap();
        found.push(event["seq"].as_u64().unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

#[test]
fn each_condition_lets_through_what_fits_and_nothing_else() {
    let scratch = Scratch::new("conditions");
    let log = scratch.log();
    write(&log, 0..400);
    let text = |text: &str| Some(text.to_owned());
    let any = Query::default;
    let fits = |query: Query, fits: &dyn Fn(u64) -> bool| {
        let wanted: Vec<u64> = (0..400).filter(|n| fits(*n)).collect();
        assert_eq!(numbers(&log, &query), wanted, "{query:?}");
    };
    fits(any(), &|_| true);
    fits(Query { verdict: text("block"), ..any() }, &|n| n % 10 == 0);
    fits(Query { resource: text("secrets"), ..any() }, &|n| n % 3 == 0);
    fits(Query { resource: text("secrets/exec"), ..any() }, &|n| n % 12 == 0);
    fits(Query { resource: text("secret"), ..any() }, &|_| false);
    fits(Query { user: text("user-\"3\""), ..any() }, &|n| n % 7 == 3);
    fits(Query { user: text("\"3"), verdict: text("block"), ..any() }, &|n| n % 7 == 3 && n % 10 == 0);
    // What is the value of another field is not this one.
    fits(Query { namespace: text("default"), ..any() }, &|_| false);
    fits(Query { name: text("shop"), ..any() }, &|_| false);
    fits(Query { cluster: text("default"), name: text("n7"), ..any() }, &|n| n == 7);
    fits(Query { status: Some(Status::Class(4)), ..any() }, &|n| n % 10 == 0);
    fits(Query { status: Some(Status::Code(200)), policy: text("p"), ..any() }, &|n| n % 10 != 0);
    fits(Query { policy: text("q"), ..any() }, &|_| false);
    fits(Query { source: Some("10.0.0.1".parse().unwrap()), ..any() }, &|n| n % 5 == 1);
    fits(Query { source: Some("10.0.0.9".parse().unwrap()), ..any() }, &|_| false);
    fits(Query { session: text("0000000000000001"), ..any() }, &|n| n == 1);
    fits(Query { session: text("000000000000010"), ..any() }, &|n| (256..272).contains(&n));
    fits(Query { text: text("id-39"), ..any() }, &|n| n == 39 || n / 10 == 39);
    fits(Query { since: Some(START + 100), until: Some(START + 110), ..any() }, &|n| (100..=110).contains(&n));
    let session = |n: u64| {
        let own = format!("jti-{n}").into_bytes();
        Query { credential: Some(own), ..any() }
    };
    fits(session(1), &|_| false);
}

#[test]
fn a_credential_is_known_by_its_sessions_id() {
    let scratch = Scratch::new("credential");
    let log = scratch.log();
    let digest = postern_ground::digest::of_parts(&[b"https://issuer", b"ann", b"the-jti"]);
    let session = postern_ground::digest::hex(&digest[..8]);
    // Of one of several clusters the session is another, by the same credential.
    let within = postern_ground::digest::of_parts(&[b"https://issuer", b"ann", format!("prod {session}").as_bytes()]);
    let within = postern_ground::digest::hex(&within[..8]);
    let line = |session: &str, user: &str| {
        format!(
            "{{\"cluster\":\"prod\",\"time\":\"2027-01-15T08:00:00.000Z\",\"session\":\"{session}\",\"caller\":{{\"username\":\"{user}\",\"issuer\":\"https://issuer\"}},\"seq\":1}}\n"
        )
    };
    std::fs::write(&log, line(&session, "ann") + &line(&session, "bob") + &line("0123456789abcdef", "ann") + &line(&within, "ann"))
        .unwrap();
    assert_eq!(numbers(&log, &Query { credential: Some(b"the-jti".to_vec()), ..Query::default() }).len(), 2);
}

#[test]
fn an_address_is_the_same_however_it_is_written() {
    let scratch = Scratch::new("addresses");
    let log = scratch.log();
    let sources = ["10.0.0.2:1", "[::ffff:10.0.0.2]:2", "10.0.0.2", "10.0.0.20:1", "[2001:db8::5]:3", "[2001:db8::51]:3", "2001:db8::5"];
    let line = |(n, source): (usize, &&str)| format!("{{\"seq\":{n},\"source\":\"{source}\"}}\n");
    std::fs::write(&log, sources.iter().enumerate().map(line).collect::<String>()).unwrap();
    let of = |address: &str| numbers(&log, &Query { source: Some(address.parse().unwrap()), ..Query::default() });
    assert_eq!(of("10.0.0.2"), [0, 1, 2]);
    assert_eq!(of("2001:db8::5"), [4, 6]);
    assert_eq!(of("::1"), [0u64; 0]);
}

/// Lines that are longer than what is read at a time, times at the edges, files that were rotated: what is read in pieces is what is there.
#[test]
fn a_log_over_several_files_is_read_in_pieces_and_in_order() {
    let scratch = Scratch::new("pieces");
    let log = scratch.log();
    write(&rotated::name(&log, 0), 0..20_000);
    write(&rotated::name(&log, 20_000), 20_000..20_001);
    let (time, text) = (timestamp_of(Duration::from_secs(START + 20_001)), "x".repeat(9 << 20));
    std::fs::write(&log, format!("{{\"seq\":20001,\"prev\":\"\",\"time\":\"{time}\",\"text\":\"{text}\"}}\n")).unwrap();
    write(&log, 20_002..40_000);
    assert!(std::fs::metadata(&log).unwrap().len() > 3 * PIECE);
    assert_eq!(numbers(&log, &Query::default()), (0..40_000).collect::<Vec<_>>());
    let blocked: Vec<u64> = (0..40_000).filter(|n| n % 10 == 0).collect();
    assert_eq!(numbers(&log, &Query { verdict: Some("block".into()), ..Query::default() }), blocked);
    for (since, until) in [(0, 0), (19_999, 20_002), (5, 39_999), (20_000, 20_000), (39_990, 60_000), (20_001, 20_001)] {
        let query = Query { since: Some(START + since), until: Some(START + until), ..Query::default() };
        assert_eq!(numbers(&log, &query), (since..=until.min(39_999)).collect::<Vec<_>>(), "{since} to {until}");
    }
    // A reader who has had enough is told no more.
    let mut told = 0;
    ask(&log, &Query::default(), |_| {
        told += 1;
        if told == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(told, 3);
}

#[test]
fn a_log_is_followed_across_its_rotation_and_half_a_line_waits_for_its_end() {
    let scratch = Scratch::new("follow");
    let log = scratch.log();
    write(&log, 0..100);
    let query = Query { verdict: Some("block".into()), ..Query::default() };
    let mut found = Vec::new();
    let mut end = ask(&log, &query, |_| ControlFlow::Continue(())).unwrap();
    let mut follow = |found: &mut Vec<u64>| {
        let _ = go_on(&log, &mut end, &query, |line| {
            found.push(serde_json::from_slice::<Value>(line).unwrap()["seq"].as_u64().unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
    };
    follow(&mut found);
    assert!(found.is_empty());
    write(&log, 100..111);
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    follow(&mut found);
    assert_eq!(found, [100], "the last line is not there yet");
    std::fs::write(&log, &whole).unwrap();
    follow(&mut found);
    write(&log, 111..121);
    std::fs::rename(&log, rotated::name(&log, 0)).unwrap();
    write(&log, 121..141);
    follow(&mut found);
    assert_eq!(found, [100, 110, 120, 130, 140]);
    // Twice between two looks, and the newest file is longer than what was read of the one before.
    write(&log, 141..151);
    std::fs::rename(&log, rotated::name(&log, 121)).unwrap();
    write(&log, 151..161);
    std::fs::rename(&log, rotated::name(&log, 151)).unwrap();
    write(&log, 161..300);
    follow(&mut found);
    assert_eq!(found, (100..300).step_by(10).collect::<Vec<_>>());
    follow(&mut found);
    assert_eq!(found.len(), 20, "once");
}

/// What is rotated away while it is asked is told all the same.
#[test]
fn a_log_that_is_rotated_while_it_is_read_is_read_whole() {
    let scratch = Scratch::new("rotated-meanwhile");
    let log = scratch.log();
    write(&rotated::name(&log, 0), 0..10);
    write(&log, 10..20);
    let mut found = Vec::new();
    ask(&log, &Query::default(), |line| {
        let seq = serde_json::from_slice::<Value>(line).unwrap()["seq"].as_u64().unwrap();
        if seq == 5 {
            std::fs::rename(&log, rotated::name(&log, 10)).unwrap();
            write(&log, 20..25);
        }
        found.push(seq);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(found, (0..25).collect::<Vec<_>>());
}

proptest! {
    /// Whatever is asked for, what is found by the words in a line is what is found by reading all of them.
    #[test]
    fn what_is_found_is_what_is_there(
        lines in prop::collection::vec((0u8..4, 0u8..4, 0u8..4, "[a-z\"\\\\\u{e9}\n]{0,3}"), 0..30),
        user in prop::option::of("[a-z\"\\\\\u{e9}\n]{0,2}"),
        verdict in prop::option::of(0u8..4),
        resource in prop::option::of(0u8..4),
        name in prop::option::of(0u8..4),
    ) {
        let words = ["a", "b", "ab", "\""];
        let scratch = Scratch::new(&format!("any-{:?}", std::thread::current().id()));
        let log = scratch.log();
        let events: Vec<Value> = lines.iter().enumerate().map(|(n, (verdict, resource, name, user))| json!({
            "seq": n, "verdict": words[*verdict as usize], "caller": {"username": user},
            "target": {"resource": words[*resource as usize], "name": words[*name as usize]},
        })).collect();
        std::fs::write(&log, events.iter().map(|event| event.to_string() + "\n").collect::<String>()).unwrap();
        let word = |index: Option<u8>| index.map(|index| words[index as usize].to_owned());
        let query = Query { user: user.clone(), verdict: word(verdict), resource: word(resource), name: word(name), ..Query::default() };
        let wanted: BTreeSet<u64> = events.iter().filter(|event| {
            let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
            query.user.as_ref().is_none_or(|user| text("/caller/username").contains(user.as_str()))
                && query.verdict.as_ref().is_none_or(|verdict| text("/verdict") == verdict)
                && query.name.as_ref().is_none_or(|name| text("/target/name") == name)
                && query.resource.as_ref().is_none_or(|of| text("/target/resource") == of || text("/target/resource").split_once('/').is_some_and(|(whole, _)| whole == of))
        }).map(|event| event["seq"].as_u64().unwrap()).collect();
        prop_assert_eq!(numbers(&log, &query).into_iter().collect::<BTreeSet<_>>(), wanted);
    }
}
