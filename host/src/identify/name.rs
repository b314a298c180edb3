//! What a name or a group may look like: the one form in which it is compared here, shown, and written in a header for the API server.
//!
//! What the API server trims, folds or decodes would be another name there than here: a blank alone is no name at all, and a request without one runs
//! with the gateway's own credential.

use crate::status::Refusal;

/// What names of ServiceAccounts begin with (`k8s.io/apiserver/pkg/authentication/serviceaccount/util.go`).
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// What every ServiceAccount is in, and with a colon and a namespace behind it, every one of that namespace.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// What whoever was let in is in.
pub const AUTHENTICATED: &str = "system:authenticated";

/// Why a text is not one that a user or a group can be called by.
pub fn canonical(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err("begins or ends with a blank");
    }
    if text.chars().any(|c| c.is_control() || shows_nothing(c)) {
        return Err("holds a character that does not show");
    }
    Ok(())
}

/// Line and paragraph separators, and what has no width or turns the direction of writing: two names that look the same would not be.
fn shows_nothing(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Checks what a credential calls its owner, and names what is wrong.
pub(super) fn check(username: &str, groups: &[String]) -> Result<(), String> {
    canonical(username).map_err(|why| format!("the user name of the credential {why}; it would be another name in the cluster"))?;
    for group in groups {
        canonical(group).map_err(|why| format!("a group of the credential {why}; it would be another group in the cluster"))?;
    }
    Ok(())
}

/// Whether a name or a group is one that the cluster gives to ServiceAccounts, or looks like it.
pub fn of_service_account(text: &str) -> bool {
    text.starts_with("system:serviceaccount")
}

/// The namespace of a ServiceAccount's name, of the exact form `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account(username: &str) -> Option<&str> {
    let (namespace, name) = username.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    (is_dns(namespace, 63) && !namespace.contains('.') && is_dns(name, 253)).then_some(namespace)
}

/// Whether a group is one that a user of this name may have, where both are the cluster's own.
pub fn own_group(username: &str, group: &str) -> bool {
    group == AUTHENTICATED
        || service_account(username).is_some_and(|namespace| {
            group.strip_prefix(SERVICE_ACCOUNTS).is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':') == Some(namespace))
        })
}

/// Refuses names of ServiceAccounts that are not of the exact form, or that another than the cluster's own issuer gives. `is_own` says whether the issuer is
/// the cluster's.
pub fn check_service_account(username: &str, groups: &[String], is_own: bool) -> Result<(), Refusal> {
    if of_service_account(username) && (!is_own || service_account(username).is_none()) {
        return Err(Refusal::unauthorized(
            "the credential's user name is one of a ServiceAccount, and only the cluster's own issuer (cluster.serviceAccountIssuers) names those; map it with a prefix",
        ));
    }
    match groups.iter().find(|group| of_service_account(group) && !(is_own && own_group(username, group))) {
        Some(_) => Err(Refusal::unauthorized(
            "a group of the credential is one of ServiceAccounts, and only the cluster's own issuer (cluster.serviceAccountIssuers) gives those, to ServiceAccounts of that namespace; map it with a prefix",
        )),
        None => Ok(()),
    }
}

/// RFC 1123 labels with dots between them.
fn is_dns(text: &str, longest: usize) -> bool {
    let mut before = b'.';
    let fits = |byte: u8| {
        // A label is not empty, and neither begins nor ends with a dash.
        let fits = match byte {
            b'a'..=b'z' | b'0'..=b'9' => true,
            b'-' => before != b'.',
            b'.' => !matches!(before, b'.' | b'-'),
            _ => false,
        };
        before = byte;
        fits
    };
    text.len() <= longest && text.bytes().all(fits) && !matches!(before, b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_another_name_in_the_cluster_is_none() {
        for good in ["ann", "corp:ann@example.org", "Ann Müller", "雪", "a/b\\c", "#1"] {
            assert_eq!(canonical(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " ",
            "\t",
            " ann",
            "ann ",
            "ann\t",
            "a\nb",
            "a\0b",
            "a\u{7f}",
            "a\u{85}b",
            "\u{a0}ann",
            "a\u{200b}b",
            "a\u{202e}b",
            "\u{feff}a",
        ] {
            assert!(canonical(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn names_are_those_of_the_rfc(text in "[a-c.0-]{0,6}|[a-zA-Z_.-]{0,4}") {
            let label = |label: &str| {
                !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            };
            proptest::prop_assert_eq!(is_dns(&text, 5), text.len() <= 5 && text.split('.').all(label));
        }
    }

    #[test]
    fn service_accounts_are_named_by_the_cluster_alone() {
        let check = |name: &str, groups: &[&str], own| {
            check_service_account(name, &groups.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>(), own).is_ok()
        };
        assert!(check("system:serviceaccount:n:ci", &["system:serviceaccounts", "system:serviceaccounts:n", "dev"], true));
        assert!(check("ann", &["dev"], false));
        for (name, groups) in
            [("system:serviceaccount:n:ci", vec![]), ("ann", vec!["system:serviceaccounts"]), ("ann", vec!["system:serviceaccounts:n"])]
        {
            assert!(!check(name, &groups, false), "{name} {groups:?} of another issuer");
        }
        for (name, groups) in [
            ("system:serviceaccount:n", vec![]),
            ("system:serviceaccount:n:", vec![]),
            ("system:serviceaccount:n:a:b", vec![]),
            ("system:serviceaccount:N:a", vec![]),
            ("system:serviceaccountx", vec![]),
            ("system:serviceaccount:n:ci", vec!["system:serviceaccounts:other"]),
            ("system:serviceaccount:n:ci", vec!["system:serviceaccountsx"]),
            ("ann", vec!["system:serviceaccounts"]),
        ] {
            assert!(!check(name, &groups, true), "{name} {groups:?}");
        }
    }
}
