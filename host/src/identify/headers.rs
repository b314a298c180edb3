//! What a caller sent that must not go further, and where its token is.

use base64::Engine;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::status::Refusal;

/// Longest token looked at. Kubernetes' own are about 1 KiB.
const LONGEST_TOKEN: usize = 16 << 10;

/// Source: `k8s.io/apiserver/pkg/authentication/request/websocket/protocol.go`.
const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// What a caller authenticates with.
pub enum Credentials {
    /// A bearer token.
    Token(Zeroizing<String>),
    /// Nothing in the headers.
    None,
}

/// Finds the caller's token.
pub(super) fn credentials(headers: &HeaderMap) -> Result<Credentials, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(websocket_token(headers)?.map_or(Credentials::None, Credentials::Token));
    };
    if values.next().is_some() {
        return Err(Refusal::unauthorized("more than one Authorization header; send one"));
    }
    let text = value.to_str().map_err(|_| Refusal::unauthorized("the Authorization header is not ASCII text"))?;
    let (scheme, token) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::unauthorized(
            "the Authorization header's scheme is not Bearer; only tokens and client certificates are taken",
        ));
    }
    let token = token.trim();
    check_size(token)?;
    Ok(Credentials::Token(Zeroizing::new(token.to_owned())))
}

/// Removes what must end here: credentials, impersonation, identity asserted by proxies, hop-by-hop headers and whatever
/// `Connection` names. Impersonation is refused rather than dropped, because the caller would otherwise act as itself unawares.
pub fn strip(headers: &mut HeaderMap) -> Result<(), Refusal> {
    if headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Err(Refusal::forbidden(
            "impersonation (kubectl --as, Impersonate-* headers) is not available through the gateway; sign in as that user instead",
        ));
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let asserted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with("x-remote-") || name.starts_with("x-forwarded-") || name.starts_with("proxy-")
        })
        .cloned()
        .collect();
    for name in named.iter().chain(&asserted).chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    strip_websocket_token(headers);
    Ok(())
}

const HOP_BY_HOP: [HeaderName; 11] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::FORWARDED,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

fn websocket_token(headers: &HeaderMap) -> Result<Option<Zeroizing<String>>, Refusal> {
    let Some(encoded) = protocols(headers).find_map(|p| p.strip_prefix(WEBSOCKET_BEARER)) else { return Ok(None) };
    check_size(encoded)?;
    let garbled = || Refusal::unauthorized("the bearer token in Sec-WebSocket-Protocol is not base64url text");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).map_err(|_| garbled())?;
    Ok(Some(Zeroizing::new(String::from_utf8(bytes).map_err(|_| garbled())?)))
}

/// Takes a token that was offered as a protocol out of the protocols.
pub fn strip_websocket_token(headers: &mut HeaderMap) {
    if !protocols(headers).any(|p| p.starts_with(WEBSOCKET_BEARER)) {
        return;
    }
    let kept: Vec<&str> = protocols(headers).filter(|p| !p.starts_with(WEBSOCKET_BEARER)).collect();
    let kept = HeaderValue::from_str(&kept.join(", ")).ok().filter(|v| !v.is_empty());
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(kept) = kept {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn check_size(token: &str) -> Result<(), Refusal> {
    match token.len() {
        0 => Err(Refusal::unauthorized("the bearer token is empty")),
        n if n > LONGEST_TOKEN => {
            Err(Refusal::unauthorized(format!("the bearer token is {n} bytes long; more than {LONGEST_TOKEN} is not looked at")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(k, v)| (HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    #[test]
    fn what_asserts_an_identity_ends_here() {
        let mut h = headers(&[
            ("authorization", "Bearer x"),
            ("x-remote-user", "admin"),
            ("x-remote-extra-scope", "all"),
            ("connection", "X-Secret, keep-alive"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("accept", "application/json"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.YQ, v5.channel.k8s.io"),
        ]);
        strip(&mut h).unwrap();
        assert_eq!(h, headers(&[("accept", "application/json"), ("sec-websocket-protocol", "v5.channel.k8s.io")]));
    }

    #[test]
    fn impersonation_is_refused_even_where_connection_names_it() {
        for name in ["impersonate-user", "impersonate-group", "impersonate-extra-x", "impersonate-uid"] {
            let mut h = headers(&[("connection", "Impersonate-User"), (name, "system:admin")]);
            assert_eq!(strip(&mut h).unwrap_err().code, 403);
        }
    }

    #[test]
    fn tokens_are_found_where_kubernetes_finds_them() {
        let token = |h: HeaderMap| match credentials(&h) {
            Ok(Credentials::Token(token)) => Some(token.to_string()),
            _ => None,
        };
        assert_eq!(token(headers(&[("authorization", "bearer  abc")])).as_deref(), Some("abc"));
        assert_eq!(token(headers(&[("sec-websocket-protocol", "x, base64url.bearer.authorization.k8s.io.YWJj")])).as_deref(), Some("abc"));
        for bad in ["Basic YTpi", "Bearer", "Bearer "] {
            assert!(credentials(&headers(&[("authorization", bad)])).is_err(), "{bad}");
        }
        assert!(credentials(&headers(&[("authorization", &format!("Bearer {}", "a".repeat(LONGEST_TOKEN + 1)))])).is_err());
        assert!(credentials(&headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")])).is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_caller_sends_nothing_that_identifies_is_left(names in proptest::collection::vec(0usize..12, 0..12), value in "[ -~]{0,40}") {
            const NAMES: [&str; 12] = ["authorization", "connection", "x-remote-user", "x-remote-extra-a", "x-forwarded-for", "proxy-authorization",
                "sec-websocket-protocol", "te", "upgrade", "host", "accept", "content-length"];
            let mut headers = HeaderMap::new();
            for name in names {
                headers.append(HeaderName::from_static(NAMES[name]), value.parse().unwrap());
            }
            let _ = credentials(&headers);
            strip(&mut headers).unwrap();
            for name in headers.keys() {
                proptest::prop_assert!(matches!(name.as_str(), "accept" | "sec-websocket-protocol"), "{name}");
            }
            proptest::prop_assert!(!protocols(&headers).any(|p| p.starts_with(WEBSOCKET_BEARER)));
        }
    }
}
