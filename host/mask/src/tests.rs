use serde_json::{Value, json};

use super::super::plan::{Condition, Mask, Selector};
use super::super::token::TokenKey;
use super::*;
use crate::RowObject;

fn mask(path: &str, how: Transform) -> Mask {
    Mask { what: Selector::Field(path.into()), how, when: Vec::new() }
}

fn apply(masks: &[Mask], object: &str, resource: &str) -> (Value, MaskCounts) {
    let plan = Plan::compile(masks, &TokenKey::new(&[1; 32])).unwrap();
    let (mut out, mut report) = (Vec::new(), MaskCounts::new());
    plan.apply(object.as_bytes(), resource, false, &mut out, &mut report).unwrap();
    (serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out))), report)
}

#[test]
fn a_masked_secret_is_still_a_secret() {
    let applied = json!({"kind":"Secret","data":{"password":"aHVudGVyMg=="},"metadata":{"name":"db"}}).to_string();
    let object = json!({"kind": "Secret", "metadata": {"name": "db", "annotations": {LAST_APPLIED: applied, "note": "hunter2 it is", "x": "kept"}},
        "data": {"password": "aHVudGVyMg==", "empty": ""}, "type": "Opaque"});
    let (masked, report) = apply(&[mask("$.data.*", Transform::Redact)], &object.to_string(), "secrets");
    assert_eq!(masked["data"], json!({"password": "cG9zdGVybi1tYXNrZWQ=", "empty": ""}));
    assert!(!masked.to_string().contains("hunter2") && !masked.to_string().contains("aHVudGVyMg"), "{masked}");
    assert_eq!(masked["metadata"]["annotations"]["x"], "kept");
    assert_eq!(masked["metadata"]["annotations"]["note"], "postern-masked it is");
    assert_eq!(masked["type"], "Opaque");
    assert_eq!(report["$.data.*"], 2, "the field and its copy in last-applied");
}

#[test]
fn types_and_shapes_survive() {
    let object = json!({"spec": {"s": "text", "n": 7.5, "b": true, "z": null, "l": [1, {"k": "v"}], "o": {}}, "n": 7});
    let (masked, _) = apply(&[mask("$.spec", Transform::Redact)], &object.to_string(), "widgets");
    let hidden = "postern-masked";
    assert_eq!(masked, json!({"spec": {"s": hidden, "n": 0, "b": false, "z": null, "l": [0, {"k": hidden}], "o": {}}, "n": 7}));
}

#[test]
fn removal_leaves_json_whatever_stands_beside() {
    for (object, left) in [
        (r#"{"a":1,"b":2,"c":3}"#, json!({"b": 2})),
        (r#"{ "a" : 1 , "c" : 3 , "b" : 2 }"#, json!({"b": 2})),
        (r#"{"b":2,"a":1,"c":3}"#, json!({"b": 2})),
        (r#"{"a":1,"c":3}"#, json!({})),
        (r#"{"a":1}"#, json!({})),
        (r#"{"a":1,"c":3,"b":2,"a":4,"d":5}"#, json!({"b": 2, "d": 5})),
    ] {
        let (masked, _) = apply(&[mask("$.a", Transform::Remove), mask("$.c", Transform::Remove)], object, "x");
        assert_eq!(masked, left, "{object}");
    }
    let (masked, _) = apply(&[mask("$.l[0]", Transform::Remove)], r#"{"l":[1,2,3]}"#, "x");
    assert_eq!(masked, json!({"l": [2, 3]}));
}

#[test]
fn conditions_are_those_of_the_object_itself_and_nested_lists_have_their_own() {
    let when = vec![Condition { path: "$.type".into(), equal: false, value: "helm.sh/release.v1".into() }];
    let masks = [Mask { when, ..mask("$.data.*", Transform::Redact) }];
    let list = json!({"kind": "List", "items": [
        {"kind": "Secret", "data": {"a": "eA=="}, "type": "Opaque"},
        {"kind": "Secret", "data": {"release": "eA=="}, "type": "helm.sh/release.v1"}]});
    let (masked, _) = apply(&masks, &list.to_string(), "secrets");
    assert_eq!(masked["items"][0]["data"]["a"], "cG9zdGVybi1tYXNrZWQ=");
    assert_eq!(masked["items"][1]["data"]["release"], "eA==");
}

#[test]
fn a_key_written_with_escapes_does_not_slip_by() {
    let (masked, _) = apply(&[mask("$.data.*", Transform::Redact)], r#"{"d\u0061ta":{"a":"secret"}}"#, "configmaps");
    assert_eq!(masked["data"]["a"], "postern-masked");
}

#[test]
fn a_row_shows_what_was_asked_for_and_no_value() {
    let plan = Plan::compile(&[mask("$.spec.token", Transform::Redact)], &TokenKey::new(&[1; 32])).unwrap();
    let row = json!({"cells": ["n", "tok-1234", 3], "object": {"kind": "W", "metadata": {"name": "n"}, "spec": {"token": "tok-1234"}}})
        .to_string();
    for (include, object) in [
        (RowObject::None, Value::Null),
        (RowObject::Metadata, json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "n"}})),
        (RowObject::Object, json!({"kind": "W", "metadata": {"name": "n"}, "spec": {"token": "postern-masked"}})),
    ] {
        let mut out = Vec::new();
        plan.apply_row(row.as_bytes(), "widgets", include, &mut out, &mut MaskCounts::new()).unwrap();
        let masked: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(masked["cells"], json!(["n", "postern-masked", 3]));
        assert_eq!(masked["object"], object);
    }
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let plan = Plan::compile(&[mask("$..a", Transform::Redact)], &TokenKey::new(&[1; 32])).unwrap();
    let deep = "[".repeat(100_000);
    for bad in ["", "{", "{\"a\"", "{\"a\":}", "{\"a\":1,}", "[1 2]", "{\"a\":1} x", deep.as_str()] {
        assert!(plan.apply(bad.as_bytes(), "x", false, &mut Vec::new(), &mut MaskCounts::new()).is_err(), "{bad:.20}");
    }
}

fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[abc]|.{1,3}", inner, 0..5).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn what_no_mask_names_is_unchanged(object in any_json()) {
        let (masked, report) = apply(&[mask("$.nowhere.at.all", Transform::Redact)], &object.to_string(), "x");
        proptest::prop_assert_eq!(masked, object);
        proptest::prop_assert!(report.is_empty());
    }

    #[test]
    fn what_a_mask_selects_is_gone(object in any_json()) {
        let (masked, _) = apply(&[mask("$..a", Transform::Remove)], &object.to_string(), "x");
        // A list called items is a List, whose elements are objects of their own; the strategy makes none.
        proptest::prop_assert!(path::Path::parse("$..a").unwrap().first(&masked).is_none());
    }

    /// An object is found to end where it does, whatever follows; of one that is not all there, nothing is written.
    #[test]
    fn the_first_object_of_a_text_is_masked_like_one_alone(data in any_json(), note in any_json(), after in ".{0,12}", pretty in proptest::bool::ANY) {
        let object = json!({"metadata": {"annotations": {"note": note.to_string()}}, "data": data, "other": note});
        let text = if pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() };
        let plan = Plan::compile(&[mask("$.data.*", Transform::Redact)], &TokenKey::new(&[1; 32])).unwrap();
        let (mut alone, mut reported) = (Vec::new(), MaskCounts::new());
        plan.apply(text.as_bytes(), "secrets", false, &mut alone, &mut reported).unwrap();
        let (mut first, mut report) = (b"before".to_vec(), MaskCounts::new());
        let end = plan.apply_to_first(format!("{text}{after}").as_bytes(), "secrets", false, &mut first, &mut report);
        proptest::prop_assert_eq!(end, Some(text.len()));
        proptest::prop_assert_eq!(first.strip_prefix(b"before"), Some(alone.as_slice()));
        proptest::prop_assert_eq!(report, reported);
        for cut in 0..text.len() {
            let (mut half, mut report) = (b"before".to_vec(), MaskCounts::new());
            proptest::prop_assert_eq!(plan.apply_to_first(&text.as_bytes()[..cut], "secrets", false, &mut half, &mut report), None);
            proptest::prop_assert!(half == b"before" && report.is_empty());
        }
    }

    #[test]
    fn garbage_does_not_panic(bytes in proptest::collection::vec(0u8..=255, 0..64)) {
        let plan = Plan::compile(&[mask("$..a", Transform::Remove)], &TokenKey::new(&[1; 32])).unwrap();
        let _ = plan.apply(&bytes, "secrets", false, &mut Vec::new(), &mut MaskCounts::new());
    }
}

/// Values as they are hidden, and what may repeat them.
fn any_value() -> impl proptest::strategy::Strategy<Value = String> {
    proptest::string::string_regex("[ab8]{0,3}[a/<ü]{1,4}(b|\"|\\\\|\u{7f}|\n)?").unwrap()
}

proptest::proptest! {
    /// What repeats nothing for sure is not read. Whoever looks for the values elsewhere has it all read: nothing may differ.
    #[test]
    fn what_repeats_a_value_is_found_whether_it_is_read_or_not(
        values in proptest::collection::vec(any_value(), 0..4),
        notes in proptest::collection::vec((any_value(), any_value(), 0..4usize), 0..8),
        number in 0..100u32,
    ) {
        let around = |(before, after, which): &(String, String, usize)| match values.get(*which) {
            Some(value) => format!("{before}{value}{after}"),
            None => before.clone(),
        };
        let mut annotations = serde_json::Map::new();
        let mut set = serde_json::Map::new();
        for (n, note) in notes.iter().enumerate() {
            let text = around(note);
            let written = match n % 4 {
                0 => text.clone(),
                1 => json!({"x": text}).to_string(),
                2 => json!(json!({"x": text}).to_string()).to_string(),
                _ => text.replace('<', "\\u003c").replace('ü', "\\u00fc").replace('/', "\\/"),
            };
            annotations.insert(format!("n{n}"), Value::from(written));
            // What was there before may be hidden there and nowhere else.
            if n == 5 {
                let applied = json!({"env": [{"value": note.0}], "metadata": {}});
                annotations.insert(LAST_APPLIED.into(), Value::from(applied.to_string()));
                annotations.insert("old".into(), Value::from(format!("was {}", note.0)));
            }
            set.insert(format!("v:{}", json!(text)), json!({}));
            set.insert(format!("k:{}", json!({"a": text, "b": number})), json!({}));
        }
        let env: Vec<Value> = values.iter().map(|value| json!({"value": value})).collect();
        let object = json!({"metadata": {"annotations": annotations, "managedFields": [{"fieldsV1": set}]}, "env": env, "n": number}).to_string();
        for hidden in ["$.env[*].value", "$.n"] {
            let plan = Plan::compile(&[mask(hidden, Transform::Redact)], &TokenKey::new(&[1; 32])).unwrap();
            let (mut quick, mut read) = (Vec::new(), Vec::new());
            plan.apply(object.as_bytes(), "pods", false, &mut quick, &mut MaskCounts::new()).unwrap();
            let (mut counts, mut found) = (MaskCounts::new(), Values::default());
            plan.apply_collecting(object.as_bytes(), Extent::Whole, "pods", false, &Scope::default(), &mut read, &mut counts, Some(&mut found)).unwrap();
            proptest::prop_assert_eq!(String::from_utf8(quick).unwrap(), String::from_utf8(read).unwrap());
        }
    }
}

#[test]
fn what_masks_hide_names_no_element_of_managed_fields() {
    let object = br#"{"metadata":{"name":"web","annotations":{"a":"b"},"managedFields":[{"fieldsV1":{"f:status":{"f:podIPs":{"k:{\"ip\":\"10.244.0.5\"}":{},"k:{\"ip\":\"::1\"}":{}},"f:ports":{"k:{\"port\":8443}":{}}}}}]},"spec":{"ports":[{"port":8443}]},"status":{"podIPs":[{"ip":"10.244.0.5"}]}}"#;
    let masked = |what: Selector, how: Transform| {
        let plan = Plan::compile(&[Mask { what, how, when: vec![] }], &TokenKey::new(&[7; 32])).unwrap();
        let mut out = Vec::new();
        plan.apply(object, "pods", false, &mut out, &mut MaskCounts::new()).unwrap();
        serde_json::from_slice::<Value>(&out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let shown = masked(Selector::Text(r"10\.\d+\.\d+\.\d+".into()), Transform::Redact);
    assert!(!shown.contains("10.244") && shown.contains("::1"), "{shown}");
    for how in [Transform::Redact, Transform::Remove] {
        let shown = masked(Selector::Field("$.spec.ports[*].port".into()), how);
        assert!(!shown.contains("8443") && shown.contains("10.244"), "{shown}");
    }
}
