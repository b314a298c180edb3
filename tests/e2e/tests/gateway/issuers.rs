//! Several issuers, their keys, and what becomes of tokens when one of them is down.

use std::time::Duration;

use e2e::{Issuer, Setup, code, setup_with};
use serde_json::json;
use testbed::{GatewayOptions, wait_until};

const MAPPINGS: &str = "    claimMappings:
      username: {expression: \"'corp:' + claims.sub\"}
      groups: {claim: roles, prefix: 'role:'}
    claimValidationRules:
    - {claim: tenant, requiredValue: acme}
    - {expression: \"!has(claims.level) || claims.level > 2\", message: the level is too low}
    userValidationRules:
    - {expression: \"!user.username.startsWith('corp:system')\", message: a reserved name}
";

fn before(issuer: &Issuer) -> Setup {
    setup_with(GatewayOptions { issuers: issuer.entry(MAPPINGS), ..GatewayOptions::default() })
}

fn ask(s: &Setup, token: &str) -> String {
    s.raw(&format!("GET /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"))
}

#[test]
fn claims_become_a_user_and_rules_are_kept() {
    let issuer = Issuer::start();
    let s = before(&issuer);
    let token = |more| issuer.token("first", 600, &more);
    assert_eq!(code(&ask(&s, &s.token)), 200, "the cluster's own issuer goes on beside it");
    let good = ask(&s, &token(json!({"tenant": "acme", "roles": ["dev", "ops"]})));
    assert_eq!(code(&good), 200, "{good}");
    let event = s.events().into_iter().find(|e| e["caller"]["username"] == "corp:ann").expect("recorded by its mapped name");
    assert_eq!((&event["caller"]["groups"], &event["caller"]["issuer"]), (&json!(["role:dev", "role:ops"]), &json!(issuer.url)));

    for (token, why) in [
        (token(json!({})), "tenant"),
        (token(json!({"tenant": "other"})), "tenant"),
        (token(json!({"tenant": "acme", "level": 1})), "the level is too low"),
        (token(json!({"tenant": "acme", "sub": "system:admin"})), "a reserved name"),
        (token(json!({"tenant": "acme", "aud": "somebody-else"})), "audience"),
        (token(json!({"tenant": "acme", "aud": ["a", "b"]})), "audience"),
        (token(json!({"tenant": "acme", "iss": "https://localhost:1"})), "issuer"),
        (token(json!({"tenant": "acme", "nbf": e2e::now() + 60})), "not valid yet"),
        (issuer.token("first", -60, &json!({"tenant": "acme"})), "expired"),
        (token(json!({"tenant": "acme", "exp": "soon"})), "the token"),
        (token(json!({"tenant": "acme", "exp": null})), "the token"),
    ] {
        let answer = ask(&s, &token);
        assert!(code(&answer) == 401 && answer.contains(why), "{why}: {answer}");
    }
    // A time no clock can hold is far away, and no more than that.
    let endless = ask(&s, &token(json!({"tenant": "acme", "exp": 1u64 << 62})));
    assert_eq!(code(&endless), 200, "{endless}");
    assert_eq!(code(&ask(&s, &issuer.token("first", -5, &json!({"tenant": "acme"})))), 200, "within clockSkew");
}

/// Who waits for a list is answered for as long as their token holds.
#[test]
fn a_list_is_waited_for_no_longer_than_a_token_holds() {
    let issuer = Issuer::start();
    let s = before(&issuer);
    let token = issuer.token("first", 6, &json!({"tenant": "acme"}));
    let (status, page) = crate::api::get(&s, &token, "/postern/v1/approvals");
    assert_eq!(status, 200, "{page}");
    let wait = format!("/postern/v1/approvals?waitSeconds=60&revision={}", page["revision"].as_str().unwrap());
    let (status, told) = crate::api::get(&s, &token, &wait);
    assert!(status == 401 && told["message"].as_str().unwrap().contains("ended while you waited"), "{status} {told}");
}

#[test]
fn keys_are_refreshed_for_an_unknown_one_and_kept_while_the_issuer_is_down() {
    let issuer = Issuer::start();
    let s = before(&issuer);
    let token = |key: &str, number: u32| issuer.token(key, 600, &json!({"tenant": "acme", "jti": number.to_string()}));
    assert_eq!(code(&ask(&s, &token("first", 1))), 200);

    issuer.add_key("second");
    wait_until("the second key is known", Duration::from_secs(20), || Ok(code(&ask(&s, &token("second", 2))) == 200)).unwrap();
    // Made-up keys are not load on the issuer: it is asked once in ten seconds.
    let stranger = Issuer::start();
    stranger.add_key("made-up");
    let asked = issuer.asked();
    for number in 0..20 {
        let made_up = stranger.token("made-up", 600, &json!({"tenant": "acme", "iss": issuer.url, "jti": number.to_string()}));
        let answer = ask(&s, &made_up);
        assert!(code(&answer) == 401 && answer.contains("does not publish"), "{answer}");
    }
    assert!(issuer.asked() <= asked + 1, "{} times", issuer.asked() - asked);
    // A key of the right name, and another's signature.
    let forged = stranger.token("first", 600, &json!({"tenant": "acme", "iss": issuer.url}));
    assert!(code(&ask(&s, &forged)) == 401);

    issuer.set_down(true);
    assert_eq!(code(&ask(&s, &token("second", 3))), 200, "known keys stay in use");
    assert_eq!(code(&ask(&s, &token("first", 4))), 200);
}

#[test]
fn an_issuer_that_is_down_from_the_start_is_503_until_it_is_there() {
    let issuer = Issuer::start();
    issuer.set_down(true);
    let s = before(&issuer);
    let token = issuer.token("first", 600, &json!({"tenant": "acme"}));
    let answer = ask(&s, &token);
    assert!(code(&answer) == 503 && answer.contains("could not be fetched yet"), "{answer}");
    assert_eq!(code(&ask(&s, &s.token)), 200, "others are not held up");
    issuer.set_down(false);
    wait_until("its keys are there", Duration::from_secs(20), || Ok(code(&ask(&s, &token)) == 200)).unwrap();
}

#[test]
fn a_token_whose_key_was_taken_back_is_good_no_longer() {
    let issuer = Issuer::start();
    let s = before(&issuer);
    let claims = json!({"tenant": "acme"});
    let (first, again) = (issuer.token("first", 600, &claims), issuer.token("first", 600, &claims));
    assert_eq!(code(&ask(&s, &first)), 200, "seen before, and remembered");
    issuer.add_key("second");
    issuer.remove_key("first");
    // A key that nobody knows has the keys fetched anew.
    let second = issuer.token("second", 600, &claims);
    wait_until("the new keys are known", Duration::from_secs(20), || Ok(code(&ask(&s, &second)) == 200)).unwrap();
    for token in [first, again] {
        assert_eq!(code(&ask(&s, &token)), 401);
    }
}
