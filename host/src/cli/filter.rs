//! What the audit log and recordings are asked by: the same words in each, and those that can mean nothing are refused with those that can.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::clock;
use crate::record::query::Status;
use crate::words::{Verb, Verdict};

/// What people call resources, as kubectl lets them (`kubectl api-resources`): what is one, and its short names.
const SPELLINGS: [(&str, &[&str]); 34] = [
    ("certificatesigningrequests", &["certificatesigningrequest", "csr"]),
    ("clusterrolebindings", &["clusterrolebinding"]),
    ("clusterroles", &["clusterrole"]),
    ("configmaps", &["configmap", "cm"]),
    ("controllerrevisions", &["controllerrevision"]),
    ("cronjobs", &["cronjob", "cj"]),
    ("customresourcedefinitions", &["customresourcedefinition", "crd", "crds"]),
    ("daemonsets", &["daemonset", "ds"]),
    ("deployments", &["deployment", "deploy"]),
    ("endpoints", &["ep"]),
    ("endpointslices", &["endpointslice"]),
    ("events", &["event", "ev"]),
    ("horizontalpodautoscalers", &["horizontalpodautoscaler", "hpa"]),
    ("ingresses", &["ingress", "ing"]),
    ("jobs", &["job"]),
    ("leases", &["lease"]),
    ("limitranges", &["limitrange", "limits"]),
    ("namespaces", &["namespace", "ns"]),
    ("networkpolicies", &["networkpolicy", "netpol"]),
    ("nodes", &["node", "no"]),
    ("persistentvolumeclaims", &["persistentvolumeclaim", "pvc"]),
    ("persistentvolumes", &["persistentvolume", "pv"]),
    ("poddisruptionbudgets", &["poddisruptionbudget", "pdb"]),
    ("pods", &["pod", "po"]),
    ("priorityclasses", &["priorityclass", "pc"]),
    ("replicasets", &["replicaset", "rs"]),
    ("replicationcontrollers", &["replicationcontroller", "rc"]),
    ("resourcequotas", &["resourcequota", "quota"]),
    ("rolebindings", &["rolebinding"]),
    ("roles", &["role"]),
    ("secrets", &["secret"]),
    ("serviceaccounts", &["serviceaccount", "sa"]),
    ("services", &["service", "svc"]),
    ("statefulsets", &["statefulset", "sts"]),
];

/// A resource as the API calls it, of how a person does: `secret` and `po/exec` are `secrets` and `pods/exec`.
pub(super) fn resource(text: &str) -> anyhow::Result<String> {
    let text = text.to_lowercase();
    let (of, subresource) = text.split_once('/').map_or((text.as_str(), None), |(of, subresource)| (of, Some(subresource)));
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if !is_name(of) || !subresource.is_none_or(is_name) {
        bail!("--resource: {text:?} is none; write it as `kubectl api-resources` does, for example secrets or pods/exec");
    }
    let whole = SPELLINGS.iter().find(|(_, others)| others.contains(&of)).map_or(of, |(whole, _)| whole);
    Ok(subresource.map_or_else(|| whole.to_owned(), |subresource| format!("{whole}/{subresource}")))
}

/// A verb of Kubernetes, or the method of what is no resource.
pub(super) fn verb(text: &str) -> anyhow::Result<String> {
    let known = Verb::ALL.iter().filter(|verb| **verb != Verb::Other).map(|verb| verb.name());
    one_of("--verb", text, &known.collect::<Vec<_>>())
}

/// What was decided.
pub(super) fn verdict(text: &str) -> anyhow::Result<String> {
    let known = Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::None).map(|verdict| verdict.name());
    one_of("--verdict", text, &known.collect::<Vec<_>>())
}

/// `403`, or `4xx`.
pub(super) fn status(text: &str) -> anyhow::Result<Status> {
    Status::parse(text)
        .with_context(|| format!("--status: {text:?} is none; write one, for example 403, or a class of them, for example 4xx"))
}

/// An address, without a port.
pub(super) fn address(text: &str) -> anyhow::Result<IpAddr> {
    let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    address
        .map(|address| address.to_canonical())
        .map_err(|_| anyhow::anyhow!("--source: {text:?} is no address; write one, for example 10.0.0.7"))
}

/// A session, or the beginning of its id.
pub(super) fn session(text: &str) -> anyhow::Result<String> {
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!(
            "--session: {text:?} is none; a session's id is 16 hexadecimal digits, of which the first will do: `postern session list` shows them"
        );
    }
    Ok(text.to_lowercase())
}

fn one_of(flag: &str, text: &str, known: &[&str]) -> anyhow::Result<String> {
    let text = text.to_lowercase();
    if known.contains(&text.as_str()) {
        return Ok(text);
    }
    // `blocked` is `block`: what begins alike is meant, by and large.
    let near = known.iter().find(|known| known.starts_with(&text) || text.starts_with(**known) || known.get(..3) == text.get(..3));
    let meant = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    bail!("{flag}: {text:?} is none; {meant}There are {}", known.join(", "))
}

/// A time in Unix seconds: as RFC 3339 writes it, a date, `today`, `yesterday`, or how long ago: `90s`, `15m`, `2h`, `7d`, `1w`. A date is its beginning, in UTC as the log is.
pub(crate) fn time(text: &str) -> anyhow::Result<u64> {
    time_before(text, clock::now())
}

/// The same of the end of a time: of a day that is its last second.
pub(crate) fn time_to(text: &str) -> anyhow::Result<u64> {
    let is_day = matches!(text, "today" | "yesterday") || text.len() == "2026-01-31".len();
    Ok(time(text)? + if is_day { 86_399 } else { 0 })
}

fn time_before(text: &str, now: u64) -> anyhow::Result<u64> {
    let wrong = || {
        format!(
            "{text:?} is no time; write 2026-01-31T12:00:00Z, 2026-01-31, yesterday, today, or how long ago, for example 90s, 15m, 2h, 7d or 1w"
        )
    };
    let day = 86_400;
    match text {
        "today" => return Ok(now / day * day),
        "yesterday" => return Ok((now / day).saturating_sub(1) * day),
        "now" => return Ok(now),
        _ => {}
    }
    if let Some((at, unit)) = text.char_indices().last()
        && let Ok(number) = text[..at].parse::<u64>()
    {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => day,
            'w' => 7 * day,
            _ => bail!(wrong()),
        };
        return Ok(now.saturating_sub(number.saturating_mul(seconds)));
    }
    let whole = if text.len() == "2026-01-31".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = OffsetDateTime::parse(&whole, &Rfc3339).with_context(wrong)?;
    u64::try_from(time.unix_timestamp()).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = 1_800_000_000; // 2027-01-15T08:00:00Z
        for (text, second) in [
            ("now", now),
            ("90s", now - 90),
            ("15m", now - 900),
            ("2h", now - 7200),
            ("7d", now - 7 * 86_400),
            ("1w", now - 7 * 86_400),
            ("today", 1_799_971_200),
            ("yesterday", 1_799_884_800),
            ("2027-01-15", 1_799_971_200),
            ("2027-01-15T08:00:00Z", now),
            ("2027-01-15T09:00:00+01:00", now),
            ("18446744073709551615s", 0),
        ] {
            assert_eq!(time_before(text, now).unwrap(), second, "{text}");
        }
        for wrong in ["", "1", "h", "2y", "2027-13-01", "tomorrow", "15\u{b5}", "1969-01-01"] {
            assert!(time_before(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn resources_are_said_as_people_say_them() {
        for (said, meant) in [
            ("secret", "secrets"),
            ("Secrets", "secrets"),
            ("po/exec", "pods/exec"),
            ("deploy/scale", "deployments/scale"),
            ("widgets", "widgets"),
            ("endpoints", "endpoints"),
        ] {
            assert_eq!(resource(said).unwrap(), meant);
        }
        for wrong in ["", "/", "pods/", "a b", "pods/exec/x"] {
            assert!(resource(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_that_are_none_are_told_with_those_that_are() {
        let told = verdict("blocked").unwrap_err().to_string();
        assert!(told.contains("did you mean block?") && told.contains("require-approval") && !told.contains("none,"), "{told}");
        assert_eq!(verdict("Block").unwrap(), "block");
        assert!(verb("destroy").unwrap_err().to_string().contains("deletecollection"));
        assert!(verb("deleted").unwrap_err().to_string().contains("did you mean delete?"));
        assert!(status("4x").is_err() && status("99").is_err() && status("6xx").is_err());
        assert_eq!((status("403").unwrap(), status("5xx").unwrap()), (Status::Code(403), Status::Class(5)));
        assert!(session("xyz").is_err() && session("0123456789abcdef0").is_err());
    }
}
