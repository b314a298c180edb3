//! Says from where container images may come.

use postern_policy_sdk::*;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Images let in, by their full name, `*` standing for any text: `ghcr.io/acme/*`, `docker.io/library/nginx:*`.
    allow: Vec<String>,
    /// Groups this is not for.
    #[serde(default)]
    except_groups: Vec<String>,
}

/// The policy.
pub struct ImageAllowList(Settings);

impl Policy for ImageAllowList {
    type Settings = Settings;
    const SUMMARY: &'static str = "Says from where container images may come";

    fn new(settings: Settings) -> Result<Self, String> {
        match settings.allow.iter().find(|pattern| !pattern.contains('/') && *pattern != "*") {
            _ if settings.allow.is_empty() => Err("allow: name at least one pattern, for example ghcr.io/acme/*".into()),
            Some(pattern) => Err(format!("allow: {pattern:?} names no registry; write docker.io/library/{pattern}")),
            None => Ok(Self(settings)),
        }
    }

    fn rules(&self) -> Vec<Rule> {
        vec![rule().verbs(["create", "update", "patch"]).resources(IMAGE_RESOURCES)]
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let Some(body) = request.body().filter(|_| !request.caller.is_in(&self.0.except_groups)) else { return allow() };
        let Images { named, moved } = images(&body.json());
        if let Some(place) = moved.first() {
            return block(format!("the patch moves something to {place}, and which image that is cannot be told"))
                .hint("write the image itself");
        }
        let stranger = named.iter().find(|image| {
            let full = full_image_name(image);
            !self.0.allow.iter().any(|pattern| glob(pattern, &full))
        });
        match stranger {
            Some(image) => block(format!("the image {} is not among those allowed", full_image_name(image)))
                .hint("see the settings of image-allow-list"),
            None => allow(),
        }
    }
}

export_policy!(ImageAllowList);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ask(verb: &str, resource: &str, body: Value) -> Verdict {
        let policy: ImageAllowList = kit::policy(r#"{"allow":["ghcr.io/acme/*","docker.io/library/nginx:1.*"]}"#).unwrap();
        kit::operation(verb, resource).named("web").body(body).ask(&policy)
    }

    fn pod(image: &str) -> Value {
        json!({"spec": {"containers": [{"name": "c", "image": "ghcr.io/acme/web:1"}, {"name": "d", "image": image}]}})
    }

    #[test]
    fn only_what_is_named_comes_in() {
        assert_eq!(ask("create", "pods", pod("nginx:1.27")), allow());
        for image in ["nginx", "nginx:latest", "evil.example/nginx:1.27", "ghcr.io/acmeevil/web:1", "library/nginx:2.0"] {
            assert!(ask("create", "pods", pod(image)).is_block(), "{image}");
            assert!(ask("update", "deployments.apps", json!({"spec": {"template": pod(image)}})).is_block());
        }
        let debug = json!({"spec": {"ephemeralContainers": [{"name": "dbg", "image": "busybox"}]}});
        assert!(ask("patch", "pods/ephemeralcontainers", debug).is_block());
    }

    #[test]
    fn patches_are_read_as_patches() {
        assert!(ask("patch", "pods", json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "busybox"}])).is_block());
        assert!(
            ask("patch", "pods", json!([{"op": "copy", "from": "/metadata/annotations/x", "path": "/spec/containers/0/image"}])).is_block()
        );
        assert_eq!(ask("patch", "pods", json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}])), allow());
    }

    #[test]
    fn wrong_settings_are_told() {
        assert!(kit::policy::<ImageAllowList>(r#"{"allow":["nginx"]}"#).err().unwrap().contains("docker.io/library/nginx"));
        assert!(kit::policy::<ImageAllowList>(r#"{"allow":[]}"#).is_err());
    }
}
