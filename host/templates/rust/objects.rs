//! policy-name: has each team see its own objects.

use postern_policy_sdk::*;

/// What stands under `settings` in the file beside the module. What is not there is not taken.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The label that says whose an object is.
    label: String,
    /// Groups that see, and create, everything.
    groups: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { label: "team".into(), groups: vec!["sre".into()] }
    }
}

/// The policy.
pub struct Teams(Settings);

impl Policy for Teams {
    type Settings = Settings;
    const SUMMARY: &'static str = "Has each team see its own objects";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    // Which operations it is asked about; an empty list means any.
    fn rules(&self) -> Vec<Rule> {
        vec![rule().resources(["configmaps", "deployments", "deployments/status"])]
    }

    // What it must see beyond who asks for what: bodies, secret values, streams, counters. Names and labels are always there.
    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    // What it must know beside the request: Stored, Namespace, Pod.
    fn needs(&self) -> Vec<Surrounding> {
        vec![Surrounding::Stored]
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::OBJECT
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let verb = request.verb();
        if ["get", "list", "watch"].contains(&verb.as_str()) || request.is_in(&self.0.groups) {
            return allow();
        }
        if verb == "deletecollection" {
            return block("many objects at once may be of several teams").hint("delete them by name");
        }
        let stored = request.around(Surrounding::Stored);
        if let Some(owner) = stored.as_ref().and_then(|stored| self.team_of(stored)).filter(|owner| !request.is_in(&[owner])) {
            return block(format!("it is of the team {owner}"));
        }
        // A patch creates what is not there, by server-side apply.
        if verb == "delete" || stored.is_some() && verb == "patch" {
            return allow();
        }
        let label = &self.0.label;
        match request.body().and_then(|body| self.team_of(body)) {
            None => block(format!("what is created needs the label {label}")).hint(format!("put {label}: YOUR-TEAM into metadata.labels")),
            Some(team) if request.is_in(&[&team]) => allow(),
            Some(team) => block(format!("{} is not of the team {team}", request.caller.username())),
        }
    }

    // Each object that comes back: of a get, a list, a watch, a change. What is blocked here is left out.
    fn on_object(&self, request: &Request, document: &Document) -> Verdict {
        match self.team_of(document) {
            Some(team) if !request.is_in(&[&team]) && !request.is_in(&self.0.groups) => block(format!("it is of the team {team}")),
            _ => allow(),
        }
    }
}

impl Teams {
    /// The team an object is of; none where it is of none.
    fn team_of(&self, document: &Document) -> Option<String> {
        document.text(&format!("$.metadata.labels['{}']", self.0.label)).filter(|team| !team.is_empty())
    }
}

export_policy!(Teams);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_team_sees_its_own() {
        let policy: Teams = kit::policy("{}").unwrap();
        let object = serde_json::json!({"metadata": {"name": "rates", "labels": {"team": "shop"}}});
        let list = kit::operation("list", "configmaps");
        assert_eq!(list.by("bob", &["shop"]).ask_object(&policy, object.clone()), allow());
        assert!(list.by("ann", &["bank"]).ask_object(&policy, object).is_block());
        assert!(kit::operation("create", "configmaps").body(serde_json::json!({})).ask(&policy).is_block());
    }
}
