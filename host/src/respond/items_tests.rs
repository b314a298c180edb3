use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::mask::{Mask, PlanCache, RowObject, Selector, TokenKey, Transform};
use crate::rehearse::given::Wanted;
use crate::respond::Negotiated;

pub(in crate::respond) fn items(verb: &str, shape: Shape, table: bool) -> Items {
    let plans = Arc::new(PlanCache::new(TokenKey::new(&[1; 32])));
    let mask = Mask { what: Selector::Field("$.data.*".into()), how: Transform::Redact, when: vec![] };
    let treatment = Treatment {
        masks: Some(plans.of_policy("test", &[mask]).unwrap()),
        on_object: vec![],
        runtime: None,
        subject: Wanted { verb: "list".into(), resource: "secrets".into(), ..Wanted::default() }
            .given(None, Default::default())
            .unwrap()
            .subject,
        plans,
        resource: "secrets".into(),
        asked: Negotiated { table, partial: None, rows: RowObject::Metadata },
        look_back: None,
    };
    Items::new(treatment, verb, shape, 1 << 20)
}

/// Feeds an answer in pieces of every size, which must make no difference.
fn run(verb: &str, shape: Shape, text: &str) -> String {
    let mut results = HashSet::new();
    for size in [1, 2, 3, 7, 64, text.len()] {
        let (mut items, mut out) = (items(verb, shape, true), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            items.push(piece, &mut out).unwrap();
        }
        items.finish(&mut out).unwrap();
        results.insert(String::from_utf8(out).unwrap());
    }
    assert_eq!(results.len(), 1, "{results:#?}");
    results.into_iter().next().unwrap()
}

const HIDDEN: &str = "cG9zdGVybi1tYXNrZWQ=";

#[test]
fn a_list_keeps_its_frame() {
    let list = json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {"continue": "c", "remainingItemCount": 5, "resourceVersion": "7"},
        "items": [{"data": {"a": "eA==", "b": "\"]}{["}}, {"data": {}}, {"type": "x", "data": {"c": "eQ=="}}]});
    let mut expected = list.clone();
    for (item, key) in [(0, "a"), (0, "b"), (2, "c")] {
        expected["items"][item]["data"][key] = HIDDEN.into();
    }
    assert_eq!(serde_json::from_str::<Value>(&run("list", Shape::Answer, &list.to_string())).unwrap(), expected);
    let pretty = serde_json::to_string_pretty(&list).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&run("list", Shape::Answer, &pretty)).unwrap(), expected);
    assert_eq!(run("list", Shape::Answer, r#"{"items":[],"kind":"L"}"#), r#"{"items":[],"kind":"L"}"#);
}

#[test]
fn rows_of_a_table_show_metadata() {
    let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [{"name": "Name"}], "rows": [{"cells": ["s", 1], "object": {"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "c2VjcmV0"}}}]});
    for (verb, text) in [("list", table.to_string()), ("get", table.to_string())] {
        let masked: Value = serde_json::from_str(&run(verb, Shape::Answer, &text)).unwrap();
        assert_eq!(masked["rows"][0]["object"]["kind"], "PartialObjectMetadata", "{verb}");
        assert!(!masked.to_string().contains("c2VjcmV0"));
    }
}

/// A custom resource may be called anything.
#[test]
fn a_kind_that_is_called_like_one_of_the_api_servers_is_masked_like_any_other() {
    for kind in ["Table", "Status", "List", "WatchEvent"] {
        let object = json!({"kind": kind, "apiVersion": "example.com/v1", "metadata": {"name": "s"}, "data": {"a": "c2VjcmV0"}, "rows": [], "items": []});
        let read: Value = serde_json::from_str(&run("get", Shape::Answer, &object.to_string())).unwrap();
        assert_eq!(read["data"]["a"], HIDDEN, "{kind}");
        let event = json!({"type": "ADDED", "object": object}).to_string() + "\n";
        assert!(!run("watch", Shape::Watch, &event).contains("c2VjcmV0"), "{kind}");
    }
}

#[test]
fn events_are_masked_and_bookmarks_are_not_touched() {
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Secret","data":{"a":"b"},"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
    let text = format!("{}\n{bookmark}\n", json!({"type": "ADDED", "object": {"metadata": {"name": "s"}, "data": {"a": "c2VjcmV0"}}}));
    let out = run("watch", Shape::Watch, &text);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[1], bookmark);
    assert_eq!(serde_json::from_str::<Value>(lines[0]).unwrap()["object"]["data"]["a"], HIDDEN);
}

#[test]
fn an_event_goes_out_before_the_next_arrives() {
    let (mut items, mut out) = (items("watch", Shape::Watch, false), Vec::new());
    items.push(br#"{"type":"ADDED","object":{"data":{"a":"eA=="}}}"#, &mut out).unwrap();
    assert!(out.ends_with(b"}\n"));
}

#[test]
fn what_cannot_be_read_or_held_ends_the_answer() {
    let mut out = Vec::new();
    assert!(items("list", Shape::Answer, false).push(br#"{"items":[1,2]}"#, &mut out).is_err());
    for (verb, shape, text) in [
        ("list", Shape::Answer, r#"{"items":[["secret"]]}"#),
        ("get", Shape::Answer, r#""secret""#),
        ("get", Shape::Answer, r#"["secret"]"#),
        ("watch", Shape::Watch, r#"["secret"]"#),
        ("watch", Shape::Watch, r#"{"type":"ADDED","object":"secret"}"#),
        ("watch", Shape::Watch, r#"{"type":"CHANGED","object":{"data":{"a":"secret"}}}"#),
        ("watch", Shape::Watch, r#"{"object":{"data":{"a":"secret"}}}"#),
    ] {
        let (mut items, mut out) = (items(verb, shape, false), Vec::new());
        let ended = items.push(text.as_bytes(), &mut out).and_then(|()| items.finish(&mut out));
        assert!(ended.is_err() && !String::from_utf8_lossy(&out).contains("secret"), "{text}");
    }
    let mut half = items("list", Shape::Answer, false);
    half.push(br#"{"items":[{"data":{"a":"secret"#, &mut out).unwrap();
    assert!(half.finish(&mut out).is_err());
    assert!(!String::from_utf8_lossy(&out).contains("secret"));
    let mut huge = items("get", Shape::Answer, false);
    assert!((0..40).any(|_| huge.push(&[b' '; 64 << 10], &mut out).is_err()));
}

/// A list whose values hold what could be taken for its frame.
fn any_list() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let text = r#"[ -~é]{0,12}"#;
    let item =
        proptest::collection::btree_map("[a-c\"\\\\]{1,3}", text, 0..4).prop_map(|data| json!({"metadata": {"name": "n"}, "data": data}));
    proptest::collection::vec(item, 0..5)
        .prop_map(|items| json!({"kind": "SecretList", "metadata": {"continue": "]}"}, "items": items, "z": "after"}))
}

proptest::proptest! {
    #[test]
    fn how_the_bytes_are_cut_changes_nothing_and_no_value_is_left(list in any_list(), cuts in proptest::collection::vec(1usize..40, 1..30)) {
        let text = list.to_string();
        let (mut cut, mut out) = (items("list", Shape::Answer, false), Vec::new());
        let (mut rest, mut sizes) = (text.as_bytes(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            cut.push(piece, &mut out).unwrap();
            rest = more;
        }
        cut.finish(&mut out).unwrap();
        let mut expected = list;
        for item in expected["items"].as_array_mut().unwrap() {
            item["data"].as_object_mut().unwrap().values_mut().filter(|v| **v != "").for_each(|v| *v = HIDDEN.into());
        }
        proptest::prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }

    #[test]
    fn nothing_a_server_sends_panics(pieces in proptest::collection::vec(r#"[\[\]{}",:a-e\\\\ 0-9]{0,20}"#, 0..8), which in 0usize..3) {
        let (verb, shape) = [("list", Shape::Answer), ("get", Shape::Answer), ("watch", Shape::Watch)][which];
        let (mut items, mut out) = (items(verb, shape, false), Vec::new());
        let pushed = pieces.iter().try_for_each(|piece| items.push(piece.as_bytes(), &mut out));
        if pushed.is_ok() {
            let _ = items.finish(&mut out);
        }
    }
}
