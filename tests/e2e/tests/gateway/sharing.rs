//! Policies shared through a real registry, signed and checked by Postern and by a real cosign, either way.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::{Ran, put, scratch, setup_with};
use testbed::{Gateway, GatewayOptions, Registry, wait_until};

const PASSWORD: &str = "a password of the key";

/// A registry, and the environment in which docker's credentials for it are found.
struct Place {
    registry: Registry,
    keys: PathBuf,
}

impl Place {
    fn new() -> Self {
        let registry = Registry::start(&scratch("registry")).unwrap();
        let this = Self { registry, keys: scratch("keys") };
        for name in ["acme", "other"] {
            this.cosign(&["generate-key-pair", "--output-key-prefix", name]).success();
        }
        this
    }

    fn run(&self, mut command: Command) -> Ran {
        command.current_dir(&self.keys).env("DOCKER_CONFIG", &self.registry.directory).env("COSIGN_PASSWORD", PASSWORD);
        command.env("SSL_CERT_FILE", self.registry.ca()).env("COSIGN_YES", "true").env("HOME", &self.keys);
        Ran::new(command.output().unwrap())
    }

    fn cosign(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(testbed::binary("cosign"));
        command.args(args);
        self.run(command)
    }

    fn postern(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(testbed::postern());
        command.args(args);
        if matches!(args.get(1), Some(&"push" | &"pull")) {
            command.arg("--ca-file").arg(self.registry.ca());
        }
        self.run(command)
    }

    fn key(&self, name: &str) -> String {
        self.keys.join(name).display().to_string()
    }

    /// Pushes, and gives back what pins it.
    fn push(&self, policy: &str, repository: &str, more: &[&str]) -> String {
        let (module, to) = (testbed::policy(policy), format!("oci://{}/{repository}", self.registry.host()));
        let pushed = self.postern(&[&["policy", "push", module.to_str().unwrap(), &to], more].concat());
        pushed.success().lines().last().unwrap().to_owned()
    }

    /// A gateway that trusts keys.
    fn gateway(&self, trusted: &str) -> e2e::Setup {
        let guard = format!(", trusted: [{trusted}], registries: {{caFile: '{}'}}", self.registry.ca().display());
        let docker: &'static str = self.registry.directory.display().to_string().leak();
        setup_with(GatewayOptions { guard, environment: vec![("DOCKER_CONFIG", docker)], ..GatewayOptions::default() })
    }
}

fn image(pinned: &str) -> &str {
    pinned.trim_start_matches("oci://")
}

fn drop_in(s: &e2e::Setup, name: &str, text: &str) {
    put(&s.gateway.directory.join(format!("policies.d/{name}.yaml")), text.as_bytes());
}

fn listed(s: &e2e::Setup) -> String {
    let config = s.gateway.directory.join("postern.yaml");
    Ran::new(Gateway::postern(&["policy", "list", "-o", "wide", "--config", config.to_str().unwrap()]).unwrap()).success().to_owned()
}

fn says(s: &e2e::Setup, what: &str) {
    let told = wait_until(what, Duration::from_secs(30), || Ok(listed(s).contains(what)));
    assert!(told.is_ok(), "{what}: {}\n{}", listed(s), s.gateway.log());
}

#[test]
fn what_one_pushes_another_pulls_and_cosign_agrees_either_way() {
    let place = Place::new();
    // Signed here, checked by cosign and by us.
    let pinned = place.push("no-bulk-export", "acme/no-bulk:1.0", &["--sign", &place.key("acme.key")]);
    let verify =
        |pinned: &str, key: &str| place.cosign(&["verify", "--key", &place.key(key), "--insecure-ignore-tlog=true", image(pinned)]);
    verify(&pinned, "acme.pub").success();
    assert!(!verify(&pinned, "other.pub").ok, "another key did not sign it");
    let out = scratch("pulled").join("p.wasm");
    let pull =
        |from: &str, key: &str| place.postern(&["policy", "pull", from, "--key", &place.key(key), "--output", out.to_str().unwrap()]);
    let pulled = pull(&pinned, "acme.pub");
    assert!(pulled.success().contains("signed by that key") && pulled.out.contains("it is no-bulk-export"), "{}", pulled.out);
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(testbed::policy("no-bulk-export")).unwrap());
    assert!(pull(&pinned, "other.pub").failure().contains("carries no signature of"));
    // By tag it is the same.
    pull(&format!("oci://{}/acme/no-bulk:1.0", place.registry.host()), "acme.pub").success();

    // Signed by cosign, in its older form and in its newer, checked by us. A second signature takes the first away from nobody.
    let older = place.push("guard-exec", "acme/guard:1.0", &[]);
    assert!(pull(&older, "acme.pub").failure().contains("carries no signature of"));
    let sign = ["sign", "--key", &place.key("acme.key"), "--tlog-upload=false", "--use-signing-config=false"];
    place.cosign(&[&sign[..], &["--new-bundle-format=false", image(&older)]].concat()).success();
    pull(&older, "acme.pub").success();
    let newer = place.push("guard-proxy", "acme/guard-proxy:1.0", &[]);
    place.cosign(&[&sign[..], &["--new-bundle-format=true", image(&newer)]].concat()).success();
    pull(&newer, "acme.pub").success();
    assert!(!pull(&newer, "other.pub").ok);
    let both = place.push("read-only", "acme/read-only:1.0", &["--sign", &place.key("acme.key")]);
    place.push("read-only", "acme/read-only:1.0", &["--sign", &place.key("other.key")]);
    for key in ["acme.pub", "other.pub"] {
        verify(&both, key).success();
        pull(&both, key).success();
    }

    // What is wrong is told.
    assert!(
        place
            .postern(&[
                "policy",
                "push",
                testbed::policy("misbehaves").to_str().unwrap(),
                &format!("oci://{}/x/y:1", place.registry.host())
            ])
            .failure()
            .contains("does not load")
    );
    let nothing = format!("oci://{}/acme/none:1.0", place.registry.host());
    assert!(place.postern(&["policy", "pull", &nothing]).failure().contains("cannot pull"));
    let mut anonymous = Command::new(testbed::postern());
    anonymous.args(["policy", "pull", &pinned, "--ca-file"]).arg(place.registry.ca()).env("DOCKER_CONFIG", scratch("no-login"));
    assert!(!Ran::new(anonymous.output().unwrap()).ok, "the registry wants a password");
    let mut stranger = Command::new(testbed::postern());
    stranger.args(["policy", "pull", &pinned]).env("DOCKER_CONFIG", &place.registry.directory);
    assert!(Ran::new(stranger.output().unwrap()).failure().contains("--ca-file FILE"), "its CA is not one of this machine's");
    let wrong =
        place.postern(&["policy", "push", testbed::policy("guard-proxy").to_str().unwrap(), &nothing, "--sign", &place.key("acme.pub")]);
    assert!(wrong.failure().contains("PUBLIC KEY is not read"), "{}", wrong.err);
}

#[test]
fn a_gateway_takes_what_is_pinned_and_signed_and_goes_on_without_the_registry() {
    let mut place = Place::new();
    let s =
        place.gateway(&format!("{{name: acme, keyFile: '{}', repositories: ['{}/acme/*']}}", place.key("acme.pub"), place.registry.host()));
    let signed = place.push("no-bulk-export", "acme/no-bulk:1.0", &["--sign", &place.key("acme.key")]);
    drop_in(&s, "50-no-bulk", &format!("source: {signed}\n"));
    says(&s, "acme");
    assert!(s.kubectl(&["get", "secrets", "-A"]).failure().contains("50-no-bulk"));

    // Unsigned, signed by another, signed elsewhere than it may: refused, and the last good one goes on.
    let unsigned = place.push("guard-proxy", "acme/guard-proxy:1.0", &[]);
    let by_other = place.push("guard-tokens", "acme/guard-tokens:1.0", &["--sign", &place.key("other.key")]);
    let elsewhere = place.push("no-bulk-export", "evil/no-bulk:1.0", &["--sign", &place.key("acme.key")]);
    for source in [&unsigned, &by_other, &elsewhere] {
        drop_in(&s, "50-no-bulk", &format!("source: {source}\n"));
        says(&s, "last-good");
        says(&s, "carries no signature of acme");
        assert!(s.kubectl(&["get", "secrets", "-A"]).failure().contains("50-no-bulk"));
        drop_in(&s, "50-no-bulk", &format!("source: {signed}\n"));
        wait_until("it serves again", Duration::from_secs(30), || Ok(!listed(&s).contains("last-good"))).unwrap();
    }
    // One that is signed later is taken then.
    drop_in(&s, "60-late", &format!("source: {unsigned}\nmode: observe\n"));
    says(&s, "60-late does not load");
    let sign = ["sign", "--key", &place.key("acme.key"), "--tlog-upload=false", "--use-signing-config=false", "--new-bundle-format=false"];
    place.cosign(&[&sign[..], &[image(&unsigned)]].concat()).success();
    drop_in(&s, "60-late", &format!("source: {unsigned}\nmode: observe \n"));
    wait_until("it serves", Duration::from_secs(30), || Ok(!listed(&s).contains("does not load"))).unwrap();
    // By tag alone it is not taken: what a tag names changes.
    drop_in(&s, "70-tag", &format!("source: oci://{}/acme/no-bulk:1.0\n", place.registry.host()));
    says(&s, "is not pinned");
    std::fs::remove_file(s.gateway.directory.join("policies.d/70-tag.yaml")).unwrap();
    // A file in the directory is signed by nobody, or by one who may not.
    put(&s.gateway.directory.join("policies.d/80-file.wasm"), &std::fs::read(testbed::policy("freeze")).unwrap());
    says(&s, "it is not signed");
    std::fs::remove_file(s.gateway.directory.join("policies.d/80-file.wasm")).unwrap();

    // Without the registry: what was fetched is there, also after a restart.
    place.registry.stop();
    let config = s.gateway.directory.join("postern.yaml");
    let checked =
        place.postern(&["policy", "lock", s.gateway.directory.join("policies.d").to_str().unwrap(), "--config", config.to_str().unwrap()]);
    assert!(checked.success().contains("pinned 2 policies"), "{}{}", checked.out, checked.err);
    // What is kept and no longer what it was is fetched again, and there is nothing to fetch it from.
    for entry in std::fs::read_dir(s.gateway.directory.join("data/modules")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "wasm") {
            std::fs::write(entry.path(), std::fs::read(testbed::policy("read-only")).unwrap()).unwrap();
        }
    }
    drop_in(&s, "50-no-bulk", &format!("source: {signed}\nmode: enforce\n"));
    says(&s, "last-good");
    assert!(s.kubectl(&["get", "secrets", "-A"]).failure().contains("50-no-bulk"));
}

#[test]
fn a_file_in_the_directory_is_taken_if_it_is_signed() {
    let place = Place::new();
    let s = place.gateway(&format!("{{name: acme, keyFile: '{}'}}", place.key("acme.pub")));
    let module = testbed::policy("no-bulk-export");
    let signature = scratch("signature").join("sig");
    let sign =
        ["sign-blob", "--key", &place.key("acme.key"), "--tlog-upload=false", "--use-signing-config=false", "--new-bundle-format=false"];
    place.cosign(&[&sign[..], &["--output-signature", signature.to_str().unwrap(), module.to_str().unwrap()]].concat()).success();
    let file = |name: &str| s.gateway.directory.join("policies.d").join(name);
    put(&file("50-no-bulk.wasm.sig"), &std::fs::read(&signature).unwrap());
    put(&file("50-no-bulk.wasm"), &std::fs::read(&module).unwrap());
    says(&s, "acme");
    assert!(s.kubectl(&["get", "secrets", "-A"]).failure().contains("50-no-bulk"));
    // Another module under the same signature.
    put(&file("50-no-bulk.wasm"), &std::fs::read(testbed::policy("freeze")).unwrap());
    says(&s, "its signature is not one of acme");
    assert!(s.kubectl(&["get", "secrets", "-A"]).failure().contains("50-no-bulk"), "the last good one goes on");
}

#[test]
fn two_gateways_that_run_the_same_show_the_same_and_a_lock_holds_it() {
    let policies =
        || vec![("20-mask", "mask-secrets", "settings: {helmGroups: [x]}\n".to_owned()), ("50-no-bulk", "no-bulk-export", String::new())];
    let (a, b) = (e2e::setup(policies(), ""), e2e::setup(policies(), ""));
    let bundle = |s: &e2e::Setup| listed(s).lines().next().unwrap().split("all together ").nth(1).unwrap().to_owned();
    assert_eq!(bundle(&a), bundle(&b));
    let directory = a.gateway.directory.join("policies.d");
    let lock = |more: &[&str]| Ran::new(Gateway::postern(&[&["policy", "lock", directory.to_str().unwrap()], more].concat()).unwrap());
    assert!(lock(&["--check"]).failure().contains("postern.lock is not there"));
    assert!(lock(&[]).success().contains(&format!("pinned 2 policies in {}: {}", directory.join("postern.lock").display(), bundle(&a))));
    assert!(lock(&["--check"]).success().contains(&bundle(&a)));
    // A change that the lock does not know is not taken; nor is one more, nor one less.
    let still = |s: &e2e::Setup| s.kubectl(&["get", "secrets", "-A"]).failure().contains("50-no-bulk");
    put(&directory.join("50-no-bulk.yaml"), b"settings: {exemptGroups: ['postern:caller']}\n");
    says(&a, "postern.lock pins");
    assert!(still(&a));
    put(&directory.join("60-more.wasm"), &std::fs::read(testbed::policy("freeze")).unwrap());
    says(&a, "postern.lock does not name it");
    std::fs::remove_file(directory.join("50-no-bulk.wasm")).unwrap();
    says(&a, "its settings are there, and its module");
    assert!(still(&a));
    assert!(!lock(&["--check"]).ok);
    assert!(
        std::fs::read_to_string(directory.join("postern.lock")).unwrap().contains("name: 50-no-bulk"),
        "a lock that cannot be made leaves the old one"
    );
    // By hand it is not changed.
    let text = std::fs::read_to_string(directory.join("postern.lock")).unwrap();
    put(&directory.join("postern.lock"), text.replace("20-mask", "21-mask").as_bytes());
    says(&a, "changed by hand");
    assert!(still(&a));
}

/// A server that counts who comes, and hands a file to everybody.
fn elsewhere(file: Vec<u8>) -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, came) = (listener.local_addr().unwrap().port(), std::sync::Arc::<std::sync::atomic::AtomicUsize>::default());
    let counted = std::sync::Arc::clone(&came);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let Ok(mut connection) = connection else { continue };
            let _ = connection.read(&mut [0; 4096]);
            let _ = write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.len());
            let _ = connection.write_all(&file);
        }
    });
    (port, came)
}

#[test]
fn a_manifest_sends_nobody_elsewhere() {
    const BASIC: &str = "dXNlcjpwYXNzd29yZC1vZi10aGUtcmVnaXN0cnk=";
    let place = Place::new();
    let pinned = place.push("no-bulk-export", "acme/no-bulk:1.0", &[]);
    let module = std::fs::read(testbed::policy("no-bulk-export")).unwrap();
    let (port, came) = elsewhere(module);
    let ask = |method: &str, path: &str, media_type: &str, body: &str| {
        let head = format!(
            "Host: {}\r\nAuthorization: Basic {BASIC}\r\nConnection: close\r\nAccept: {media_type}\r\nContent-Type: {media_type}",
            place.registry.host()
        );
        let request = format!("{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        e2e::raw_at(&place.registry.host(), &place.registry.ca(), &request)
    };
    // The manifest as it is, but that its layer may be had somewhere else too; and then the registry has the layer no more.
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let answer = ask("GET", "/v2/acme/no-bulk/manifests/1.0", MANIFEST, "");
    let mut manifest: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    manifest["layers"][0]["urls"] = serde_json::json!([format!("http://127.0.0.1:{port}/module.wasm")]);
    let put = ask("PUT", "/v2/acme/no-bulk/manifests/2.0", MANIFEST, &manifest.to_string());
    assert_eq!(e2e::code(&put), 201, "{put}");
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    std::fs::remove_file(place.registry.directory.join(format!("data/docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2])))
        .unwrap();
    let out = scratch("pulled").join("p.wasm");
    for tag in [format!("oci://{}/acme/no-bulk:2.0", place.registry.host()), pinned] {
        let pulled = place.postern(&["policy", "pull", &tag, "--output", out.to_str().unwrap()]);
        assert!(pulled.failure().contains("cannot pull sha256:") && !out.exists(), "{}", pulled.err);
    }
    assert_eq!(came.load(std::sync::atomic::Ordering::SeqCst), 0, "nobody came elsewhere");
}
