use std::fs::{create_dir_all, write};

use super::*;

/// A configuration whose files hold secrets, and those.
fn planted(directory: &Path) -> (std::path::PathBuf, Vec<String>) {
    let secret = |n: usize| format!("pl4nted-Sekret-{n:02}-q7ZkX");
    create_dir_all(directory.join("data/clusters/dev")).unwrap();
    create_dir_all(directory.join("policies.d")).unwrap();
    let kubeconfig = format!(
        "clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'}}}}]\nusers: [{{name: u, user: {{token: '{}', password: \"{}\", token-file: own.token}}}}]\n",
        secret(0),
        secret(1)
    );
    write(directory.join("kubeconfig"), kubeconfig).unwrap();
    write(directory.join("own.token"), secret(2)).unwrap();
    write(directory.join("tls.key"), format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", secret(3))).unwrap();
    write(directory.join("tls.crt"), "").unwrap();
    write(directory.join("data/token.key"), [7; 32]).unwrap();
    write(directory.join("data/clusters/dev/token.key"), [8; 32]).unwrap();
    write(directory.join("headers"), format!("Authorization: Bearer {}\n", secret(4))).unwrap();
    write(directory.join("witness.headers"), format!("Authorization: Bearer {}\n", secret(8))).unwrap();
    write(
        directory.join("policies.d/10-a.yaml"),
        format!("# {}\nsettings: {{dsn: '{}', list: [{{a: '{}'}}]}}\n", secret(5), secret(6), secret(7)),
    )
    .unwrap();
    let config = directory.join("postern.yaml");
    let text = format!(
        "listen: {{certificateFile: tls.crt, keyFile: tls.key}} # {}\ncluster: {{kubeconfig: kubeconfig}}\npolicies: {{directory: policies.d}}\ndataDirectory: data\nauthentication: {{jwt: []}}\ntelemetry: {{endpoint: 'https://127.0.0.1:1', headersFile: headers}}\naudit: {{witness: {{url: 'https://127.0.0.1:1', headersFile: witness.headers}}}}\n",
        secret(9)
    );
    write(&config, text).unwrap();
    (config, (0..10).map(secret).collect())
}

fn without(text: &str, secrets: &[String]) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{secret} is in\n{text}");
    }
}

#[test]
fn what_stands_in_files_with_secrets_is_struck_out_wherever_it_shows() {
    let directory = tempfile::tempdir().unwrap();
    let (config, secrets) = planted(directory.path());
    let quoted: String = secrets.iter().map(|secret| format!("WARN the policy said {secret}, and {:?} of it\n", secret)).collect();
    let raw = data_encoding::HEXLOWER.encode(&[7; 32]);
    write(directory.path().join("data/gateway.log"), format!("{quoted}WARN {raw}\nWARN nothing of the kind\n")).unwrap();
    let bundle = Bundle::gather(&config, None).unwrap();
    let of = |name: &str| bundle.parts().iter().find(|part| part.name == name).unwrap();
    for part in bundle.parts() {
        without(&part.text, &secrets[..9]);
    }
    // A comment of the configuration is nowhere but in the log that was planted with it.
    without(&of("configuration.yaml").text, &secrets);
    let log = &of("gateway.log").text;
    assert!(!log.contains(&raw) && log.contains(secrets::STRUCK) && log.contains("WARN nothing of the kind"), "{log}");
    assert!(of("configuration.yaml").text.contains("headersFile"), "{}", of("configuration.yaml").text);
}

#[test]
fn a_configuration_that_is_not_taken_is_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("postern.yaml");
    write(&config, "listen: {adress: 'pl4nted-Sekret-1'} # pl4nted-Sekret-2\nx: pl4nted-Sekret-3\n").unwrap();
    create_dir_all(directory.path().join("data")).unwrap();
    write(directory.path().join("data/token.key"), "k3y-of-the-gateway").unwrap();
    write(directory.path().join("data/gateway.log"), "WARN it said k3y-of-the-gateway\n").unwrap();
    let bundle = Bundle::gather(&config, Some(&directory.path().join("data"))).unwrap();
    assert!(!bundle.is_taken() && bundle.parts().iter().any(|part| part.name == "gateway.log" && part.text.contains(secrets::STRUCK)));
    let text: String = bundle.parts().iter().map(|part| part.text.as_str()).collect();
    assert!(
        !text.contains("pl4nted") && !text.contains("k3y-of") && text.contains("It is not taken, for what is at line 1, column 10"),
        "{text}"
    );
}

#[test]
fn what_looks_like_a_secret_is_struck_out() {
    let known = Secrets::gather(None, None);
    for secret in [
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
        "Authorization: Bearer abcdef123456",
        "authorization=basic dXNlcjpwYXNz",
        "https://user:pa55word@registry.example/v2/",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghij",
        "password=hunter2hunter2",
        "{\"password\":\"hunter2hunter2\"}",
        "password: \"hunter2 hunter2\"",
        "token='hunter2hunter2'",
        "POSTGRES_PASSWORD=hunter2hunter2",
        "AWS_SECRET_ACCESS_KEY=hunter2hunter2",
        "access_token=hunter2hunter2",
        "dbPassword: hunter2hunter2",
        "AccountKey=hunter2hunter2",
        "postgres://u:p@hunter2@host",
        "postgres://u:p/hunter2@host",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nhunter2MHcCAQEE",
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----",
    ] {
        let shown = known.strike_out(&format!("before {secret} after"));
        assert!(shown.contains(secrets::STRUCK) && shown.starts_with("before "), "{shown}");
        for hidden in ["hunter2", "c2ln", "abcdef123456", "dXNlcjpwYXNz", "pa55word", "IOSFODNN", "0123456789", "MHcCAQEE"] {
            assert!(!shown.contains(hidden), "{secret}: {shown}");
        }
    }
    let plain = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae https://issuer.example/a postern_requests_total{verb=\"get\"} 3";
    assert_eq!(known.strike_out(plain), plain);
    assert_eq!(known.of_log(&format!("{plain}\n")), format!("{plain}\n"));
    assert!(!known.of_log("key=wJalrXUtnFEMI9K7MDENG0bPxRfiCYEXAMPLEKEY\n").contains("wJalr"));
}

/// What others wrote is in a log with its line ends escaped, as Rust or JSON does: what is behind one begins a word all the same.
#[test]
fn what_looks_like_a_secret_is_struck_out_behind_an_escape() {
    let known = Secrets::gather(None, None);
    for escape in ["\\n", "\\t", "\\r", "\\u000a", "\\u{1b}", "\\x1b"] {
        for secret in ["Bearer abcdef123456", "ghp_0123456789abcdefghij", "AKIAIOSFODNN7EXAMPLE", "https://user:pa55word@registry.example/"]
        {
            let shown = known.strike_out(&format!("it said: \"line{escape}{secret}\""));
            let hidden = ["abcdef123456", "0123456789", "IOSFODNN", "pa55word"];
            assert!(shown.contains(secrets::STRUCK) && !hidden.iter().any(|hidden| shown.contains(hidden)), "{shown}");
        }
    }
}

#[test]
fn credentials_for_registries_and_tokens_of_digits_are_known() {
    use base64::Engine;
    let directory = tempfile::tempdir().unwrap();
    let auth = base64::engine::general_purpose::STANDARD.encode("robot:pl4nted:docker");
    let (docker, kubeconfig) = (directory.path().join("config.json"), directory.path().join("kubeconfig"));
    write(&docker, format!("{{\"auths\": {{\"r.example\": {{\"auth\": \"{auth}\", \"identitytoken\": \"pl4nted-token\"}}}}}}")).unwrap();
    write(&kubeconfig, "users: [{name: u, user: {token: 0012345678901234567890123}}]\n").unwrap();
    let mut found = secrets::Found::default();
    found.docker(&docker);
    let text =
        format!("listen: {{}}\ncluster: {{kubeconfig: '{}'}}\ndataDirectory: data\nauthentication: {{jwt: []}}\n", kubeconfig.display());
    found.of(&Config::parse(&text).unwrap());
    let finder = found.finder().unwrap().unwrap();
    for secret in ["pl4nted:docker", "pl4nted-token", auth.as_str(), "0012345678901234567890123"] {
        assert!(finder.is_match(&format!("it said {secret}.")), "{secret}");
    }
    assert!(!finder.is_match("r.example robot"));
}

#[test]
fn it_is_an_archive_that_only_this_user_may_read_and_replaces_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (config, _) = planted(directory.path());
    let file = directory.path().join("bundle.tar.gz");
    let bundle = Bundle::gather(&config, None).unwrap();
    bundle.write(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(bundle.write(&file).unwrap_err().to_string().contains("is there already"));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap()));
    let names: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names.len(), bundle.parts().len());
    assert!(names.contains(&"postern-support/README.txt".to_owned()), "{names:?}");
}

#[test]
fn the_end_of_a_long_log_is_taken_from_the_beginning_of_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let line = format!("{}é\n", "x".repeat(998));
    write(directory.path().join("gateway.log.1"), line.repeat(2000)).unwrap();
    write(directory.path().join("gateway.log"), line.repeat(1000)).unwrap();
    let log = log(directory.path()).unwrap();
    assert!(log.len() as u64 <= LOG && log.len() as u64 > LOG - 1100 && log.lines().all(|l| l == line.trim_end()), "{}", log.len());
}
