//! Closes changes for a time.

use postern_policy_sdk::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// When changes are closed.
    windows: Vec<Window>,
    /// Namespaces in which they are; empty means all, and what has no namespace.
    #[serde(default)]
    namespaces: Vec<String>,
    /// Groups this is not for.
    #[serde(default)]
    except_groups: Vec<String>,
    /// Groups one of whose members may let a change pass; without them it is refused.
    #[serde(default)]
    approvers: Vec<String>,
}

/// A time in which changes are closed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Window {
    /// Its beginning, RFC 3339: `2026-12-20T00:00:00Z`.
    from: String,
    /// Its end.
    until: String,
    /// Why, shown to whoever is refused.
    reason: String,
}

/// The policy.
pub struct Freeze {
    settings: Settings,
    /// Beginnings and ends in seconds since 1970.
    windows: Vec<(u64, u64)>,
}

impl Policy for Freeze {
    type Settings = Settings;
    const SUMMARY: &'static str = "Closes changes for a time";

    fn new(settings: Settings) -> Result<Self, String> {
        // What ends within a second ends with it.
        let at = |text: &str, is_end: bool| -> Result<u64, String> {
            let time = OffsetDateTime::parse(text, &Rfc3339)
                .map_err(|error| format!("windows: {text:?} is no time ({error}); write 2026-12-20T00:00:00Z"))?;
            let seconds = time.unix_timestamp() + i64::from(is_end && time.nanosecond() > 0);
            u64::try_from(seconds).map_err(|_| format!("windows: {text:?} is before 1970"))
        };
        let mut windows = Vec::new();
        for window in &settings.windows {
            let (from, until) = (at(&window.from, false)?, at(&window.until, true)?);
            if from >= until {
                return Err(format!("windows: {} is not before {}", window.from, window.until));
            }
            windows.push((from, until));
        }
        Ok(Self { settings, windows })
    }

    fn rules(&self) -> Vec<Rule> {
        vec![rule().verbs(["create", "update", "patch", "delete", "deletecollection"]).namespaces(self.settings.namespaces.clone())]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let Settings { windows, namespaces, except_groups, approvers } = &self.settings;
        // A question, an Event or a Lease changes nothing anybody freezes.
        let is_of = |resource: &str, groups: &[&str]| request.is(Text::Resource, &[resource]) && request.is(Text::ApiGroup, groups);
        let is_noise = || {
            request.is(Text::ApiGroup, &["authorization.k8s.io", "authentication.k8s.io"])
                || is_of("events", &["", "events.k8s.io"])
                || is_of("leases", &["coordination.k8s.io"])
        };
        let is_elsewhere = || !namespaces.is_empty() && !request.has(Text::Namespace);
        // Nearly all the time nothing is closed, and nothing else is asked.
        let Some(index) = request.at(&self.windows, 0, 0) else { return allow() };
        if request.dry_run() || is_elsewhere() || request.caller.is_in(except_groups) || is_noise() {
            return allow();
        }
        let reason = format!("changes are closed until {}: {}", windows[index].until, windows[index].reason);
        if approvers.is_empty() {
            block(reason).hint("wait, or ask those who closed them")
        } else {
            require_approval(reason, approvers.clone()).into()
        }
    }
}

export_policy!(Freeze);

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = r#"{"windows":[{"from":"2026-12-20T00:00:00Z","until":"2026-12-27T00:00:00+01:00","reason":"Christmas"}],"namespaces":["prod"],"exceptGroups":["sre"]}"#;

    fn at(text: &str) -> u64 {
        (OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp() * 1000) as u64
    }

    #[test]
    fn changes_are_closed_from_the_beginning_to_the_end() {
        let policy: Freeze = kit::policy(SETTINGS).unwrap();
        let patch = kit::operation("patch", "deployments.apps").in_namespace("prod").named("web");
        for (time, closed) in [
            ("2026-12-19T23:59:59Z", false),
            ("2026-12-20T00:00:00Z", true),
            ("2026-12-26T22:59:59Z", true),
            ("2026-12-26T23:00:00Z", false),
        ] {
            assert_eq!(patch.at(at(time)).ask(&policy).is_block(), closed, "{time}");
        }
        let during = patch.at(at("2026-12-24T12:00:00Z"));
        assert!(during.ask(&policy).reason().unwrap().contains("Christmas"));
        assert_eq!(during.by("ann", &["sre"]).ask(&policy), allow());
        assert_eq!(during.dry_run().ask(&policy), allow());
        assert_eq!(kit::operation("create", "events").in_namespace("prod").at(at("2026-12-24T12:00:00Z")).ask(&policy), allow());
    }

    #[test]
    fn a_kind_that_is_called_like_a_question_is_none() {
        let policy: Freeze = kit::policy(SETTINGS).unwrap();
        let create = |resource: &str| kit::operation("create", resource).in_namespace("prod").at(at("2026-12-24T12:00:00Z")).ask(&policy);
        assert_eq!(create("selfsubjectaccessreviews.authorization.k8s.io"), allow());
        assert!(create("codereviews.example.com").is_block());
    }

    #[test]
    fn somebody_may_let_a_change_pass() {
        let settings = SETTINGS.replace(r#""exceptGroups":["sre"]"#, r#""approvers":["sre-leads"]"#);
        let policy: Freeze = kit::policy(&settings).unwrap();
        let delete = kit::operation("delete", "pods").in_namespace("prod").at(at("2026-12-24T12:00:00Z"));
        assert!(matches!(delete.ask(&policy), Verdict::RequireApproval(_)));
    }

    #[test]
    fn wrong_settings_are_told() {
        let why = |from: &str, until: &str| {
            kit::policy::<Freeze>(&format!(r#"{{"windows":[{{"from":"{from}","until":"{until}","reason":"x"}}]}}"#)).err().unwrap()
        };
        assert!(why("tomorrow", "2026-12-27T00:00:00Z").contains("no time"));
        assert!(why("2026-12-27T00:00:00Z", "2026-12-20T00:00:00Z").contains("not before"));
    }
}
