//! Refuses images without a version.

use postern_policy_sdk::*;

/// The settings.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Whether a digest is asked for, and not only a tag.
    digests: bool,
    /// Namespaces this is not for.
    except_namespaces: Vec<String>,
}

/// The policy.
pub struct NoLatestTag(Settings);

impl Policy for NoLatestTag {
    type Settings = Settings;
    const SUMMARY: &'static str = "Refuses images without a version";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        vec![rule().verbs(["create", "update", "patch"]).resources(IMAGE_RESOURCES)]
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let is_excepted = request.is(Text::Namespace, &self.0.except_namespaces);
        let Some(body) = request.body().filter(|_| !is_excepted) else { return allow() };
        let Images { named, moved } = images(&body.json());
        if let Some(place) = moved.first() {
            return block(format!("the patch moves something to {place}, and which image that is cannot be told"))
                .hint("write the image itself");
        }
        let is_wrong = |image: &&String| {
            let full = full_image_name(image);
            if self.0.digests { !full.contains("@sha256:") } else { full.ends_with(":latest") }
        };
        match named.iter().find(is_wrong) {
            Some(image) if self.0.digests => {
                block(format!("the image {image} is not named by its digest")).hint("write NAME@sha256:DIGEST")
            }
            Some(image) => block(format!("the image {image} has no version")).hint("write a tag that is not latest, or a digest"),
            None => allow(),
        }
    }
}

export_policy!(NoLatestTag);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(settings: &str, image: &str) -> Verdict {
        let policy: NoLatestTag = kit::policy(settings).unwrap();
        kit::operation("create", "pods").body(json!({"spec": {"containers": [{"image": image}]}})).ask(&policy)
    }

    #[test]
    fn a_version_is_asked_for() {
        for image in ["nginx", "nginx:latest", "ghcr.io/a/b", "localhost:5000/a"] {
            assert!(ask("{}", image).is_block(), "{image}");
        }
        for image in ["nginx:1.27", "ghcr.io/a/b@sha256:00", "localhost:5000/a:2"] {
            assert_eq!(ask("{}", image), allow(), "{image}");
        }
    }

    #[test]
    fn an_image_that_a_patch_copies_is_not_guessed() {
        let policy: NoLatestTag = kit::policy("{}").unwrap();
        let patch = json!([{"op": "copy", "from": "/metadata/annotations/x", "path": "/spec/containers/0/image"}]);
        assert!(kit::operation("patch", "pods").body(patch).ask(&policy).is_block());
    }

    #[test]
    fn or_a_digest() {
        assert!(ask(r#"{"digests":true}"#, "nginx:1.27").is_block());
        assert_eq!(ask(r#"{"digests":true}"#, "nginx@sha256:00"), allow());
        assert_eq!(ask(r#"{"exceptNamespaces":["default"]}"#, "nginx"), allow());
    }
}
