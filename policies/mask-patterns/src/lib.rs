//! Hides keys, tokens and card numbers in any text.

use postern_policy_sdk::*;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Which of the known patterns are hidden.
    hide: Vec<Known>,
    /// Further regular expressions.
    patterns: Vec<String>,
    /// Where they are looked for, as RBAC writes resources.
    resources: Vec<String>,
    /// Groups that see them.
    unmasked_groups: Vec<String>,
}

/// A known pattern.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Known {
    /// Access key ids of AWS.
    AwsKeys,
    /// Payment card numbers of 13 to 19 digits, by their beginning.
    CardNumbers,
    /// Tokens of GitHub and GitLab.
    GitTokens,
    /// JSON Web Tokens.
    JsonWebTokens,
    /// Private keys in PEM.
    PrivateKeys,
    /// Tokens of Slack.
    SlackTokens,
    /// Passwords in URLs.
    UrlPasswords,
}

impl Known {
    const ALL: [Self; 7] =
        [Self::AwsKeys, Self::CardNumbers, Self::GitTokens, Self::JsonWebTokens, Self::PrivateKeys, Self::SlackTokens, Self::UrlPasswords];

    fn pattern(self) -> &'static str {
        match self {
            Self::AwsKeys => r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
            Self::CardNumbers => {
                r"\b(?:4[0-9]{3}|5[1-5][0-9]{2}|2[2-7][0-9]{2}|3[47][0-9]{2}|6(?:011|5[0-9]{2}))[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}\b"
            }
            Self::GitTokens => r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20})\b",
            Self::JsonWebTokens => r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
            Self::PrivateKeys => r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----[A-Za-z0-9+/=\s]+-----END (?:[A-Z]+ )?PRIVATE KEY-----",
            Self::SlackTokens => r"\bxox[abeoprs]-[A-Za-z0-9-]{10,100}",
            Self::UrlPasswords => r"\b[a-z][a-z0-9+.-]{1,20}://[^/\s:@]{1,100}:[^/\s@]{1,200}@",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let resources = ["pods/log", "pods/exec", "pods/attach", "configmaps", "events"].map(Into::into).into();
        Self { hide: Known::ALL.into(), patterns: Vec::new(), resources, unmasked_groups: Vec::new() }
    }
}

/// The policy.
pub struct MaskPatterns(Settings);

impl Policy for MaskPatterns {
    type Settings = Settings;
    const SUMMARY: &'static str = "Hides keys, tokens and card numbers in any text";

    fn new(settings: Settings) -> Result<Self, String> {
        if settings.resources.is_empty() {
            return Err("resources: name at least one, or remove the policy".into());
        }
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        vec![rule().resources(self.0.resources.clone())]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.caller.is_in(&self.0.unmasked_groups) {
            return allow();
        }
        let known = self.0.hide.iter().map(|known| known.pattern());
        mask(known.chain(self.0.patterns.iter().map(String::as_str)).map(pattern))
    }
}

export_policy!(MaskPatterns);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_what_they_are_for() {
        for (known, text) in [
            (Known::AwsKeys, "AKIAIOSFODNN7EXAMPLE"),
            (Known::CardNumbers, "4111 1111 1111 1111"),
            (Known::CardNumbers, "378282246310005"),
            (Known::GitTokens, "ghp_0123456789abcdefghijklmnopqrstuvwxyz"),
            (Known::JsonWebTokens, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"),
            (Known::PrivateKeys, "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----"),
            (Known::SlackTokens, "xoxb-1234567890-abcdef"),
            (Known::UrlPasswords, "postgres://shop:hunter2@"),
        ] {
            let pattern = regex_lite::Regex::new(known.pattern()).unwrap();
            assert!(pattern.is_match(text), "{text}");
            assert!(!pattern.is_match("an ordinary line of a log, 2026-11-25T10:00:00Z id=1234567890"), "{text}");
        }
    }

    #[test]
    fn what_is_asked_for_is_hidden() {
        let policy: MaskPatterns = kit::policy(r#"{"hide":["aws-keys"],"patterns":["tok-[0-9]+"],"unmaskedGroups":["dev"]}"#).unwrap();
        let log = kit::operation("get", "pods/log").named("web");
        assert_eq!(log.ask(&policy), vec![pattern(Known::AwsKeys.pattern()), pattern("tok-[0-9]+")].into());
        assert_eq!(log.by("ann", &["dev"]).ask(&policy), allow());
        assert!(kit::policy::<MaskPatterns>(r#"{"hide":["passwords"]}"#).err().unwrap().contains("aws-keys"));
    }
}
