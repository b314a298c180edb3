//! Says which commands may be run in containers.

use postern_policy_sdk::*;
use serde::Deserialize;

/// The settings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Settings {
    /// Regular expressions over the words of a command, joined by spaces; one must match the whole of it. Empty allows any.
    allow: Vec<String>,
    /// Regular expressions; a command in which one is found is refused.
    deny: Vec<String>,
    /// Whether shells are refused, by the name of the program.
    deny_shells: bool,
    /// Whether attach and port-forward are refused.
    deny_attach: bool,
    deny_port_forward: bool,
    /// Namespaces in which nothing is run.
    deny_namespaces: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow: vec![],
            deny: vec![],
            deny_shells: true,
            deny_attach: false,
            deny_port_forward: false,
            deny_namespaces: vec!["kube-system".into()],
        }
    }
}

/// The policy.
pub struct GuardExec {
    settings: Settings,
    allow: Vec<regex_lite::Regex>,
    deny: Vec<regex_lite::Regex>,
}

const SHELLS: [&str; 9] = ["sh", "bash", "ash", "dash", "zsh", "ksh", "fish", "busybox", "csh"];

impl Policy for GuardExec {
    fn configure(settings: &str) -> Result<Self, String> {
        let settings: Settings = serde_json::from_str(settings).map_err(|e| format!("{e}; see policies/guard-exec/README.md"))?;
        let compile = |list: &[String], whole: bool| -> Result<Vec<_>, String> {
            list.iter()
                .map(|text| {
                    let pattern = if whole { format!("^(?:{text})$") } else { text.clone() };
                    regex_lite::Regex::new(&pattern).map_err(|e| format!("{text:?} is not a regular expression: {e}"))
                })
                .collect()
        };
        Ok(Self { allow: compile(&settings.allow, true)?, deny: compile(&settings.deny, false)?, settings })
    }

    fn describe(&self) -> Manifest {
        let rules = vec![rule().resources(["pods/exec", "pods/attach", "pods/portforward"])];
        manifest("guard-exec", env!("CARGO_PKG_VERSION"), "Says which commands may be run in containers", rules)
    }

    fn on_request(&self, operation: &Operation, _: Option<&Object>, _: &dyn Host) -> Verdict {
        let Some(target) = &operation.target else { return Verdict::Allow };
        if let Some(namespace) = target.namespace.as_ref().filter(|n| self.settings.deny_namespaces.contains(n)) {
            return block(format!("nothing is run in the namespace {namespace}"), "ask the platform team");
        }
        match target.subresource.as_deref() {
            Some("attach") if self.settings.deny_attach => return block("attach is not allowed", "use kubectl logs"),
            Some("portforward") if self.settings.deny_port_forward => return block("port-forward is not allowed", "expose a Service"),
            Some("exec") => {}
            _ => return Verdict::Allow,
        }
        let Some(argv) = operation.command.as_ref().map(|c| &c.argv).filter(|argv| !argv.is_empty()) else {
            return block("an exec without a command", "write the command after --");
        };
        // A program is known by its name wherever it lies.
        let program = argv[0].rsplit('/').next().unwrap_or_default();
        if self.settings.deny_shells && SHELLS.contains(&program) {
            return block(format!("the shell {program} is not allowed"), "run the command itself: kubectl exec POD -- COMMAND");
        }
        let line = argv.join(" ");
        if self.deny.iter().any(|pattern| pattern.is_match(&line)) {
            return block(format!("the command {program} is not allowed with these arguments"), "see the settings of guard-exec");
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| pattern.is_match(&line)) {
            return block(format!("the command {program} is not among those allowed"), "see the settings of guard-exec");
        }
        Verdict::Allow
    }
}

export_policy!(GuardExec);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(settings: &str, namespace: &str, argv: &[&str]) -> Verdict {
        let operation = Operation {
            id: "1".into(),
            cluster: "c".into(),
            received_at: 0,
            caller: Caller { username: "ann".into(), groups: vec![], issuer: "i".into(), claims: vec![] },
            verb: "create".into(),
            target: Some(Target {
                api_group: String::new(),
                api_version: "v1".into(),
                resource: "pods".into(),
                subresource: Some("exec".into()),
                namespace: Some(namespace.into()),
                name: Some("p".into()),
            }),
            path: "/".into(),
            query: vec![],
            dry_run: false,
            command: Some(Command { container: None, argv: argv.iter().map(|a| (*a).into()).collect(), stdin: false, tty: false }),
        };
        GuardExec::configure(settings).unwrap().on_request(&operation, None, &NoHost)
    }

    #[test]
    fn shells_are_refused_wherever_they_lie() {
        for shell in ["sh", "/bin/bash", "/usr/local/bin/zsh"] {
            assert!(matches!(answer("{}", "n", &[shell, "-c", "id"]), Verdict::Block(_)), "{shell}");
        }
        assert!(matches!(answer("{}", "n", &["date"]), Verdict::Allow));
        assert!(matches!(answer("{}", "kube-system", &["date"]), Verdict::Block(_)));
        assert!(matches!(answer(r#"{"denyShells":false}"#, "n", &["sh"]), Verdict::Allow));
        assert!(matches!(answer("{}", "n", &[]), Verdict::Block(_)));
    }

    #[test]
    fn an_allowed_pattern_covers_the_whole_command() {
        let settings = r#"{"allow":["cat /etc/hosts"],"deny":["passwd"]}"#;
        assert!(matches!(answer(settings, "n", &["cat", "/etc/hosts"]), Verdict::Allow));
        assert!(matches!(answer(settings, "n", &["cat", "/etc/hosts", "/x"]), Verdict::Block(_)));
        assert!(matches!(answer(r#"{"deny":["passwd"]}"#, "n", &["cat", "/etc/passwd"]), Verdict::Block(_)));
    }

    #[test]
    fn wrong_settings_are_told() {
        assert!(GuardExec::configure(r#"{"allow":["("]}"#).err().unwrap().contains("regular expression"));
    }
}
