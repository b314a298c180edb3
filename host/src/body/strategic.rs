//! Directives of strategic merge patches by which something else comes about than the patch shows.

use serde_json::Value;

/// Says that what is in the list goes: of lists of texts that are merged.
const DELETE: &str = "$deleteFromPrimitiveList/";
/// Those lists, in all types of Kubernetes: `patchStrategy:"merge"` without a `patchMergeKey` in k8s.io/api and apimachinery 0.28 to 0.37.
const MERGED: [&str; 2] = ["finalizers", "podCIDRs"];

/// Where a patch sets a field under another name than its own. kube-apiserver takes the directive off the name and asks for it in lists of texts alone: whatever else stands
/// there becomes the field's value (`k8s.io/apimachinery/pkg/util/strategicpatch/patch.go`, `mergeMap`).
pub(super) fn unclear(patch: &Value) -> Option<String> {
    match patch {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let deletes = name.strip_prefix(DELETE).is_some_and(|list| !(MERGED.contains(&list) && is_texts(value)));
            if deletes {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
                return Some(format!("{shown:?} is for what goes from lists of texts ({}), and would set the field", MERGED.join(", ")));
            }
            unclear(value)
        }),
        Value::Array(elements) => elements.iter().find_map(unclear),
        _ => None,
    }
}

fn is_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|elements| elements.iter().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_set_under_its_own_name_only() {
        for sets in [
            json!({"spec": {"$deleteFromPrimitiveList/replicas": 1000}}),
            json!({"spec": {"containers": [{"name": "a", "$deleteFromPrimitiveList/image": "x"}]}}),
            json!({"spec": {"$deleteFromPrimitiveList/containers": [{"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "a", "$deleteFromPrimitiveList/args": ["x"]}]}}),
            json!({"metadata": {"labels": {"$deleteFromPrimitiveList/pod-security.kubernetes.io/enforce": "privileged"}}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": null}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [{"a": "b"}]}}),
            json!({"$deleteFromPrimitiveList/spec": {"replicas": 1}}),
        ] {
            assert!(unclear(&sets).is_some_and(|why| why.contains("$deleteFromPrimitiveList/")), "{sets}");
        }
        for plain in [
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["c/d"], "$setElementOrder/finalizers": ["c/d"]}}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}], "$setElementOrder/containers": [{"name": "b"}], "$retainKeys": ["x"]}}),
        ] {
            assert_eq!(unclear(&plain), None, "{plain}");
        }
    }
}
