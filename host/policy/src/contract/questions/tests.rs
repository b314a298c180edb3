use proptest::prelude::*;

use super::super::{Caller, Command, Operation, Target};
use super::*;

fn asked(operation: Operation) -> PolicyOperation {
    PolicyOperation::new(operation)
}

fn list(of: &[&str]) -> Vec<String> {
    of.iter().map(|one| (*one).to_owned()).collect()
}

fn of_a_pod() -> PolicyOperation {
    let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    asked(Operation {
        id: "id".into(),
        cluster: "blue".into(),
        received_at: 1_000_000_000_999,
        caller: Caller {
            username: "u".into(),
            groups: list(&["sre", "dev"]),
            issuer: "https://i".into(),
            claims: texts(&[("ref", "\"main\""), ("teams", "[\"a\", 1]"), ("twice", "1"), ("twice", "2"), ("broken", "{")]),
        },
        verb: "create".into(),
        target: Some(Target {
            api_group: String::new(),
            api_version: "v1".into(),
            resource: "pods".into(),
            subresource: Some("exec".into()),
            namespace: Some("n".into()),
            name: Some("p".into()),
        }),
        path: "/api/v1/namespaces/n/pods/p/exec".into(),
        query: texts(&[("command", "sh"), ("command", "-c"), ("container", "c")]),
        dry_run: false,
        command: Some(Command { container: Some("c".into()), argv: list(&["sh", "-c"]), stdin: true, tty: false }),
    })
}

#[test]
fn a_text_is_there_or_not() {
    let all = [
        (Text::Verb, "create"),
        (Text::Kind, "pods/exec"),
        (Text::ApiGroup, ""),
        (Text::ApiVersion, "v1"),
        (Text::Resource, "pods"),
        (Text::Subresource, "exec"),
        (Text::Namespace, "n"),
        (Text::Name, "p"),
        (Text::Place, "n/p"),
        (Text::Path, "/api/v1/namespaces/n/pods/p/exec"),
        (Text::Cluster, "blue"),
        (Text::Username, "u"),
        (Text::Issuer, "https://i"),
        (Text::Container, "c"),
    ];
    let pod = of_a_pod();
    let bare = asked(Operation { verb: "get".into(), path: "/version".into(), ..Operation::default() });
    for (what, text) in all {
        assert_eq!(pod.text(what).as_deref(), Some(text), "{what:?}");
        assert_eq!((pod.is(what, &list(&["-", text])), pod.is(what, &list(&["-"]))), (Some(1), None), "{what:?}");
        assert_eq!((pod.like(what, &list(&["-*", "*"])), pod.like(what, &[])), (Some(1), None), "{what:?}");
        let always = matches!(what, Text::Verb | Text::Path | Text::Cluster | Text::Username | Text::Issuer);
        assert_eq!((bare.text(what).is_some(), bare.like(what, &list(&["*"])).is_some()), (always, always), "{what:?}");
    }
    let place = |namespace: Option<&str>, name: Option<&str>| {
        let target = Target { namespace: namespace.map(Into::into), name: name.map(Into::into), ..Target::default() };
        asked(Operation { target: Some(target), ..Operation::default() }).text(Text::Place).map(Cow::into_owned)
    };
    let places = [place(Some("n"), None), place(None, Some("p")), place(None, None)];
    assert_eq!(places, [Some("n/".into()), Some("/p".into()), None]);
}

#[test]
fn of_a_caller_and_a_query_the_first_of_a_list_that_fits_is_told() {
    let pod = of_a_pod();
    assert_eq!((pod.in_groups(&list(&["ops", "dev", "sre"])), pod.in_groups(&list(&["ops"]))), (Some(1), None));
    assert_eq!(pod.query_like("command", &list(&["x", "-*", "s*"])), Some(1));
    assert_eq!((pod.query_like("container", &list(&["*"])), pod.query_like("Container", &list(&["*"]))), (Some(0), None));
    assert_eq!(pod.query("command").collect::<Vec<_>>(), ["sh", "-c"]);
    let of = |texts: &[&str]| values(&list(texts)).unwrap();
    assert_eq!(pod.claim_is("ref", &of(&["\"dev\"", "\"main\""])), Some(1));
    assert_eq!(pod.claim_is("teams", &of(&["[\"a\"]", "[ \"a\", 1.0 ]"])), Some(1), "as values");
    assert_eq!((pod.claim_has("teams", &of(&["\"b\"", "1"])), pod.claim_has("ref", &of(&["\"main\""]))), (Some(1), None));
    for unsure in ["twice", "broken", "none"] {
        assert_eq!(pod.claim_is(unsure, &of(&["1", "2", "null"])), None, "{unsure}");
    }
    let many = |count: usize, length: usize| bounded(&vec!["x".repeat(length); count]).is_ok();
    assert!(many(MOST_ASKED, 1) && !many(MOST_ASKED + 1, 0) && many(1, MOST_TEXT) && !many(2, MOST_TEXT / 2 + 1));
    assert!(values(&list(&["{"])).unwrap_err().contains("no JSON text"));
}

#[test]
fn what_is_the_same_is_written_the_same() {
    let of = |text: &str| canonical(&serde_json::from_str(text).unwrap());
    for (same, as_written) in [
        ("0", ["-0", "0.0", "-0.0"]),
        ("1", ["1.0", "1e0", "10e-1"]),
        ("9223372036854775807", [" 9223372036854775807", "9223372036854775807 ", "9223372036854775807"]),
    ] {
        as_written.iter().for_each(|text| assert_eq!(of(text), same, "{text}"));
    }
    assert_eq!(of("9223372036854775808"), of("9223372036854775808.0"), "what is no signed integer is a float, as for Go");
    assert_eq!(of("{\"b\": [1.0, {\"c\\u0064\": -0}], \"a\": 1.5}"), r#"{"a":1.5,"b":[1,{"cd":0}]}"#);
    assert_ne!(of("1"), of("\"1\""));
}

#[test]
fn a_window_holds_its_beginning_and_not_its_end() {
    // 2001-09-09T01:46:40.999Z, a Sunday: the third day of the week that began on the Thursday before.
    let at = |windows: &[(u64, u64)], period, offset| of_a_pod().at(windows, period, offset).unwrap();
    let now = 1_000_000_000;
    assert_eq!(at(&[(0, now), (now + 1, now + 2), (now, now + 1)], 0, 0), Some(2));
    let (day, of_day) = (86_400, now % 86_400);
    assert_eq!(of_day, 3600 + 46 * 60 + 40);
    assert_eq!((at(&[(of_day, of_day + 1)], day, 0), at(&[(of_day, of_day + 1)], day, 3600)), (Some(0), None));
    assert_eq!(at(&[(of_day + 3600, of_day + 3601)], day, 3600), Some(0));
    // Two hours before: of the day before.
    assert_eq!(at(&[(23 * 3600, 24 * 3600)], day, -2 * 3600), Some(0));
    assert_eq!(at(&[(3 * 86_400, 4 * 86_400)], 7 * day, 0), Some(0));
    // From ten in the evening to six in the morning, and from six to ten.
    assert_eq!((at(&[(22 * 3600, 6 * 3600)], day, 0), at(&[(6 * 3600, 22 * 3600)], day, 0)), (Some(0), None));
    assert_eq!(at(&[(now + 1, now - 1)], 0, 0), None, "there is nothing after the end of time");
    assert_eq!(at(&[(5, 5)], 10, 0), None);
    assert_eq!(asked(Operation::default()).at(&[(0, 1)], 0, -1), Ok(None), "before the beginning of time");
    for beyond in [(22 * 3600, 30 * 3600), (24 * 3600, 25 * 3600), (24 * 3600, 6 * 3600)] {
        assert!(of_a_pod().at(&[(0, 1), beyond], day, 0).unwrap_err().contains("beyond its period"), "{beyond:?}");
    }
}

/// What a glob says, by trying all a star may stand for.
fn slowly(glob: &[char], text: &[char]) -> bool {
    match glob {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|skipped| slowly(rest, &text[skipped..])),
        [one, rest @ ..] => text.split_first().is_some_and(|(first, text)| first == one && slowly(rest, text)),
    }
}

proptest! {
    #[test]
    fn a_glob_matches_what_trying_all_would_find(glob in "[ab*é]{0,8}", text in "[ab*é]{0,10}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(Glob::new(&glob).matches(&text), slowly(&chars(&glob), &chars(&text)), "{} {}", glob, text);
    }
}
