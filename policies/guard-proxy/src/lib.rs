//! Closes the proxies of nodes, services and pods.

use postern_policy_sdk::*;

/// The settings.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Groups that may use proxies.
    groups: Vec<String>,
    /// Services and pods anybody may reach, as `NAMESPACE/NAME`; the name may have a scheme and a port, as in the path.
    open: Vec<String>,
}

/// The policy.
pub struct GuardProxy(Settings);

impl Policy for GuardProxy {
    type Settings = Settings;
    const SUMMARY: &'static str = "Closes the proxies of nodes, services and pods";

    fn new(settings: Settings) -> Result<Self, String> {
        match settings.open.iter().find(|place| place.split('/').count() != 2) {
            Some(place) => Err(format!("open: {place:?} is not NAMESPACE/NAME")),
            None => Ok(Self(settings)),
        }
    }

    fn rules(&self) -> Vec<Rule> {
        vec![rule().resources(["nodes/proxy", "services/proxy", "pods/proxy"])]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.caller.is_in(&self.0.groups) || request.is(Text::Place, &self.0.open) {
            return allow();
        }
        block(format!("{} is closed", request.resource()))
            .hint("expose what you need by a Service and an Ingress, or use kubectl port-forward")
    }
}

export_policy!(GuardProxy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_closed_but_for_some() {
        let policy: GuardProxy = kit::policy(r#"{"groups":["sre"],"open":["shop/https:web:443"]}"#).unwrap();
        for resource in ["nodes/proxy", "services/proxy", "pods/proxy"] {
            let get = kit::operation("get", resource).named("x");
            assert!(get.ask(&policy).is_block(), "{resource}");
            assert_eq!(get.by("ann", &["sre"]).ask(&policy), allow());
        }
        let web = kit::operation("get", "services/proxy").in_namespace("shop");
        assert_eq!(web.named("https:web:443").ask(&policy), allow());
        assert!(web.named("web").ask(&policy).is_block());
        assert!(kit::policy::<GuardProxy>(r#"{"open":["web"]}"#).is_err());
    }
}
