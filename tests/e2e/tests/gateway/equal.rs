//! What is hidden and equal reads the same, what is hidden and different does not, and neither helps to guess.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::{Setup, code, scratch, setup};
use serde_json::{Value, json};

fn masked() -> Setup {
    setup(vec![("20-mask-secrets", "mask-secrets", String::new()), ("21-mask-env", "mask-env", String::new())], "")
}

fn file_of(object: &Value) -> PathBuf {
    let file = scratch("object").join("object.json");
    std::fs::write(&file, object.to_string()).unwrap();
    file
}

fn secret(name: &str, password: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": password, "port": "5432"}})
}

fn deployment(password: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "example.com/c",
            "env": [{"name": "PASSWORD", "value": password}, {"name": "PORT", "value": "5432"}]}]}}}})
}

fn read(s: &Setup, what: &str) -> Value {
    serde_json::from_str(s.kubectl(&["get", what, "-o", "json"]).success()).unwrap()
}

/// `kubectl diff` exits 0 where nothing differs and 1 where something does (`kubectl diff --help`).
#[test]
fn a_diff_tells_a_hidden_value_that_changes_from_one_that_does_not() {
    let s = masked();
    for made in [&secret as &dyn Fn(&str, &str) -> Value, &|_: &str, password: &str| deployment(password)] {
        let (same, other) = (file_of(&made("shop", "correct-horse-1")), file_of(&made("shop", "battery-staple-2")));
        let (same, other) = (same.to_str().unwrap(), other.to_str().unwrap());
        for how in [&["--server-side=false"][..], &["--server-side", "--force-conflicts"]] {
            s.kubectl(&[&["apply", "-f", same], how].concat()).success();
            let diff = |file: &str| {
                let ran = s.kubectl(&[&["diff", "-f", file], how].concat());
                let told = format!("{}{}", ran.out, ran.err);
                for password in ["correct-horse-1", "battery-staple-2"] {
                    assert!(!told.contains(password) && !told.contains(&STANDARD.encode(password)), "{told}");
                }
                // Where kubectl fails it says so, with another code than 1.
                (ran.ok, ran.out)
            };
            assert_eq!(diff(same), (true, String::new()), "{how:?}");
            let (is_same, shown) = diff(other);
            assert!(!is_same && shown.contains("+++") && shown.to_lowercase().contains("password"), "{how:?}: {shown}");
            // Of the values of a Secret kubectl itself shows none.
            assert!(!shown.contains("5432") || !shown.contains("+      port"), "{shown}");
        }
    }
}

/// A program that reads, compares with what it read before, and writes what it read.
#[test]
fn what_is_read_again_is_equal_until_it_changes() {
    let s = masked();
    let (one, two) = (file_of(&secret("one", "correct-horse-1")), file_of(&secret("two", "correct-horse-1")));
    s.direct(&["apply", "-f", one.to_str().unwrap(), "-f", two.to_str().unwrap()]).success();
    let before = read(&s, "secret/one");
    let password = |of: &Value| of["data"]["password"].as_str().unwrap().to_owned();
    assert_eq!(before, read(&s, "secret/one"));
    let listed = read(&s, "secrets");
    assert!(listed["items"].as_array().unwrap().contains(&before), "a list shows what a get shows");
    assert_ne!(password(&before), before["data"]["port"].as_str().unwrap());
    // The same value of another object reads differently: what somebody may write himself tells him nothing of what somebody else wrote.
    let mine = secret("mine", "correct-horse-1");
    let path = format!("/api/v1/namespaces/{}/secrets?dryRun=All", s.namespace);
    let guess = s.raw(&format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\nAuthorization: Bearer {}\r\n\r\n{mine}",
        mine.to_string().len(),
        s.token
    ));
    assert_eq!(code(&guess), 201, "{guess}");
    assert!(guess.contains("cG9zdGVybi1tYXNrZW") && !guess.contains(&password(&before)), "{guess}");
    assert_ne!(password(&read(&s, "secret/two")), password(&before));
    // What was read is written: the version that was read, or nothing.
    let stored = || s.direct(&["get", "secret", "one", "-o", "jsonpath={.data.password}"]).success().to_owned();
    let written = file_of(&{
        let mut labelled = before.clone();
        labelled["metadata"]["labels"] = json!({"step": "1"});
        labelled
    });
    s.kubectl(&["replace", "-f", written.to_str().unwrap()]).success();
    assert_eq!(stored(), STANDARD.encode("correct-horse-1"));
    let token = json!({"data": {"password": password(&before)}, "metadata": {"labels": {"step": "2"}}}).to_string();
    s.kubectl(&["patch", "secret", "one", "--type=merge", "-p", &token]).success();
    let changed = file_of(&secret("one", "battery-staple-2"));
    s.direct(&["apply", "-f", changed.to_str().unwrap()]).success();
    assert_ne!(password(&read(&s, "secret/one")), password(&before));
    let stale = s.kubectl(&["patch", "secret", "one", "--type=merge", "-p", &token]);
    assert!(
        stale.failure().contains("Conflict") && stale.err.contains("$.data.password") && stale.err.contains("read the object again"),
        "{}",
        stale.err
    );
    assert_eq!(stored(), STANDARD.encode("battery-staple-2"));
    // Whoever writes the placeholder without more means whatever is there.
    s.kubectl(&[
        "patch",
        "secret",
        "one",
        "--type=merge",
        "-p",
        r#"{"stringData":{"password":"postern-masked"},"metadata":{"labels":{"step":"3"}}}"#,
    ])
    .success();
    assert_eq!(stored(), STANDARD.encode("battery-staple-2"));
}
