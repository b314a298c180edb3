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
    /// Whether containers for debugging (`kubectl debug`) are: what runs in one is its image's choice.
    deny_debug: bool,
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
            deny_debug: true,
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
const STARTERS: [&str; 33] = [
    "busybox",
    "chroot",
    "chrt",
    "doas",
    "dumb-init",
    "env",
    "expect",
    "find",
    "flock",
    "gdb",
    "gosu",
    "ionice",
    "nice",
    "nohup",
    "nsenter",
    "parallel",
    "runuser",
    "script",
    "setarch",
    "setpriv",
    "setsid",
    "socat",
    "ssh",
    "start-stop-daemon",
    "stdbuf",
    "strace",
    "su",
    "sudo",
    "time",
    "timeout",
    "tini",
    "unshare",
    "xargs",
];
/// Programs that are shells of another kind: with code in their arguments, or without any.
const INTERPRETERS: [&str; 12] = ["gawk", "irb", "awk", "lua", "mawk", "node", "nodejs", "perl", "php", "python", "ruby", "tclsh"];
/// Editors and pagers from which a shell is a key away.
const EDITORS: [&str; 8] = ["ed", "emacs", "less", "man", "more", "nano", "vi", "vim"];

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
        let debug = rule().verbs(["create", "update", "patch"]).resources(["pods/ephemeralcontainers"]);
        vec![rule().resources(["pods/exec", "pods/attach", "pods/portforward"]), debug]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if let Some(at) = request.which(Text::Namespace, &self.settings.deny_namespaces) {
            return block(format!("nothing is run in the namespace {}", self.settings.deny_namespaces[at])).hint("ask the platform team");
        }
        match request.get(Text::Subresource).as_deref() {
            Some("attach") if self.settings.deny_attach => return block("attach is not allowed").hint("use kubectl logs"),
            Some("portforward") if self.settings.deny_port_forward => {
                return block("port-forward is not allowed").hint("expose a Service");
            }
            Some("ephemeralcontainers") if self.settings.deny_debug => {
                return block("containers for debugging are not allowed").hint("run the command itself: kubectl exec POD -- COMMAND");
            }
            Some("exec") => {}
            _ => return allow(),
        }
        let Some(argv) = request.command().map(|command| command.argv).filter(|argv| !argv.is_empty()) else {
            return block("an exec without a command").hint("write the command after --");
        };
        let program = name_of(&argv[0]);
        if self.settings.deny_shells
            && let Some(shell) = shell_in(&argv)
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

/// The shell a command begins: itself, by programs that start another, or as an interpreter that is given code.
fn shell_in(argv: &[String]) -> Option<&str> {
    let (first, rest) = argv.split_first()?;
    let first = name_of(first);
    // `python3.11` is python.
    let plain = first.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if SHELLS.contains(&first) || EDITORS.contains(&first) {
        return Some(first);
    }
    if INTERPRETERS.contains(&plain) {
        return is_given_code(plain, rest).then_some(first);
    }
    // The loader starts whatever it is given.
    if !STARTERS.contains(&first) && !first.starts_with("ld-") && !first.starts_with("ld.so") {
        return None;
    }
    // `env -S` and its like take several words in one.
    let words = || rest.iter().flat_map(|word| word.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ';' | ':' | ',' | '=')));
    // As `env -Ssh` writes them, with nothing between.
    let found =
        words().map(|word| name_of(word.strip_prefix("-S").unwrap_or(word))).find(|word| SHELLS.contains(word) || EDITORS.contains(word));
    found.or_else(|| {
        let of_interpreter = |at: usize| {
            shell_in(&rest[at..])
                .filter(|_| INTERPRETERS.contains(&name_of(&rest[at]).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')))
        };
        (0..rest.len()).find_map(of_interpreter)
    })
}

/// Whether an interpreter runs what its arguments say, or what is typed, and not a program that lies in the container.
fn is_given_code(interpreter: &str, arguments: &[String]) -> bool {
    if interpreter.ends_with("awk") {
        return arguments.iter().any(|word| ["system", "|", "getline", "popen"].iter().any(|way| word.contains(way)));
    }
    let is_code = |word: &String| {
        let option = word.trim_start_matches('-');
        word.starts_with("--")
            && ["eval", "print", "run", "interactive", "command"].iter().any(|name| option.split('=').next() == Some(name))
            || word.starts_with('-') && !word.starts_with("--") && option.contains(['c', 'e', 'E', 'i', 'p', 'r', 'a'])
    };
    let program = arguments.iter().position(|word| !word.starts_with('-') || word == "-");
    match program {
        // Options behind the program are the program's.
        Some(at) => arguments[at] == "-" || arguments[..at].iter().any(is_code),
        None => !arguments.iter().any(|word| matches!(word.as_str(), "--version" | "-V" | "--help" | "-h" | "-v")),
    }
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
            &["env", "-S", "sh -c id"],
            &["env", "-Ssh -c id"],
            &["find", "/", "-exec", "sh", "-c", "id", ";"],
            &["script", "-c", "bash", "/dev/null"],
            &["/lib64/ld-linux-x86-64.so.2", "/bin/sh"],
            &["socat", "-", "EXEC:/bin/sh,pty"],
            &["python3", "-c", "import pty"],
            &["python3.11"],
            &["perl", "-e", "exec '/bin/sh'"],
            &["node", "--eval", "1"],
            &["ruby", "-"],
            &["php", "-r", "1;"],
            &["awk", "BEGIN{system(\"sh\")}"],
            &["timeout", "5", "python3", "-c", "1"],
            &["vi", "-c", ":!sh"],
        ] {
            assert!(answer("{}", "n", argv).is_block(), "{argv:?}");
        }
        assert_eq!(answer("{}", "n", &["grep", "sh", "/etc/hosts"]), allow());
        for argv in [
            &["env"][..],
            &["python3", "manage.py", "migrate", "-c"],
            &["node", "server.js"],
            &["awk", "{print $1}", "/etc/hosts"],
            &["find", "/", "-name", "x"],
            &["python3", "--version"],
        ] {
            assert_eq!(answer("{}", "n", argv), allow(), "{argv:?}");
        }
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
    fn a_container_for_debugging_is_a_shell() {
        let debug = kit::operation("patch", "pods/ephemeralcontainers").named("web");
        assert!(debug.ask(&kit::policy::<GuardExec>("{}").unwrap()).is_block());
        assert_eq!(debug.ask(&kit::policy::<GuardExec>(r#"{"denyDebug":false}"#).unwrap()), allow());
    }

    #[test]
    fn wrong_settings_are_told() {
        assert!(kit::policy::<GuardExec>(r#"{"allow":["("]}"#).err().unwrap().contains("regular expression"));
    }
}
