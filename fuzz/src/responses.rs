//! What the API server sends, masked.

use std::sync::{Arc, OnceLock};

use postern::classify::Shape;
use postern::mask::{Mask, MaskCounts, Plan, PlanCache, RowObject, Selector, TokenKey, Transform};
use postern::policy::{PolicyOperation, Surroundings};
use postern::rehearse::given::Wanted;
use postern::respond::{Items, Negotiated, Treatment};
use serde_json::Value;

use crate::pieces;

/// The values that a mask names are gone, and what was JSON is JSON still.
pub fn json(data: &[u8]) {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    let plan = PLAN.get_or_init(|| {
        let field = |path: &str, how| Mask { what: Selector::Field(path.into()), how, when: vec![] };
        let masks = [field("$.data.*", Transform::Redact), field("$..token", Transform::Remove), field("$.list[1].a", Transform::Redact)];
        Plan::compile(&masks, &TokenKey::new(&[1; 32])).expect("the masks compile")
    });
    let resource = if data.first() == Some(&b' ') { "configmaps" } else { "secrets" };
    let mut out = Vec::new();
    if plan.apply(data, resource, false, &mut out, &mut MaskCounts::new()).is_err() {
        return;
    }
    if serde_json::from_slice::<Value>(data).is_ok() {
        let masked: Value = serde_json::from_slice(&out).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&out)));
        // A List's items are objects of their own.
        if !masked["items"].is_array() {
            if masked["data"].is_object() || masked["data"].is_array() {
                assert_hidden(&masked["data"]);
            }
            // Within what one mask hides whole the other has nothing to do.
            let beside = masked.as_object().into_iter().flatten().filter(|(key, _)| *key != "data");
            assert!(!beside.into_iter().any(|(key, value)| key == "token" || has_key(value, "token")), "{masked}");
        }
    }
}

fn assert_hidden(value: &Value) {
    match value {
        Value::String(text) => assert!(matches!(&**text, "" | "postern-masked" | "cG9zdGVybi1tYXNrZWQ="), "{text}"),
        Value::Number(number) => assert_eq!(number.as_f64(), Some(0.0)),
        Value::Bool(shown) => assert!(!shown),
        Value::Null => {}
        Value::Array(list) => list.iter().for_each(assert_hidden),
        Value::Object(object) => object.values().for_each(assert_hidden),
    }
}

fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|value| has_key(value, key)),
        Value::Object(object) => object.contains_key(key) || object.values().any(|value| has_key(value, key)),
        _ => false,
    }
}

/// How the bytes of a list, a Table, a watch or an object are cut changes nothing.
pub fn watch(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let (verb, shape) = [("watch", Shape::Watch), ("list", Shape::Answer), ("get", Shape::Answer)][usize::from(*how) % 3];
    let (whole, cut) = pieces(data);
    let run = |pieces: &[&[u8]]| {
        let (mut items, mut out) = (Items::new(treatment(*how & 0x80 != 0), verb, shape, 1 << 20), Vec::new());
        let done = pieces.iter().try_for_each(|piece| items.push(piece, &mut out)).and_then(|()| items.finish(&mut out));
        (done.is_ok(), out)
    };
    let (read, out) = run(&[whole]);
    let (read_cut, out_cut) = run(&cut);
    assert_eq!(read, read_cut, "whole and in pieces");
    if read {
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&out_cut));
    }
}

fn treatment(table: bool) -> Treatment {
    static PLANS: OnceLock<Arc<PlanCache>> = OnceLock::new();
    let plans = PLANS.get_or_init(|| Arc::new(PlanCache::new(TokenKey::new(&[1; 32]))));
    static SUBJECT: OnceLock<Arc<PolicyOperation>> = OnceLock::new();
    let subject = SUBJECT.get_or_init(|| {
        let wanted = Wanted { verb: "list".into(), resource: "secrets".into(), ..Wanted::default() };
        wanted.given(None, Surroundings::default()).expect("it is an operation").subject
    });
    let mask = Mask { what: Selector::Field("$.data.*".into()), how: Transform::Redact, when: vec![] };
    Treatment {
        masks: Some(plans.of_policy("fuzz", &[mask]).expect("the mask compiles")),
        on_object: vec![],
        runtime: None,
        subject: Arc::clone(subject),
        plans: Arc::clone(plans),
        resource: "secrets".into(),
        asked: Negotiated { table, partial: None, rows: RowObject::Metadata },
        look_back: None,
    }
}
