//! Who is let in.

use base64::Engine;
use e2e::{cluster, code, setup, setup_with};
use testbed::GatewayOptions;

fn with_token(s: &e2e::Setup, token: &str) -> String {
    s.raw(&format!("GET /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"))
}

#[test]
fn tokens_that_are_not_for_us_are_401_with_a_challenge_and_an_event() {
    let s = setup(vec![], "");
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let parts: Vec<&str> = s.token.split('.').collect();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let claims = String::from_utf8(claims).unwrap();
    let none = format!("{}.{}.", encode(r#"{"alg":"none"}"#), parts[1]);
    let symmetric = format!("{}.{}.{}", encode(r#"{"alg":"HS256","kid":"x"}"#), parts[1], parts[2]);
    let issuer = format!("{}.{}.{}", parts[0], encode(&claims.replace("https://localhost", "https://elsewhere")), parts[2]);
    let changed = format!("{}.{}.{}", parts[0], encode(&claims.replace("caller", "admins")), parts[2]);
    let other_audience = cluster().token("caller", "another").unwrap();
    for (token, why) in [
        (none.as_str(), "algorithm"),
        (&symmetric, "algorithm"),
        (&issuer, "issuer"),
        (&changed, "signature"),
        (&other_audience, "audience"),
        ("garbled", "JSON Web Token"),
        ("a.b.c", "JSON Web Token"),
        (&"a".repeat(20_000), "20000 bytes"),
    ] {
        let answer = with_token(&s, token);
        assert_eq!(code(&answer), 401, "{why}: {answer}");
        assert!(answer.contains(why) && answer.to_lowercase().contains("www-authenticate: bearer"), "{why}: {answer}");
        assert!(answer.contains("\"kind\":\"Status\""));
    }
    assert_eq!(code(&s.raw("GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")), 401);
    assert_eq!(code(&with_token(&s, &s.token)), 200);
    let events = s.events();
    assert_eq!(events.iter().filter(|e| e["verdict"] == "unauthenticated").count(), 9);
    let log = std::fs::read_to_string(s.gateway.audit()).unwrap();
    assert!(!log.contains(&s.token) && !log.contains(parts[2]), "no token in the log");
}

#[test]
fn certificates_of_the_ca_are_let_in_and_others_are_401() {
    let s = setup(vec![], "");
    let directory = &cluster().directory;
    let user = |name: &str| serde_json::json!({"client-certificate": directory.join(format!("{name}.crt")), "client-key": directory.join(format!("{name}.key"))});
    let ours = s.gateway.kubeconfig_for("certificate", &user("admin")).unwrap();
    e2e::Ran::new(testbed::Gateway::kubectl(&ours, &["get", "namespaces"]).unwrap()).success();

    let foreign = e2e::scratch("foreign");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    std::fs::write(foreign.join("c.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(foreign.join("c.key"), key.serialize_pem()).unwrap();
    let user = serde_json::json!({"client-certificate": foreign.join("c.crt"), "client-key": foreign.join("c.key")});
    let theirs = s.gateway.kubeconfig_for("foreign", &user).unwrap();
    let refused = e2e::Ran::new(testbed::Gateway::kubectl(&theirs, &["get", "--raw", "/api"]).unwrap());
    assert!(refused.failure().contains("certificate") || refused.err.contains("Unauthorized"), "{}", refused.err);
    assert!(s.events().iter().any(|e| e["verdict"] == "unauthenticated" && e["refusal"].as_str().unwrap().contains("client CA")));
}

#[test]
fn the_cluster_sees_the_service_account_or_the_caller_and_never_the_token() {
    let s = setup(vec![], "");
    let who = |s: &e2e::Setup| s.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).success().to_owned();
    assert_eq!(who(&s), "system:serviceaccount:postern:acts-as");
    let s =
        setup_with(GatewayOptions { access: "[{groups: ['postern:caller'], as: {impersonate: {}}}]".into(), ..GatewayOptions::default() });
    assert_eq!(who(&s), "system:serviceaccount:postern:caller");
    let s = setup_with(GatewayOptions { access: "[{groups: [nobody], as: {impersonate: {}}}]".into(), ..GatewayOptions::default() });
    let refused = s.get("/api/v1/namespaces", "");
    assert!(code(&refused) == 403 && refused.contains("access rule"), "{refused}");
}

#[test]
fn a_service_account_that_is_made_anew_locks_nobody_out() {
    let robot = serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": "postern"}});
    let make = || cluster().apply(&robot).unwrap();
    make();
    cluster()
        .apply(
            &serde_json::json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "robot"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "postern"}]}),
        )
        .unwrap();
    let s = setup_with(GatewayOptions {
        access: "[{as: {serviceAccount: {namespace: postern, name: robot}}}]".into(),
        ..GatewayOptions::default()
    });
    let delete = || s.direct(&["-n", "postern", "delete", "serviceaccount", "robot"]).success().to_owned();
    assert_eq!(code(&with_token(&s, &s.token)), 200);
    delete();
    make();
    // The token that the gateway had is good no longer, and nobody notices.
    for _ in 0..3 {
        let answer = with_token(&s, &s.token);
        assert_eq!(code(&answer), 200, "{answer}");
    }
    delete();
    // The API server itself remembers for some seconds that a token was good.
    let mut answer = String::new();
    testbed::wait_until("it is known that the account is gone", std::time::Duration::from_secs(30), || {
        answer = with_token(&s, &s.token);
        Ok(code(&answer) != 200)
    })
    .unwrap();
    assert!(code(&answer) == 403 && answer.contains("postern/robot") && answer.contains("does not exist"), "{answer}");
}
