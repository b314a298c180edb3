//! Shapes that many Kubernetes objects have.

use serde_json::Value;

/// Pods, and what makes them: what names container images, as RBAC writes it.
pub const IMAGE_RESOURCES: [&str; 10] = [
    "pods",
    "pods/ephemeralcontainers",
    "podtemplates",
    "replicationcontrollers",
    "deployments",
    "replicasets",
    "statefulsets",
    "daemonsets",
    "jobs",
    "cronjobs",
];

/// A resource and its subresources that answer with the object itself: whoever hides a field of the one must hide it in the others.
pub fn forms_of(resource: &str) -> Vec<String> {
    let more: &[&str] = if resource == "pods" { &["status", "ephemeralcontainers", "resize"] } else { &["status"] };
    [resource.to_owned()].into_iter().chain(more.iter().map(|subresource| format!("{resource}/{subresource}"))).collect()
}

/// What a create, an update or a patch says of container images.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Every image named, as it is written.
    pub named: Vec<String>,
    /// Places to which a JSON patch moves or copies something that may be an image: which one cannot be told from the patch.
    pub moved: Vec<String>,
}

/// The images in a pod, in whatever has a pod template, or in a patch of either: merge patches say them as objects do, JSON patches by
/// their path.
pub fn images(body: &Value) -> Images {
    let mut found = Images::default();
    match body {
        // RFC 6902.
        Value::Array(operations) => operations.iter().for_each(|operation| of_operation(operation, &mut found)),
        object => walk(object, false, &mut found.named),
    }
    found
}

fn of_operation(operation: &Value, found: &mut Images) {
    let text = |key: &str| operation[key].as_str().unwrap_or_default();
    let path = text("path");
    match text("op") {
        // Whatever is moved may hold a template of pods: into labels and notes it starts nothing.
        "move" | "copy" if !path.starts_with("/metadata/") && !path.starts_with("/status/") => {
            found.moved.push(path.to_owned());
        }
        "add" | "replace" => match &operation["value"] {
            Value::String(image) if path.ends_with("/image") || path.ends_with("/image/reference") => found.named.push(image.clone()),
            // The image of a volume.
            Value::Object(image) if path.ends_with("/image") => found.named.extend(reference(image)),
            // What stands under whatever name may be moved to another by a later operation.
            value => walk(value, true, &mut found.named),
        },
        _ => {}
    }
}

fn walk(value: &Value, all: bool, named: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| walk(value, all, named)),
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(image) if key == "image" => named.push(image.clone()),
                    // The image of a volume.
                    Value::Object(image) if key == "image" => named.extend(reference(image)),
                    // Notes and what a status repeats start nothing.
                    _ if !all && matches!(key.as_str(), "annotations" | "managedFields" | "status") => {}
                    value => walk(value, all, named),
                }
            }
        }
        _ => {}
    }
}

fn reference(image: &serde_json::Map<String, Value>) -> Option<String> {
    image.get("reference")?.as_str().map(str::to_owned)
}

/// An image's full name, as container runtimes complete it: `nginx` is `docker.io/library/nginx:latest`.
/// Source: `github.com/distribution/reference`, normalize.go.
pub fn full_image_name(image: &str) -> String {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase());
    let (host, rest) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest.to_owned()),
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    match (digest, rest.contains(':')) {
        (Some(digest), _) => format!("{host}/{rest}@{digest}"),
        (None, true) => format!("{host}/{rest}"),
        (None, false) => format!("{host}/{rest}:latest"),
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let (Some(first), rest) = (parts.next(), pattern.matches('*').count()) else { return false };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    if rest == 0 {
        return text.is_empty();
    }
    let mut parts: Vec<&str> = parts.collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.len() >= last.len() && text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_are_found_in_every_form() {
        let named = |body: Value| images(&body).named;
        let pod = json!({"spec": {"initContainers": [{"image": "a"}], "containers": [{"image": "b", "env": [{"name": "x", "value": "image"}]}]}, "status": {"containerStatuses": [{"image": "old"}]}});
        assert_eq!(named(pod.clone()).len(), 2);
        assert_eq!(named(json!({"spec": {"jobTemplate": {"spec": {"template": pod}}}})).len(), 2);
        assert_eq!(named(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "m"}]}}}})), ["m"]);
        assert_eq!(named(json!({"spec": {"volumes": [{"name": "v", "image": {"reference": "r", "pullPolicy": "Always"}}]}})), ["r"]);
        assert_eq!(named(json!([{"op": "replace", "path": "/spec/volumes/0/image/reference", "value": "r"}])), ["r"]);
        assert_eq!(named(json!([{"op": "add", "path": "/spec/volumes/0/image", "value": {"reference": "r"}}])), ["r"]);
        let patch = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "p"}, {"op": "add", "path": "/spec/containers/-", "value": {"image": "q"}},
            {"op": "copy", "from": "/metadata/annotations/x", "path": "/spec/containers/0/image"}, {"op": "remove", "path": "/spec/containers/0"}]);
        assert_eq!(images(&patch), Images { named: vec!["p".into(), "q".into()], moved: vec!["/spec/containers/0/image".into()] });
    }

    #[test]
    fn names_are_completed_as_runtimes_do() {
        for (image, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/nginx", "docker.io/bitnami/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("registry:5000/a@sha256:00", "registry:5000/a@sha256:00"),
        ] {
            assert_eq!(full_image_name(image), full);
        }
    }

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("ab*ba", "aba", false),
            ("ghcr.io/acme/*", "ghcr.io/acmeevil/x", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
