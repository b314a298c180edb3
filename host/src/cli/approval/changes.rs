//! What a change would do to an object, field by field: of an update, a JSON patch and a merge patch against what is there; of other patches as far as they say it.

use serde::Serialize;
use serde_json::{Map, Value};

/// Fields of an object's metadata that the API server writes, and no change is about.
const OF_THE_SERVER: [&str; 6] = ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];
/// Bytes that a JSON patch may copy: of one that copies what it has copied, each step would double the object. The API server has the same bound for it, that of a
/// request's body (`k8s.io/apiserver`, `JSONPatchMaxCopyBytes`).
const MOST_COPIED: usize = 3 << 20;
/// What is told last: there may be many of them, and other things matter more.
const LAST: [&str; 2] = ["metadata.annotations", "metadata.labels"];

/// A field that would be another.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct FieldChange {
    /// Where it is, with points between names; elements of a list that have a name by that.
    pub(super) path: String,
    /// What is there; none where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Value>,
    /// What would be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Value>,
    /// What else is to be known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<&'static str>,
}

/// What a change would do.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Changes {
    /// Field by field.
    pub(super) fields: Vec<FieldChange>,
    /// Why that may not be all, or is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<&'static str>,
}

const BY_THE_SERVER: &str = "the API server merges this kind of patch: what it takes away without naming it is not shown here";
const CANNOT_BE_APPLIED: &str = "the patch does not fit the object as it is now, and would be refused: read its steps";
const MERGED_OR_REPLACED: &str = "this list is merged by the API server, or replaced as a whole: its type says which";
const KEPT_OR_TAKEN_AWAY: &str = "kept where the list is merged, taken away where it is replaced";
const ANOTHER_ORDER: &str = "another order";

/// What a body would change: an object in the place of what is there, or a patch of the kind that its media type says.
pub(super) fn changes(current: &Value, body: &Value, media_type: &str) -> Changes {
    let mut found = Changes::default();
    if media_type.contains("json-patch+json") {
        let mut after = current.clone();
        let mut room = MOST_COPIED;
        match body.as_array().map(|steps| steps.iter().try_for_each(|step| take_step(&mut after, step, &mut room))) {
            Some(Some(())) => of_update(Some(current), Some(&after), "", &mut found.fields),
            _ => found.note = Some(CANNOT_BE_APPLIED),
        }
    } else if media_type.contains("merge-patch+json") && !media_type.contains("strategic") {
        let mut after = current.clone();
        merge(&mut after, body);
        of_update(Some(current), Some(&after), "", &mut found.fields);
    } else if media_type.contains("patch") {
        found.note = Some(BY_THE_SERVER);
        of_patch(Some(current), body, "", &mut found.fields);
    } else {
        of_update(Some(current), Some(body), "", &mut found.fields);
    }
    let is_of_server = |path: &str| {
        OF_THE_SERVER.iter().any(|field| path.strip_prefix("metadata.").is_some_and(|rest| rest.split('.').next() == Some(field)))
    };
    found.fields.retain(|change| !is_of_server(&change.path));
    found.fields.sort_by_key(|change| LAST.iter().any(|last| change.path.starts_with(last)));
    found
}

/// What is another in an object that takes the place of one.
fn of_update(before: Option<&Value>, after: Option<&Value>, at: &str, found: &mut Vec<FieldChange>) {
    match (before, after) {
        (Some(one), Some(other)) if one == other => {}
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            names(one, other).into_iter().for_each(|name| of_update(one.get(name), other.get(name), &within(at, name), found));
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) if are_named(one) && are_named(other) => {
            let (ones, others) = (by_name(one), by_name(other));
            let order = |list: &[Value], beside: &Map<String, Value>| -> Vec<Value> {
                let is_in_both = |name: &Value| name.as_str().is_some_and(|name| beside.contains_key(name));
                list.iter().map(|element| element["name"].clone()).filter(is_in_both).collect()
            };
            let (was, is) = (order(one, &others), order(other, &ones));
            if was != is {
                found.push(FieldChange {
                    path: at.to_owned(),
                    before: Some(was.into()),
                    after: Some(is.into()),
                    note: Some(ANOTHER_ORDER),
                });
            }
            names(&ones, &others).into_iter().for_each(|name| of_update(ones.get(name), others.get(name), &element(at, name), found));
        }
        _ => found.push(change(at, before, after, None)),
    }
}

/// What a strategic merge patch, or an object that is applied, says.
fn of_patch(current: Option<&Value>, patch: &Value, at: &str, found: &mut Vec<FieldChange>) {
    match (patch, current) {
        (value, Some(current)) if value == current => {}
        (Value::Null, None) => {}
        (Value::Null, current) => found.push(change(at, current, None, None)),
        (Value::Object(fields), Some(Value::Object(there))) => {
            if let Some(kept) = fields.get("$retainKeys").and_then(Value::as_array) {
                let goes = |name: &&String| !kept.iter().any(|kept| kept == name.as_str());
                there.keys().filter(goes).for_each(|name| found.push(change(&within(at, name), there.get(name), None, None)));
            }
            for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with("$setElementOrder/") && *name != "$retainKeys") {
                of_patch(there.get(name), value, &within(at, name), found);
            }
        }
        (Value::Array(wanted), Some(Value::Array(there))) if are_named(wanted) && are_named(there) => {
            let (there, wanted) = (by_name(there), by_name(wanted));
            found.push(FieldChange { path: at.to_owned(), before: None, after: None, note: Some(MERGED_OR_REPLACED) });
            for (name, value) in &wanted {
                match value["$patch"] == "delete" {
                    true => found.push(change(&element(at, name), there.get(name), None, None)),
                    false => of_patch(there.get(name), value, &element(at, name), found),
                }
            }
            let others = there.iter().filter(|(name, _)| !wanted.contains_key(*name));
            others.for_each(|(name, value)| found.push(change(&element(at, name), Some(value), None, Some(KEPT_OR_TAKEN_AWAY))));
        }
        (Value::Array(_), Some(Value::Array(_))) => found.push(change(at, current, Some(patch), Some(MERGED_OR_REPLACED))),
        _ => found.push(change(at, current, Some(patch), None)),
    }
}

/// Takes a step of a JSON patch (RFC 6902); none where it cannot be taken, or where there is no room for what it copies.
fn take_step(object: &mut Value, step: &Value, room: &mut usize) -> Option<()> {
    let (op, path) = (step["op"].as_str()?, step["path"].as_str()?);
    match op {
        "test" => (object.pointer(path)? == step.get("value")?).then_some(()),
        "add" => put(object, path, step.get("value")?.clone()),
        "replace" => {
            *object.pointer_mut(path)? = step.get("value")?.clone();
            Some(())
        }
        "remove" => take(object, path).map(drop),
        "copy" => {
            let value = object.pointer(step["from"].as_str()?)?;
            *room = room.checked_sub(value.to_string().len())?;
            let value = value.clone();
            put(object, path, value)
        }
        "move" => {
            let value = take(object, step["from"].as_str()?)?;
            put(object, path, value)
        }
        _ => None,
    }
}

/// Where a pointer leads: what it is in, and its last part.
fn place<'a>(object: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((object.pointer_mut(parent)?, last.replace("~1", "/").replace("~0", "~")))
}

fn put(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    match place(object, path)? {
        (Value::Object(fields), name) => drop(fields.insert(name, value)),
        (Value::Array(items), name) if name == "-" => items.push(value),
        (Value::Array(items), name) => {
            let at = name.parse::<usize>().ok().filter(|at| *at <= items.len())?;
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn take(object: &mut Value, path: &str) -> Option<Value> {
    match place(object, path)? {
        (Value::Object(fields), name) => fields.remove(&name),
        (Value::Array(items), name) => {
            let at = name.parse::<usize>().ok().filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

/// Merges a patch into an object (RFC 7396).
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(there) = object else { return };
    for (name, value) in fields {
        match value {
            Value::Null => drop(there.remove(name)),
            value => merge(there.entry(name).or_insert(Value::Null), value),
        }
    }
}

fn change(at: &str, before: Option<&Value>, after: Option<&Value>, note: Option<&'static str>) -> FieldChange {
    FieldChange { path: at.to_owned(), before: before.cloned(), after: after.cloned(), note }
}

/// The names of both, each once, in order.
fn names<'a>(one: &'a Map<String, Value>, other: &'a Map<String, Value>) -> Vec<&'a String> {
    let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether all elements of a list have a name that is theirs alone.
fn are_named(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|element| element["name"].is_string()) && by_name(list).len() == list.len()
}

fn by_name(list: &[Value]) -> Map<String, Value> {
    list.iter().map(|element| (element["name"].as_str().unwrap_or_default().to_owned(), element.clone())).collect()
}

fn within(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn element(at: &str, name: &str) -> String {
    format!("{at}[{name}]")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STRATEGIC: &str = "application/strategic-merge-patch+json";
    const MERGE: &str = "application/merge-patch+json";
    const STEPS: &str = "application/json-patch+json";

    fn told(current: &Value, body: &Value, media_type: &str) -> Vec<String> {
        let shown = |value: &Option<Value>| value.as_ref().map_or("none".to_owned(), Value::to_string);
        let one = |change: &FieldChange| format!("{}: {} -> {}", change.path, shown(&change.before), shown(&change.after));
        changes(current, body, media_type).fields.iter().map(one).collect()
    }

    fn deployment() -> Value {
        json!({"metadata": {"name": "web", "labels": {"a": "b"}, "resourceVersion": "7", "uid": "u"}, "spec": {"replicas": 3,
            "template": {"spec": {"containers": [{"name": "one", "image": "i:1"}, {"name": "two", "image": "j:1"}], "args": ["a", "b"]}}}, "status": {"replicas": 3}})
    }

    #[test]
    fn what_an_update_would_do_is_told_field_by_field() {
        let mut wanted = deployment();
        (wanted["spec"]["replicas"], wanted["metadata"]["labels"]) = (json!(0), json!({"c": "d"}));
        wanted["spec"]["template"]["spec"] =
            json!({"containers": [{"name": "three", "image": "k:1"}, {"name": "one", "image": "i:2"}], "args": ["a"]});
        (wanted["metadata"]["resourceVersion"], wanted["status"]["replicas"]) = (json!("6"), json!(2));
        assert_eq!(
            told(&deployment(), &wanted, "application/json"),
            [
                "spec.replicas: 3 -> 0",
                "spec.template.spec.args: [\"a\",\"b\"] -> [\"a\"]",
                "spec.template.spec.containers[one].image: \"i:1\" -> \"i:2\"",
                "spec.template.spec.containers[three]: none -> {\"image\":\"k:1\",\"name\":\"three\"}",
                "spec.template.spec.containers[two]: {\"image\":\"j:1\",\"name\":\"two\"} -> none",
                "status.replicas: 3 -> 2",
                "metadata.labels.a: \"b\" -> none",
                "metadata.labels.c: none -> \"d\"",
            ]
        );
        assert_eq!(changes(&deployment(), &deployment(), "application/json"), Changes::default());
        let (one, other) = (json!({"l": [{"name": "a"}, {"name": "b"}]}), json!({"l": [{"name": "b"}, {"name": "a"}]}));
        assert_eq!(changes(&one, &other, "").fields[0].note, Some(ANOTHER_ORDER));
        assert_eq!(told(&json!({}), &json!({"podSelector": {}}), ""), ["podSelector: none -> {}"]);
    }

    #[test]
    fn a_patch_of_steps_is_told_as_what_is_there_after_all_of_them() {
        let steps = json!([{"op": "test", "path": "/spec/replicas", "value": 3}, {"op": "add", "path": "/status/x", "value": "evil:1"},
            {"op": "copy", "from": "/status/x", "path": "/spec/template/spec/containers/0/image"}, {"op": "remove", "path": "/metadata/labels/a"},
            {"op": "move", "from": "/spec/replicas", "path": "/x~1y"}, {"op": "add", "path": "/spec/template/spec/args/0", "value": "z"}]);
        assert_eq!(
            told(&deployment(), &steps, STEPS),
            [
                "spec.replicas: 3 -> none",
                "spec.template.spec.args: [\"a\",\"b\"] -> [\"z\",\"a\",\"b\"]",
                "spec.template.spec.containers[one].image: \"i:1\" -> \"evil:1\"",
                "status.x: none -> \"evil:1\"",
                "x/y: none -> 3",
                "metadata.labels.a: \"b\" -> none",
            ]
        );
        for wrong in [
            json!([{"op": "test", "path": "/spec/replicas", "value": 4}]),
            json!([{"op": "add"}]),
            json!([7]),
            json!({}),
            json!([{"op": "remove", "path": "/no"}]),
        ] {
            assert_eq!(changes(&deployment(), &wrong, STEPS).note, Some(CANNOT_BE_APPLIED), "{wrong}");
        }
    }

    /// Who asks for something may not fill the memory of who is to approve it: sixty steps would make of an object 2^60 of it.
    #[test]
    fn a_patch_that_copies_what_it_has_copied_is_not_followed_without_end() {
        let step = |n: usize| json!({"op": "copy", "from": "/spec", "path": format!("/spec/{n}")});
        let steps: Vec<Value> = (0..60).map(step).collect();
        assert_eq!(changes(&deployment(), &steps.clone().into(), STEPS).note, Some(CANNOT_BE_APPLIED));
        assert_eq!(changes(&deployment(), &steps[..3].to_vec().into(), STEPS).note, None);
    }

    #[test]
    fn a_merge_patch_replaces_lists_and_of_others_it_is_said_what_is_not_known() {
        let patch = json!({"metadata": {"labels": {"a": null, "x": null}}, "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "one"}]}}}});
        let all = told(&deployment(), &patch, MERGE);
        assert!(all.len() == 3 && all[1].starts_with("spec.template.spec.containers[two]: {") && all[1].ends_with("-> none"), "{all:?}");
        let patch = json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [], "containers": [{"name": "two", "image": "j:2"}, {"name": "three", "$patch": "delete"}]}},
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let mut current = deployment();
        current["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
        let found = changes(&current, &patch, STRATEGIC);
        let of = |path: &str| found.fields.iter().filter(|change| change.path == path).collect::<Vec<_>>();
        assert_eq!(found.note, Some(BY_THE_SERVER));
        assert_eq!(of("spec.strategy.rollingUpdate")[0].after, None);
        assert_eq!(of("spec.template.spec.containers[one]")[0].note, Some(KEPT_OR_TAKEN_AWAY));
        assert_eq!(of("spec.template.spec.containers[two].image")[0].after, Some(json!("j:2")));
        // Subjects of a binding are replaced as a whole, whatever they are called.
        let binding = json!({"subjects": [{"name": "security"}, {"name": "sre"}]});
        let found = changes(&binding, &json!({"subjects": [{"name": "sre"}, {"name": "eve"}]}), STRATEGIC);
        let security = found.fields.iter().find(|change| change.path == "subjects[security]").unwrap();
        assert_eq!(security.note, Some(KEPT_OR_TAKEN_AWAY));
        assert_eq!(
            told(&json!({}), &json!({"spec": {"podSelector": {}}}), "application/apply-patch+yaml"),
            ["spec: none -> {\"podSelector\":{}}"]
        );
        assert_eq!(told(&json!({"a": {"b": 1}, "c": 2}), &json!({"a": {}, "c": {}}), STRATEGIC), ["c: 2 -> {}"]);
    }
}
