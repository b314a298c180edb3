//! A query as it is shown: in the audit log, to approvers. What is a credential for a server behind the API server is not.

use crate::mask::MARKER;

/// Words that stand in the names of credentials, in lower case and without what divides them.
const WORDS: [&str; 16] = [
    "accesskey",
    "apikey",
    "assertion",
    "auth",
    "cookie",
    "credential",
    "jwt",
    "nonce",
    "otp",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "sessionid",
    "signature",
    "token",
];
/// Names that are credentials as a whole, and too short to be looked for in others.
const NAMES: [&str; 9] = ["code", "hmac", "key", "pass", "pin", "pwd", "sas", "sig", "ticket"];

/// The query, with a placeholder for what is a credential by its name.
pub fn shown_query(query: &[(String, String)]) -> Vec<(String, String)> {
    query
        .iter()
        .map(|(name, value)| (name.clone(), if is_credential(name) && !value.is_empty() { MARKER.to_owned() } else { value.clone() }))
        .collect()
}

fn is_credential(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    NAMES.contains(&name.as_str()) || WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_names_and_options_are_shown() {
        for name in [
            "password",
            "apiKey",
            "api_key",
            "API-KEY",
            "sig",
            "Token",
            "access_token",
            "X-Amz-Signature",
            "X-Amz-Credential",
            "client_secret",
            "auth",
            "pwd",
            "code",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in [
            "limit",
            "continue",
            "labelSelector",
            "fieldSelector",
            "watch",
            "resourceVersion",
            "container",
            "follow",
            "fieldManager",
            "dryRun",
            "timeoutSeconds",
            "propagationPolicy",
            "tailLines",
            "path",
            "ports",
            "pretty",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
