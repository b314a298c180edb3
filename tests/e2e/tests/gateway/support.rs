//! A support bundle of a gateway that has seen secrets in every place where one may be: none is in it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use e2e::{Ran, Setup, code, setup_with};
use testbed::{Collector, GatewayOptions, postern, wait_until};

/// Secrets, a new one for each place.
struct Planted(Vec<(String, &'static str)>);

impl Planted {
    fn plant(&mut self, place: &'static str) -> String {
        let secret = format!("pl4nt{:02}Qz{:08x}Vx", self.0.len(), 0x9e37_79b9_u32.wrapping_mul(self.0.len() as u32 + 7));
        self.0.push((secret.clone(), place));
        secret
    }
}

/// The files of a bundle that is made now, as one text.
fn bundle(s: &Setup, name: &str, secrets: &[(&str, &str)]) -> (Ran, String) {
    let archive = s.gateway.directory.join(name);
    let mut command = Command::new(postern());
    command.args(["support-bundle", "--config"]).arg(s.gateway.directory.join("postern.yaml")).arg("--output").arg(&archive);
    command.envs(secrets.iter().copied());
    let ran = Ran::new(command.output().unwrap());
    let text = Command::new("tar").args(["-xzOf"]).arg(&archive).output().unwrap();
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    (ran, String::from_utf8_lossy(&text.stdout).into_owned())
}

/// The ways in which a secret may be written.
fn spellings(secret: &str) -> Vec<String> {
    let piped = |program: &str, args: &[&str]| {
        let ran = Command::new("sh").arg("-c").arg(format!("printf %s '{secret}' | {program} {}", args.join(" "))).output().unwrap();
        String::from_utf8(ran.stdout).unwrap().trim().trim_end_matches('=').to_owned()
    };
    vec![secret.to_owned(), piped("base64", &["-w0"]), piped("od", &["-An", "-v", "-tx1", "|", "tr", "-d", "' \\n'"])]
}

#[test]
fn none_of_forty_secrets_is_in_a_support_bundle() {
    let mut planted = Planted(Vec::new());
    let collector = Collector::start(&e2e::scratch("collector")).unwrap();
    let files = e2e::scratch("planted");
    fs::create_dir_all(&files).unwrap();
    let write = |name: &str, text: String| {
        let file = files.join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let headers = write(
        "headers",
        format!("Authorization: Bearer {}\nX-Api-Key: {}\n", planted.plant("headersFile, a token"), planted.plant("headersFile, a key")),
    );
    let comments = format!("# it was {} before\n", planted.plant("a comment of the configuration"));
    let settings = |planted: &mut Planted| {
        format!(
            "# old: {}\nsettings: {{kinds: [Secret], note: '{}', {}: x}}\n",
            planted.plant("a comment of settings"),
            planted.plant("a setting"),
            planted.plant("the name of a setting")
        )
    };
    let broken = settings(&mut planted);
    let environment: Vec<(&'static str, &'static str)> = vec![("OTEL_BSP_SCHEDULE_DELAY", "200"), ("RUST_LOG", "debug")];
    let s = setup_with(GatewayOptions {
        policies: vec![
            ("10-mask-secrets", "mask-secrets", String::new()),
            ("30-approve", "approve-deletes", "settings: {approvers: [nobody], resources: [configmaps]}\n".into()),
        ],
        config: format!(
            "{comments}approvals: {{hold: 0}}\noperations: {{address: '127.0.0.1:{}'}}\nsessions: {{bodies: [{{keep: requestAndResponse}}]}}\ntelemetry: {{{}, headersFile: '{headers}', samplingRatePerMillion: 1000000}}\n",
            testbed::free_port().unwrap(),
            collector.over_tls()
        ),
        environment,
        ..GatewayOptions::default()
    });

    let policies = s.gateway.directory.join("policies.d");
    fs::write(policies.join("90-broken.yaml"), broken).unwrap();
    fs::copy(testbed::policy("mask-secrets"), policies.join("90-broken.wasm")).unwrap();
    let beside = format!(
        "# {}\nmodee: enforce\nsettings: {{dsn: '{}'}}\n",
        planted.plant("a comment beside a mistake"),
        planted.plant("a setting beside a mistake")
    );
    fs::write(policies.join("91-mistaken.yaml"), beside).unwrap();
    fs::copy(testbed::policy("mask-secrets"), policies.join("91-mistaken.wasm")).unwrap();

    // What the gateway keeps itself.
    let data = s.gateway.directory.join("data");
    let own: Vec<(String, &str)> = fs::read_dir(&data)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|end| end == "key"))
        .flat_map(|file| {
            let bytes = fs::read(file).unwrap();
            match String::from_utf8(bytes.clone()) {
                Ok(text) => {
                    text.lines().filter(|line| !line.starts_with("---")).map(|line| (line.to_owned(), "a key of the gateway")).collect()
                }
                Err(_) => vec![(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), "a key of the gateway")],
            }
        })
        .collect();
    assert!(own.len() >= 3, "{own:?}");

    // What clients send, in every part of a request.
    let mut plant = |place: &'static str| planted.plant(place);
    s.kubectl(&["create", "secret", "generic", "one", &format!("--from-literal=a={}", plant("a Secret"))]).success();
    s.kubectl(&["get", "secret", "one", "-o", "json"]).success();
    s.kubectl(&["create", "configmap", "two", &format!("--from-literal=a={}", plant("a ConfigMap"))]).success();
    s.kubectl(&["annotate", "configmap", "two", &format!("note={}", plant("an annotation"))]).success();
    s.kubectl(&["label", "configmap", "two", &format!("note={}", plant("a label"))]).success();
    s.kubectl(&["exec", "web", "--", "echo", &plant("a command")]).success();
    s.kubectl(&["exec", "web", "--", "sh", "-c", &format!("echo {} >&2", plant("what a command wrote"))]).success();
    s.kubectl(&["delete", "configmap", &plant("the name of what is not there")]);
    s.kubectl(&["delete", "configmap", "two"]);
    s.kubectl(&["get", "pods", "--token", &plant("a token that is none")]);
    s.kubectl(&["get", "pods", "--as", &plant("a name to be called by")]);
    s.kubectl(&["get", &plant("a resource that is none")]);
    s.kubectl(&["get", "pods", "-n", &plant("a namespace").to_lowercase()]);
    s.kubectl(&["get", "pods", "-l", &format!("a={}", plant("a selector"))]);
    for (request, place) in [
        ("GET /api/v1/pods?token=@", "a query"),
        ("GET /@/api", "a path"),
        ("GET //@", "a path without a normal form"),
        ("@ /api", "a method"),
        ("POST /api/v1/namespaces/default/configmaps?fieldManager=@", "a field manager"),
        ("GET /postern/v1/approvals/@", "a ticket that is none"),
        ("GET /postern/v1/sessions/@", "a session that is none"),
        ("GET /postern/v1/sessions?user=@", "a search"),
    ] {
        let request = request.replace('@', &plant(place));
        s.raw(&format!(
            "{request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            s.token
        ));
    }
    for (header, place) in [
        ("Authorization: Basic @", "another scheme"),
        ("Authorization: Bearer eyJhbGciOiJub25lIn0.@.", "an unsigned token"),
        ("Cookie: session=@", "a cookie"),
        ("X-Api-Key: @", "a header"),
        ("User-Agent: @", "a user agent"),
        ("Impersonate-User: @", "a header that names somebody"),
        ("traceparent: @", "a traceparent that is none"),
        ("Content-Type: application/@", "a media type"),
        ("Content-Encoding: @", "an encoding"),
        ("Host: @.example", "a host"),
        ("Upgrade: @\r\nConnection: Upgrade", "a protocol"),
        ("Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.@", "a token in a protocol"),
    ] {
        let header = header.replace('@', &plant(place));
        let host = if header.starts_with("Host") { "" } else { "Host: x\r\n" };
        let token = if header.starts_with("Authorization") { String::new() } else { format!("Authorization: Bearer {}\r\n", s.token) };
        s.raw(&format!("GET /api/v1/namespaces/default/pods HTTP/1.1\r\n{host}{token}{header}\r\nConnection: close\r\n\r\n"));
    }
    let body = plant("a body that cannot be read");
    let request = format!(
        "POST /api/v1/namespaces/{}/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{{\"{body}\": {body}",
        s.namespace,
        s.token,
        body.len() * 2 + 5
    );
    assert_eq!(code(&s.raw(&request)), 400);
    let variable = plant("a variable of the environment");
    assert!(planted.0.len() >= 40, "{}", planted.0.len());

    let log = data.join("gateway.log");
    wait_until("the broken policy is in the log", Duration::from_secs(10), || {
        Ok(["90-broken", "91-mistaken"].iter().all(|name| fs::read_to_string(&log).unwrap_or_default().contains(name)))
    })
    .unwrap();
    let said = fs::read_to_string(&log).unwrap()
        + &fs::read_to_string(s.gateway.directory.join("postern.log")).unwrap()
        + &fs::read_to_string(data.join("audit.jsonl")).unwrap();
    for (secret, place) in planted.0.iter().filter(|(_, place)| place.contains("mistake")) {
        assert!(!said.contains(secret.as_str()), "{place} is in a log");
    }
    let (ran, text) = bundle(&s, "one.tar.gz", &[("DATABASE_PASSWORD", &variable)]);
    let listed = ran.success();
    for (secret, place) in planted.0.iter().chain([&(s.token.clone(), "the caller's token")]) {
        for spelling in spellings(secret) {
            assert!(!text.contains(&spelling) && !listed.contains(&spelling), "{place}: {spelling} is in\n{text}");
        }
    }
    for (secret, place) in &own {
        assert!(!text.contains(secret.as_str()), "{place}");
    }
    let kubeconfig = fs::read_to_string(e2e::cluster().gateway_kubeconfig().unwrap()).unwrap();
    for word in kubeconfig.split_whitespace().filter(|word| word.len() > 60) {
        assert!(!text.contains(word), "the gateway's kubeconfig");
    }
    // And it says what it is there for.
    for said in [
        "A support bundle of Postern",
        "\"seq\"",
        "require-approval",
        "postern_requests_total{",
        "[+]audit-log ok",
        "90-broken",
        "not-loaded",
        "samplingRatePerMillion: 1000000",
        "diskBytesFree",
        "\"tickets\": 2",
        "the policy does not load",
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }

    // One that has ended can be asked about too.
    let mut s = s;
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let (ran, text) = bundle(&s, "two.tar.gz", &[]);
    assert!(ran.success().contains("no gateway answers"), "{}", ran.success());
    assert!(text.contains("draining"), "the end of its log");
}
