//! So much of the cluster each caller may take away in an hour: beyond it an approval, and beyond that nothing.

use postern_policy_sdk::*;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Values of Secrets, whether a mask hides them or not.
    secret_values: Budget,
    /// Objects of the resources.
    objects: Budget,
    /// Bytes of these objects, and of what containers write.
    bytes: Budget,
    /// Seconds in which that much is let go.
    window_seconds: u32,
    /// Whose objects are counted, as RBAC writes resources. Subresources are not meant; logs are counted as bytes where `pods/log` is named.
    resources: Vec<String>,
    /// Groups whose members approve what is over the first limit. Without them the first limit is the last.
    approvers: Vec<String>,
    /// Groups without a budget.
    exempt_groups: Vec<String>,
}

/// Two limits; 0 sets none.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Budget {
    /// Over this an approval is needed.
    approve: u64,
    /// Over this nothing goes.
    block: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            secret_values: Budget { approve: 50, block: 500 },
            objects: Budget { approve: 5_000, block: 50_000 },
            bytes: Budget { approve: 50 << 20, block: 500 << 20 },
            window_seconds: 3600,
            resources: ["secrets", "configmaps", "pods", "deployments", "statefulsets", "pods/log", "pods/exec", "pods/attach"]
                .map(str::to_owned)
                .to_vec(),
            approvers: Vec::new(),
            exempt_groups: Vec::new(),
        }
    }
}

/// The policy.
pub struct ExfiltrationBudget(Settings);

/// What is counted.
#[derive(Clone, Copy)]
enum What {
    SecretValues,
    Objects,
    Bytes,
}

impl What {
    const ALL: [Self; 3] = [Self::SecretValues, Self::Objects, Self::Bytes];

    fn name(self) -> &'static str {
        match self {
            Self::SecretValues => "values of Secrets",
            Self::Objects => "objects",
            Self::Bytes => "bytes",
        }
    }
}

/// What stands in the way.
enum Over {
    Approve(String),
    Block(String),
}

impl ExfiltrationBudget {
    fn budget(&self, what: What) -> Budget {
        match what {
            What::SecretValues => self.0.secret_values,
            What::Objects => self.0.objects,
            What::Bytes => self.0.bytes,
        }
    }

    fn applies(&self, request: &Request) -> bool {
        !request.caller.is_in(&self.0.exempt_groups)
    }

    /// Adds to what the caller has taken, and says what that is over.
    fn add<'a>(&self, request: &Request, what: What, amount: impl Into<Amount<'a>>) -> Option<Over> {
        let (budget, window) = (self.budget(what), self.0.window_seconds);
        let mut limits: Vec<u64> = [budget.approve, budget.block].into_iter().filter(|limit| *limit > 0).collect();
        limits.dedup();
        if limits.is_empty() {
            return None;
        }
        let passed = request.spend(what.name(), amount, window, &limits).checked_sub(1)?;
        let reason = format!("over the budget of {} {} in {window} seconds", limits[passed], what.name());
        let is_last = limits[passed] == budget.block || self.0.approvers.is_empty();
        Some(if is_last { Over::Block(reason) } else { Over::Approve(reason) })
    }
}

impl Policy for ExfiltrationBudget {
    type Settings = Settings;
    const SUMMARY: &'static str = "Limits what each caller takes away in an hour";

    fn new(settings: Settings) -> Result<Self, String> {
        for (name, Budget { approve, block }) in
            [("secretValues", settings.secret_values), ("objects", settings.objects), ("bytes", settings.bytes)]
        {
            if block > 0 && approve > block {
                return Err(format!("{name}: approve is over block, so that nobody would ever be asked"));
            }
        }
        if settings.window_seconds == 0 {
            return Err("windowSeconds: must be at least 1".into());
        }
        if settings.resources.is_empty() {
            return Err("resources: name at least one, or remove the policy".into());
        }
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        // What is written comes back too, and a watch is a list that goes on.
        let verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
        vec![rule().verbs(verbs).resources(self.0.resources.clone())]
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::OBJECT | Hooks::CHUNK
    }

    fn capabilities(&self) -> Capabilities {
        // How many values a Secret has is told without them.
        Capabilities::BODIES | Capabilities::COUNTERS | Capabilities::STREAMS
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if !self.applies(request) {
            return allow();
        }
        let mut wanted = None;
        for what in What::ALL {
            match self.add(request, what, Amount::Number(0)) {
                Some(Over::Block(reason)) => return block(reason).hint("wait, or ask the owners of the gateway for a larger budget"),
                Some(Over::Approve(reason)) => wanted = wanted.or(Some(reason)),
                None => {}
            }
        }
        match wanted {
            Some(reason) => require_approval(reason, self.0.approvers.clone()).into(),
            None => allow(),
        }
    }

    fn on_object(&self, request: &Request, object: &Document) -> Verdict {
        if !self.applies(request) {
            return allow();
        }
        let values = match request.is(Text::Kind, &["secrets"]) {
            true => Amount::Matches(object, "$.data.*"),
            false => Amount::Number(0),
        };
        for (what, amount) in [(What::SecretValues, values), (What::Objects, Amount::Number(1)), (What::Bytes, Amount::SizeOf(object))] {
            match self.add(request, what, amount) {
                Some(Over::Block(reason)) => return terminate(reason).hint("ask for less at a time, or wait"),
                Some(Over::Approve(reason)) if !request.approved() => {
                    return terminate(reason).hint("run the same command again to ask for an approval");
                }
                _ => {}
            }
        }
        allow()
    }

    fn on_chunk(&self, request: &Request, _: Channel, data: &[u8]) -> ChunkVerdict {
        if !self.applies(request) {
            return ChunkVerdict::Forward;
        }
        let end = |reason: String, hint: &str| ChunkVerdict::Terminate(Denial { reason, hint: Some(hint.into()) });
        match self.add(request, What::Bytes, data.len() as u64) {
            Some(Over::Block(reason)) => end(reason, "wait, or take less"),
            Some(Over::Approve(reason)) if !request.approved() => end(reason, "run the same command again to ask for an approval"),
            _ => forward(),
        }
    }
}

export_policy!(ExfiltrationBudget);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(settings: &str) -> ExfiltrationBudget {
        kit::policy(settings).unwrap()
    }

    fn secret(values: usize) -> serde_json::Value {
        let data: serde_json::Map<_, _> = (0..values).map(|n| (n.to_string(), json!("eA=="))).collect();
        json!({"data": data})
    }

    #[test]
    fn a_list_is_cut_where_it_passes_the_budget() {
        let policy = policy(r#"{"secretValues":{"approve":0,"block":10}}"#);
        let list = kit::operation("list", "secrets").by("ann", &[]);
        assert_eq!(list.ask(&policy), allow());
        assert_eq!(list.ask_object(&policy, secret(6)), allow());
        assert_eq!(list.ask_object(&policy, secret(4)), allow());
        let cut = list.ask_object(&policy, secret(1));
        assert!(matches!(cut, Verdict::Terminate(_)) && cut.reason().unwrap().contains("budget of 10 values of Secrets"), "{cut:?}");
        assert!(list.ask(&policy).is_block(), "and nothing more goes");
        assert_eq!(list.by("bob", &[]).ask(&policy), allow(), "others have budgets of their own");
    }

    #[test]
    fn over_the_first_limit_somebody_is_asked() {
        let policy = policy(r#"{"objects":{"approve":2,"block":4},"approvers":["leads"]}"#);
        let list = kit::operation("list", "pods").by("ann", &[]);
        assert_eq!([list.ask_object(&policy, json!({})), list.ask_object(&policy, json!({}))], [allow(), allow()]);
        let cut = list.ask_object(&policy, json!({}));
        assert!(matches!(&cut, Verdict::Terminate(denial) if denial.hint.as_deref().unwrap().contains("again")), "{cut:?}");
        assert!(matches!(list.ask(&policy), Verdict::RequireApproval(_)));
        let approved = list.approved();
        assert_eq!(approved.ask_object(&policy, json!({})), allow(), "what was approved goes on");
        assert!(matches!(approved.ask_object(&policy, json!({})), Verdict::Terminate(_)), "up to the last limit");
        assert!(list.ask(&policy).is_block());
    }

    #[test]
    fn streams_count_as_bytes() {
        let policy = policy(r#"{"bytes":{"approve":0,"block":10}}"#);
        let exec = kit::exec(&["cat", "x"]).by("ann", &[]);
        assert_eq!(exec.ask_chunk(&policy, Channel::Stdout, b"0123456789"), forward());
        assert!(matches!(exec.ask_chunk(&policy, Channel::Stderr, b"!"), ChunkVerdict::Terminate(_)));
        assert!(exec.ask(&policy).is_block());
        let exempt = kit::exec(&["cat", "x"]).by("ann", &["sre"]);
        let policy = self::policy(r#"{"bytes":{"approve":0,"block":1},"exemptGroups":["sre"]}"#);
        assert_eq!(exempt.ask_chunk(&policy, Channel::Stdout, b"0123456789"), forward());
    }

    #[test]
    fn wrong_settings_are_told() {
        let why = |settings: &str| kit::policy::<ExfiltrationBudget>(settings).err().unwrap();
        assert!(why(r#"{"objects":{"approve":5,"block":4}}"#).contains("objects"));
        assert!(why(r#"{"windowSeconds":0}"#).contains("windowSeconds"));
        assert!(why(r#"{"resources":[]}"#).contains("resources"));
    }
}
