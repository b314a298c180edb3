//! Numbers in patches that are longer than where they go.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Number, Value};

use super::schema::{self, Type};

/// Where a patch of a built-in type has a number that is longer than what some type has under its name. kube-apiserver keeps the low 32 bits of it, or what Go makes of it,
/// and says nothing (`k8s.io/apimachinery/pkg/runtime/converter.go`, `fromUnstructured`), so that who reads the patch reads another number than is stored. Where a
/// whole object is written the same is an error there.
pub fn too_long(patch: &Value) -> Option<String> {
    let (at, number) = find(patch, None)?;
    Some(format!("${at} is {number}, which is longer than a number of that name is stored"))
}

/// Whether a type is one of those that Kubernetes comes with.
pub fn is_built_in(api_version: &str, kind: &str) -> bool {
    schema::table().kind(api_version, kind).is_some()
}

/// Names under which a type has a whole number, and whether one of them is of 32 bits.
fn names() -> &'static HashMap<&'static str, bool> {
    static NAMES: OnceLock<HashMap<&'static str, bool>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = HashMap::new();
        for field in schema::table().fields() {
            let is_narrow = match field.kind {
                Type::Int32 | Type::Uint32 => true,
                Type::Int | Type::Uint => false,
                _ => continue,
            };
            *names.entry(field.name).or_insert(false) |= is_narrow;
        }
        names
    })
}

/// The first number that is too long for the name it stands under, and where it is: the place is put together only for one that is.
fn find<'a>(value: &'a Value, under: Option<&str>) -> Option<(String, &'a Number)> {
    match value {
        Value::Number(number) => {
            let is_narrow = *names().get(under?)?;
            let fits = number.as_i64().is_some_and(|whole| !is_narrow || i32::try_from(whole).is_ok());
            (!fits).then(|| (String::new(), number))
        }
        Value::Array(elements) => elements.iter().enumerate().find_map(|(index, element)| {
            let (at, number) = find(element, under)?;
            Some((format!("[{index}]{at}"), number))
        }),
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            let (at, number) = find(member, Some(name))?;
            Some((format!(".{name}{at}"), number))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_would_be_cut_is_found() {
        for long in [
            json!({"spec": {"replicas": 4_294_967_297i64}}),
            json!({"spec": {"replicas": -4_294_967_196i64}}),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "ports": [{"hostPort": 4_294_967_318i64}]}]}}}}),
            json!({"spec": {"replicas": 1e20}}),
            json!({"spec": {"replicas": 1.5}}),
            json!({"spec": {"securityContext": {"supplementalGroups": [1, 1e20]}}}),
        ] {
            let told = too_long(&long).unwrap();
            assert!(told.starts_with("$.spec.") && told.contains("longer than"), "{told}");
        }
        for fits in [
            json!({"spec": {"replicas": 2_147_483_647, "template": {"spec": {"securityContext": {"runAsUser": 4_294_967_297i64}}}}}),
            json!({"spec": {"containers": [{"resources": {"limits": {"memory": 4_294_967_296i64}}}]}}),
            json!({"data": {"replicas": "4294967297"}}),
            json!(null),
        ] {
            assert_eq!(too_long(&fits), None, "{fits}");
        }
        assert!(is_built_in("apps/v1", "Deployment") && !is_built_in("example.org/v1", "Deployment"));
    }
}
