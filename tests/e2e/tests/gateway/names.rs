//! Who somebody is here is who they are there: names and groups that would be others in the cluster are nobody's.

use e2e::{Issuer, Ran, Setup, cluster, code, scratch, setup_with};
use rcgen::string::BmpString;
use rcgen::{DnType, DnValue};
use serde_json::{Value, json};
use testbed::{Gateway, GatewayOptions};

/// Whoever a token or a certificate names, by that name.
const AS_THEMSELVES: &str = "[{as: {impersonate: {}}}]";
const PLAIN: &str = "    claimMappings:\n      username: {claim: sub, prefix: ''}\n      groups: {claim: roles, prefix: ''}\n";

fn before(issuer: &Issuer, mappings: &str) -> Setup {
    setup_with(GatewayOptions { issuers: issuer.entry(mappings), access: AS_THEMSELVES.into(), ..GatewayOptions::default() })
}

type Subject = Vec<(DnType, DnValue)>;

/// Asks the API server, through the gateway, who is asking: its answer, and the user it names.
fn who(s: &Setup, token: &str) -> (String, Value) {
    let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let answer = s.raw(&format!(
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{review}",
        review.len()
    ));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let json = body.find('{').and_then(|start| serde_json::from_str(&body[start..=body.rfind('}')?]).ok()).unwrap_or(Value::Null);
    (answer, json["status"]["userInfo"].clone())
}

#[test]
fn a_name_of_blanks_is_nobody_and_never_the_gateway() {
    let issuer = Issuer::start();
    let s = before(&issuer, PLAIN);
    for claims in [
        json!({"sub": " "}),
        json!({"sub": "\t"}),
        json!({"sub": ""}),
        json!({"sub": "\u{a0}"}),
        json!({"sub": " ann"}),
        json!({"sub": "ann "}),
        json!({"sub": "ann\t"}),
        json!({"sub": "a\u{0}b"}),
        json!({"sub": "a\r\nImpersonate-Group: system:masters"}),
        json!({"sub": "ann\u{202e}"}),
        json!({"roles": [" system:masters"]}),
        json!({"roles": ["system:masters "]}),
        json!({"roles": ["\tsystem:masters"]}),
        json!({"roles": [""]}),
        json!({"roles": "dev "}),
    ] {
        let token = issuer.token("first", 600, &claims);
        let (answer, user) = who(&s, &token);
        assert!(code(&answer) == 401 && user.is_null(), "{claims}: {answer}");
        // What a cluster administrator's token was got with.
        let path = "/api/v1/namespaces/postern/serviceaccounts/acts-as/token";
        let body = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
        let asked = s.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(code(&asked), 401, "{claims}: {asked}");
    }
    let joined = Issuer::start();
    let s = before(&joined, "    claimMappings:\n      username: {expression: 'claims.first + \" \" + claims.last'}\n");
    let (answer, _) = who(&s, &joined.token("first", 600, &json!({"first": "", "last": ""})));
    assert_eq!(code(&answer), 401, "{answer}");
    let (_, user) = who(&s, &joined.token("first", 600, &json!({"first": "ann", "last": "lee"})));
    assert_eq!(user["username"], "ann lee");
}

#[test]
fn the_cluster_sees_the_name_and_the_groups_that_the_gateway_decided_on() {
    let issuer = Issuer::start();
    let s = before(&issuer, PLAIN);
    let pieces = [
        "ann", " ", "\t", "é", "雪", "%20", "+", ":", "system:", "masters", "\u{85}", "\u{200b}", ",", "\"", "\\", "a", "A", "0", "/",
        "\u{7f}",
    ];
    let (mut state, mut let_in) = (0x2545_f491_4f6c_dd1du64, 0);
    let mut next = |most: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % most as u64).unwrap()
    };
    for _ in 0..400 {
        let mut text = || (0..=next(3)).map(|_| pieces[next(pieces.len())]).collect::<String>();
        let (name, groups) = (text(), vec![text(), text()]);
        let (answer, user) = who(&s, &issuer.token("first", 600, &json!({"sub": name, "roles": groups})));
        if user.is_null() {
            assert!(matches!(code(&answer), 401 | 403), "{name:?} {groups:?}: {answer}");
            continue;
        }
        let_in += 1;
        assert_eq!(user["username"], json!(name), "{groups:?}");
        let there: Vec<&str> =
            user["groups"].as_array().unwrap().iter().filter_map(Value::as_str).filter(|g| *g != "system:authenticated").collect();
        assert_eq!(there, groups, "{name:?}");
    }
    assert!(let_in > 50, "{let_in} of 400 names were let in");
    println!("compared 400 names and 800 groups with SelfSubjectReview, {let_in} let in: no difference");
}

#[test]
fn a_certificate_names_here_whom_it_names_there_or_nobody() {
    let s = setup_with(GatewayOptions { access: AS_THEMSELVES.into(), ..GatewayOptions::default() });
    let (name, group) = (DnType::CommonName, DnType::OrganizationName);
    let second = |last| DnType::CustomDnType(vec![2, 5, 4, last]);
    let bmp = |text: &str| DnValue::BmpString(BmpString::try_from(text).unwrap());
    let subjects: [(&str, Subject, bool); 7] = [
        ("plain", vec![(name.clone(), "ann".into()), (group.clone(), "dev".into()), (second(10), "ops".into())], true),
        ("blank", vec![(name.clone(), " ".into())], false),
        ("trailing", vec![(name.clone(), "ann ".into())], false),
        ("two-names", vec![(name.clone(), "ann".into()), (second(3), "bob".into())], false),
        ("bmp-group", vec![(name.clone(), "ann".into()), (group.clone(), bmp("restricted"))], false),
        ("bmp-name", vec![(name.clone(), bmp("ann"))], false),
        ("account", vec![(name.clone(), "system:serviceaccount:postern:acts-as".into())], false),
    ];
    let seen = |kubeconfig: &std::path::Path| {
        let ran = Ran::new(Gateway::kubectl(kubeconfig, &["auth", "whoami", "-o", "json"]).unwrap());
        ran.ok.then(|| serde_json::from_str::<Value>(&ran.out).unwrap()["status"]["userInfo"].clone())
    };
    for (file, subject, is_let_in) in subjects {
        cluster().issue(file, &subject).unwrap();
        let place = |end: &str| cluster().directory.join(format!("{file}.{end}"));
        let user = json!({"client-certificate": place("crt"), "client-key": place("key")});
        let here = seen(&s.gateway.kubeconfig_for(file, &user).unwrap());
        assert_eq!(here.is_some(), is_let_in, "{file}: {here:?}");
        if let Some(here) = here {
            let text = std::fs::read_to_string(s.gateway.kubeconfig_for(file, &user).unwrap()).unwrap();
            let there = scratch("direct").join("kubeconfig");
            let ca = cluster().directory.join("ca.crt");
            let mut config: Value = serde_json::from_str(&text).unwrap();
            config["clusters"][0]["cluster"] =
                json!({"server": format!("https://localhost:{}", cluster().port), "certificate-authority": ca});
            std::fs::write(&there, config.to_string()).unwrap();
            let there = seen(&there).expect("the API server lets it in as well");
            assert_eq!((&here["username"], &here["groups"]), (&there["username"], &there["groups"]), "{file}");
        }
    }
    let events = s.events();
    let why =
        |text: &str| events.iter().any(|e| e["verdict"] == "unauthenticated" && e["refusal"].as_str().is_some_and(|r| r.contains(text)));
    for text in ["blank", "several common names", "encoding that is not read", "only the cluster's own issuer"] {
        assert!(why(text), "{text}");
    }
}

#[test]
fn service_accounts_are_named_by_the_clusters_own_issuer_alone() {
    let issuer = Issuer::start();
    let s = before(&issuer, PLAIN);
    for claims in [
        json!({"sub": "system:serviceaccount:postern:acts-as"}),
        json!({"sub": "system:serviceaccountx"}),
        json!({"roles": ["system:serviceaccounts"]}),
        json!({"roles": ["system:serviceaccounts:kube-system"]}),
    ] {
        let (answer, user) = who(&s, &issuer.token("first", 600, &claims));
        assert!(code(&answer) == 401 && user.is_null() && answer.contains("cluster's own issuer"), "{claims}: {answer}");
    }
    let (_, user) = who(&s, &s.token);
    assert_eq!(user["username"], "system:serviceaccount:postern:caller", "the cluster's own goes on");
    // An API server that does not say which issuer is its own: nothing is guessed, and the configuration can say it.
    let mute = |config: &str| {
        let kubeconfig = cluster().certificate_kubeconfig("mute", &["postern:mute"]).unwrap();
        let options = GatewayOptions {
            access: AS_THEMSELVES.into(),
            kubeconfig: Some(kubeconfig),
            cluster: config.into(),
            ..GatewayOptions::default()
        };
        setup_with(options)
    };
    let s = mute("");
    let answer = s.get("/api", "");
    assert!(code(&answer) == 503 && answer.contains("cluster.serviceAccountIssuers"), "{answer}");
    let s = mute(&format!(", serviceAccountIssuers: ['{}']", cluster().issuer()));
    let answer = s.get("/api", "");
    assert_ne!(code(&answer), 401, "{answer}");
    assert!(!answer.contains("serviceAccountIssuers"), "{answer}");
    let s = mute(", serviceAccountIssuers: ['https://elsewhere']");
    assert_eq!(code(&s.get("/api", "")), 401);
}

#[test]
fn a_claim_that_is_there_twice_is_no_claim() {
    use base64::Engine;
    let s = setup_with(GatewayOptions::default());
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let parts: Vec<&str> = s.token.split('.').collect();
    let token = format!("{}.{}.{}", parts[0], encode(r#"{"iss":"a","sub":"ann","sub":"bob"}"#), parts[2]);
    let answer = s.raw(&format!("GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"));
    assert!(code(&answer) == 401 && answer.contains("JSON Web Token"), "{answer}");
}
