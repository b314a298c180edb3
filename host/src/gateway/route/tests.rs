use super::*;
use crate::config::Config;

const SEVERAL: &str = "dataDirectory: d
clusters:
- {name: prod, hosts: [prod.example, 10.0.0.1, 'fd00:0::1'], kubeconfig: k}
- {name: dev, kubeconfig: k}
- {name: both, hosts: [Both.Example], pathPrefix: /k8s/both, kubeconfig: k}
";

/// Whom a request is for, and the target that is left of it; why it is refused where it is.
fn routed(config: &str, server_name: Option<&str>, host: Option<&str>, target: &str) -> Result<(String, String), (u16, String)> {
    let table = Table::of(Config::parse(config).unwrap().members());
    let mut request = Request::builder().uri(target);
    if let Some(host) = host {
        request = request.header(header::HOST, host);
    }
    let mut request = request.body(()).unwrap();
    let routed = table.route(server_name, &mut request).map_err(|refusal| (refusal.code.as_u16(), refusal.message))?;
    let to = match routed {
        Routed::Cluster(..) => unreachable!("none can be asked"),
        Routed::Elsewhere(Elsewhere::Own(None)) => "own".into(),
        Routed::Elsewhere(Elsewhere::Own(Some(listed))) => format!("own of {}", listed.name()),
        Routed::Elsewhere(Elsewhere::Broken(listed)) => listed.name().into(),
        Routed::Elsewhere(Elsewhere::Nowhere) => "nowhere".into(),
        Routed::Elsewhere(Elsewhere::Misdirected) => return Err((421, "of two clusters".into())),
    };
    Ok((to, request.uri().to_string()))
}

#[test]
fn a_cluster_is_told_by_its_host_or_by_how_the_path_begins() {
    for (host, target, to, rest) in [
        ("prod.example", "/api/v1/pods?limit=1", "prod", "/api/v1/pods?limit=1"),
        ("PROD.example:8443", "/api", "prod", "/api"),
        ("prod.example.", "/api", "prod", "/api"),
        ("10.0.0.1:443", "/api", "prod", "/api"),
        ("[fd00::1]:443", "/api", "prod", "/api"),
        ("[FD00:0:0:0:0:0:0:1]", "/api", "prod", "/api"),
        ("prod.example", "/clusters/dev/api", "prod", "/clusters/dev/api"),
        ("prod.example", "/postern/v1/approvals", "own of prod", "/postern/v1/approvals"),
        ("gateway", "/clusters/dev", "dev", "/"),
        ("gateway", "/clusters/dev?x=/y", "dev", "/?x=/y"),
        ("gateway", "/clusters/dev/", "dev", "/"),
        ("gateway", "/clusters/dev/api/v1/pods?watch=1", "dev", "/api/v1/pods?watch=1"),
        ("gateway", "/clusters/dev//api", "dev", "//api"),
        ("gateway", "/clusters/dev/clusters/dev/api", "dev", "/clusters/dev/api"),
        ("gateway", "/clusters/dev/postern/v1/approvals", "own of dev", "/postern/v1/approvals"),
        ("gateway", "/k8s/both/version", "both", "/version"),
        ("both.example", "/version", "both", "/version"),
        ("gateway", "/postern/v1/approvals", "own", "/postern/v1/approvals"),
        ("gateway", "/postern", "own", "/postern"),
        ("gateway", "/posternx", "nowhere", "/posternx"),
    ] {
        assert_eq!(routed(SEVERAL, None, Some(host), target), Ok((to.into(), rest.into())), "{host}{target}");
    }
}

#[test]
fn what_is_no_cluster_is_none_and_never_another() {
    for target in [
        "/api",
        "/",
        "/clusters/prod/api",
        "/clusters/devx/api",
        "/clusters/DEV/api",
        "/clusters/%64ev/api",
        "/clusters%2Fdev/api",
        "//clusters/dev/api",
        "/x/../clusters/dev/api",
        "/clusters//dev/api",
        "/clusters/./dev/api",
        "/k8s/bot/h",
    ] {
        assert_eq!(routed(SEVERAL, None, Some("gateway"), target).unwrap().0, "nowhere", "{target}");
    }
    for host in [None, Some("prod.example.evil"), Some("xprod.example"), Some("dev"), Some("prod")] {
        assert_eq!(routed(SEVERAL, None, host, "/api").unwrap().0, "nowhere", "{host:?}");
    }
}

#[test]
fn a_request_that_means_two_clusters_is_refused() {
    for (server_name, host, target, code) in [
        (Some("prod.example"), Some("both.example"), "/api", 421),
        (Some("prod.example"), Some("gateway"), "/clusters/dev/api", 421),
        (Some("gateway"), Some("prod.example"), "/api", 421),
        (None, Some("prod.example"), "https://both.example/api", 400),
        (None, Some("gateway"), "https://prod.example/api", 400),
        (None, Some("prod.example@both.example"), "/api", 400),
        (None, Some("prod.example, both.example"), "/api", 400),
        (None, Some("prod.example/x"), "/api", 400),
        (None, Some(""), "/api", 400),
        (None, None, "https://ann@prod.example/api", 400),
    ] {
        let refused = routed(SEVERAL, server_name, host, target).unwrap_err();
        assert_eq!(refused.0, code, "{server_name:?} {host:?} {target}: {}", refused.1);
    }
    for (server_name, host, target) in [
        (Some("prod.example"), Some("prod.example:8443"), "/api"),
        (Some("prod.example"), None, "https://prod.example:8443/api"),
        (None, Some("prod.example:8443"), "https://PROD.example/api"),
    ] {
        assert_eq!(routed(SEVERAL, server_name, host, target).unwrap().0, "prod");
    }
}

#[test]
fn the_only_cluster_has_every_host_and_path() {
    let alone = "dataDirectory: d\ncluster: {name: one, kubeconfig: k}\n";
    for (server_name, host, target, to) in [
        (Some("a"), Some("b"), "/clusters/x/api", "one"),
        (None, None, "https://c/api?x", "one"),
        (None, Some("b"), "/postern/v1/approvals", "own of one"),
    ] {
        assert_eq!(routed(alone, server_name, host, target), Ok((to.into(), target.into())));
    }
}

proptest::proptest! {
    /// Whatever a path is, of what leads to a cluster exactly its prefix is taken away.
    #[test]
    fn nothing_but_the_prefix_is_taken_away(rest in "[a-z/.%0-9]{0,12}", query in "[a-z=&?/]{0,6}") {
        let target = format!("/clusters/dev/{rest}?{query}");
        let expected = format!("/{rest}?{query}");
        proptest::prop_assume!(target.parse::<Uri>().is_ok());
        let own = is_own(&format!("/{rest}"));
        let to = if own { "own of dev" } else { "dev" };
        proptest::prop_assert_eq!(routed(SEVERAL, None, Some("gateway"), &target).unwrap(), (to.to_owned(), expected));
    }
}
