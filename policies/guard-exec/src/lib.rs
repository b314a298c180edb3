//! Says which commands may be run in containers.

use postern_policy_sdk::*;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Regular expressions over the words of a command, joined by spaces; one must match the whole of it. Empty allows any.
    allow: Vec<String>,
    /// Regular expressions; a command in which one is found is refused.
    deny: Vec<String>,
    /// Whether shells are refused, by the name of the program.
    deny_shells: bool,
    /// Whether attach is refused.
    deny_attach: bool,
    /// Whether port-forward is.
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

/// Programs that start another.
const STARTERS: [&str; 14] =
    ["busybox", "chroot", "doas", "env", "ionice", "nice", "nohup", "nsenter", "setsid", "stdbuf", "sudo", "timeout", "unshare", "xargs"];

impl Policy for GuardExec {
    type Settings = Settings;
    const SUMMARY: &'static str = "Says which commands may be run in containers";

    fn new(settings: Settings) -> Result<Self, String> {
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

    fn rules(&self) -> Vec<Rule> {
        vec![rule().resources(["pods/exec", "pods/attach", "pods/portforward"])]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let Some(target) = &request.target else { return allow() };
        if let Some(namespace) = target.namespace.as_ref().filter(|n| self.settings.deny_namespaces.contains(n)) {
            return block(format!("nothing is run in the namespace {namespace}")).hint("ask the platform team");
        }
        match target.subresource.as_deref() {
            Some("attach") if self.settings.deny_attach => return block("attach is not allowed").hint("use kubectl logs"),
            Some("portforward") if self.settings.deny_port_forward => {
                return block("port-forward is not allowed").hint("expose a Service");
            }
            Some("exec") => {}
            _ => return allow(),
        }
        let Some(argv) = request.command.as_ref().map(|c| &c.argv).filter(|argv| !argv.is_empty()) else {
            return block("an exec without a command").hint("write the command after --");
        };
        let program = name_of(&argv[0]);
        if self.settings.deny_shells
            && let Some(shell) = shell_in(argv)
        {
            return block(format!("the shell {shell} is not allowed")).hint("run the command itself: kubectl exec POD -- COMMAND");
        }
        let line = argv.join(" ");
        if self.deny.iter().any(|pattern| pattern.is_match(&line)) {
            return block(format!("the command {program} is not allowed with these arguments")).hint("see the settings of guard-exec");
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| pattern.is_match(&line)) {
            return block(format!("the command {program} is not among those allowed")).hint("see the settings of guard-exec");
        }
        allow()
    }
}

/// A program is known by its name wherever it lies.
fn name_of(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or_default()
}

/// The shell a command begins, itself or by programs that start another.
fn shell_in(argv: &[String]) -> Option<&str> {
    let mut words = argv.iter().map(|word| name_of(word));
    let first = words.next()?;
    if SHELLS.contains(&first) {
        return Some(first);
    }
    words.find(|word| STARTERS.contains(&first) && SHELLS.contains(word))
}

export_policy!(GuardExec);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(settings: &str, namespace: &str, argv: &[&str]) -> Verdict {
        kit::exec(argv).in_namespace(namespace).ask(&kit::policy::<GuardExec>(settings).unwrap())
    }

    #[test]
    fn shells_are_refused_wherever_they_lie() {
        for shell in ["sh", "/bin/bash", "/usr/local/bin/zsh"] {
            assert!(answer("{}", "n", &[shell, "-c", "id"]).is_block(), "{shell}");
        }
        assert_eq!(answer("{}", "n", &["date"]), allow());
        assert!(answer("{}", "kube-system", &["date"]).is_block());
        assert_eq!(answer(r#"{"denyShells":false}"#, "n", &["sh"]), allow());
        assert!(answer("{}", "n", &[]).is_block());
    }

    #[test]
    fn a_shell_behind_another_program_is_a_shell() {
        for argv in [
            &["env", "A=b", "sh", "-c", "id"][..],
            &["/usr/bin/timeout", "5", "/bin/bash"],
            &["nice", "-n", "5", "busybox", "sh"],
            &["xargs", "-n1", "sh"],
        ] {
            assert!(answer("{}", "n", argv).is_block(), "{argv:?}");
        }
        assert_eq!(answer("{}", "n", &["grep", "sh", "/etc/hosts"]), allow());
        assert_eq!(answer("{}", "n", &["env"]), allow());
    }

    #[test]
    fn an_allowed_pattern_covers_the_whole_command() {
        let settings = r#"{"allow":["cat /etc/hosts"],"deny":["passwd"]}"#;
        assert_eq!(answer(settings, "n", &["cat", "/etc/hosts"]), allow());
        assert!(answer(settings, "n", &["cat", "/etc/hosts", "/x"]).is_block());
        assert!(answer(r#"{"deny":["passwd"]}"#, "n", &["cat", "/etc/passwd"]).is_block());
    }

    #[test]
    fn attach_and_port_forward_are_closed_on_request() {
        let policy: GuardExec = kit::policy(r#"{"denyAttach":true,"denyPortForward":true}"#).unwrap();
        for resource in ["pods/attach", "pods/portforward"] {
            assert!(kit::operation("create", resource).named("web").ask(&policy).is_block());
        }
    }

    #[test]
    fn wrong_settings_are_told() {
        assert!(kit::policy::<GuardExec>(r#"{"allow":["("]}"#).err().unwrap().contains("regular expression"));
    }
}
