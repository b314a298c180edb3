//! Builds everything into the cache outside the clone, with a line of progress while it lasts.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use testbed::cache;

use crate::clients;

const KUBERNETES: &str = "1.37.2";
/// The pack, one that tests the sandbox, and one that tests what is answered.
const POLICIES: [&str; 19] = [
    "approve-deletes",
    "asks",
    "cel-rules",
    "exfiltration-budget",
    "freeze",
    "guard-exec",
    "guard-proxy",
    "guard-rbac",
    "guard-secret-refs",
    "guard-tokens",
    "image-allow-list",
    "mask-env",
    "mask-patterns",
    "mask-secrets",
    "misbehaves",
    "no-bulk-export",
    "no-latest-tag",
    "read-only",
    "rego-rules",
];
/// Policies of the pack in other languages, and which.
const FOREIGN: [(&str, &str); 5] =
    [("require-reason", "js"), ("time-window", "python"), ("rate-limit", "c"), ("namespace-fence", "zig"), ("naming", "go")];
const WASM: &str = "wasm32-unknown-unknown";

/// The repository: the one whose `cargo xtask` this is, which need not be the one it was compiled in.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    std::env::var_os("POSTERN_ROOT").map_or_else(|| manifest.join("../.."), PathBuf::from)
}

/// Builds what the tests and the demo need. One at a time: two runs side by side wait for each other here.
pub(crate) fn everything() -> anyhow::Result<()> {
    std::fs::create_dir_all(cache().join("bin"))?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(cache().join("build.lock"))?;
    lock.lock()?;
    forget_another_clone()?;
    require("go", "install Go 1.26 from https://go.dev/dl/")?;
    require("node", "install Node.js 20 or newer from https://nodejs.org")?;
    require("python3", "install Python 3.10 or newer from https://python.org")?;
    require("setpriv", "apt-get install util-linux")?;
    require("openssl", "apt-get install openssl")?;
    debian("docker-registry", "an OCI registry", || testbed::docker_registry().is_some())?;
    go("etcd", "etcd", "go.etcd.io/etcd/server/v3", "-s -w")?;
    go("kubernetes", "kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", &of_version(KUBERNETES))?;
    go("kubernetes", "kubectl", "k8s.io/kubernetes/cmd/kubectl", &of_version(KUBERNETES))?;
    go("helm", "helm", "helm.sh/helm/v4/cmd/helm", "-s -w")?;
    go("kubernetes", "testbed-node", "./node", "-s -w")?;
    go("kubernetes", "requestinfo", "./requestinfo", "-s -w")?;
    go("kubernetes", "protobuf", "./protobuf", "-s -w")?;
    go("kubernetes", "bodies", "./bodies", "-s -w")?;
    go("kubernetes", "between", "./between", "-s -w")?;
    go("kubernetes", "frames", "./frames", "-s -w")?;
    go("kubernetes", "informer", "./informer", "-s -w")?;
    let mut gateway = cargo();
    // Together with the tests: apart, their dependencies differ by a feature, and the gateway would be built twice.
    gateway.args(["build", "--release", "--locked", "-p", "postern-host", "-p", "e2e"]);
    step("the gateway", gateway)?;
    policies()?;
    clients::node()?;
    FOREIGN.into_iter().try_for_each(|(name, language)| foreign(name, language))
}

/// Has what another clone built of its own sources built again. Cargo tells them apart by nothing but the time they were changed: what an older clone
/// holds would pass for built. Dependencies stay.
pub(crate) fn forget_another_clone() -> anyhow::Result<()> {
    let here = root().canonicalize()?;
    for (name, what) in [("target", &["--release"][..]), ("wasm", &["--profile", "policy", "--target", WASM])] {
        let (target, stamp) = (cache().join(name), cache().join(name).join(".built-in"));
        let known = std::fs::read(&stamp).ok();
        if known.as_deref() == Some(here.as_os_str().as_encoded_bytes()) {
            continue;
        }
        if target.exists() {
            let cleaned = cargo().env("CARGO_TARGET_DIR", &target).args(["clean", "--workspace"]).args(what).status()?;
            if !cleaned.success() {
                bail!("what another clone built cannot be removed from {}", target.display());
            }
        }
        std::fs::create_dir_all(&target)?;
        std::fs::write(&stamp, here.as_os_str().as_encoded_bytes())?;
    }
    Ok(())
}

/// Builds a policy of another language as its author would: in a folder that `postern policy new` makes, with `postern policy build`.
fn foreign(name: &str, language: &str) -> anyhow::Result<()> {
    let (source, postern) = (root().join("policies").join(name), cache().join("target/release/postern"));
    let made = cache().join("made");
    // What the template has by now, laid over the folder that was built before: what it has installed stays.
    if made.exists() {
        std::fs::remove_dir_all(&made)?;
    }
    std::fs::create_dir_all(&made)?;
    let new = Command::new(&postern).args(["policy", "new", name, "--lang", language, "--directory"]).arg(&made).output()?;
    if !new.status.success() {
        bail!("postern policy new {name}: {}", String::from_utf8_lossy(&new.stderr));
    }
    let folder = cache().join("foreign").join(name);
    let mut inputs = copied(&made.join(name), &folder)?;
    inputs.extend(copied(&source, &folder)?);
    // And how it is built.
    inputs.extend(std::fs::read(root().join("host/src/cli/policy/build.rs"))?);
    let (stamp, module) = (folder.join(".built-from"), cache().join("policies").join(format!("{name}.wasm")));
    if module.exists() && std::fs::read(&stamp).is_ok_and(|known| known == inputs) {
        return Ok(());
    }
    let mut build = Command::new(&postern);
    build.args(["policy", "build"]).arg(&folder).env("POSTERN_TOOLS", cache().join("tools/languages"));
    step(name, build)?;
    std::fs::copy(folder.join(format!("{name}.wasm")), &module)?;
    Ok(std::fs::write(stamp, inputs)?)
}

/// Copies a folder's files; gives back all that was in them.
pub(crate) fn copied(from: &Path, to: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::create_dir_all(to)?;
    let mut entries: Vec<PathBuf> = std::fs::read_dir(from)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let mut all = Vec::new();
    for entry in entries {
        let at = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            all.extend(copied(&entry, &at)?);
            continue;
        }
        let bytes = std::fs::read(&entry)?;
        std::fs::write(at, &bytes)?;
        all.extend(bytes);
    }
    Ok(all)
}

/// What only the tests need: an S3 server, and clients of other versions and languages, which must not notice the gateway either.
fn for_the_tests() -> anyhow::Result<()> {
    go("versitygw", "versitygw", "github.com/versity/versitygw/cmd/versitygw", "-s -w")?;
    go("otelcol", "otelcol", "./collector", "-s -w")?;
    go("cosign", "cosign", "github.com/sigstore/cosign/v3/cmd/cosign", "-s -w")?;
    go("helm3", "helm3", "helm.sh/helm/v3/cmd/helm", "-s -w")?;
    let mut kube_rs = cargo();
    kube_rs.args(["build", "--release", "--locked", "-p", "kube-rs"]);
    step("a client of kube-rs", kube_rs)?;
    go("stern", "stern", "github.com/stern/stern", "-s -w")?;
    go("k9s", "k9s", "github.com/derailed/k9s", "-s -w")?;
    clients::python()?;
    clients::java()?;
    ["kubectl-1.28", "kubectl-1.30", "kubectl-1.32", "kubectl-1.34"]
        .into_iter()
        .try_for_each(|kubectl| go(kubectl, kubectl, "./.", "-s -w"))
}

/// Each end-to-end test starts a gateway of its own: four at a time are what two cores bear.
const END_TO_END: [&str; 6] = ["--package", "e2e", "--test", "gateway", "--", "--test-threads=4"];

/// Runs every test of the workspace.
pub(crate) fn run_tests() -> anyhow::Result<()> {
    for_the_tests()?;
    let parts = [
        // Some have other features of the same crates: together with them all would be built a second time.
        &[
            "--workspace",
            "--exclude",
            "e2e",
            "--exclude",
            "kube-rs",
            "--exclude",
            "cel-rules",
            "--exclude",
            "rego-rules",
            "--exclude",
            "xtask",
        ][..],
        &["--package", "cel-rules", "--package", "rego-rules", "--package", "xtask"],
        // It says how many requests it compared.
        &[
            "--package",
            "e2e",
            "--test",
            "allocations",
            "--test",
            "requestinfo",
            "--test",
            "bodies",
            "--test",
            "protobuf",
            "--test",
            "frames",
            "--",
            "--nocapture",
        ],
        &END_TO_END,
    ];
    parts.into_iter().try_for_each(|part| run_part(part, cargo()))?;
    crate::fuzz::run(&[], 5, false)
}

/// Runs end-to-end tests, all unless some are named, with another build of the gateway.
pub(crate) fn run_end_to_end(program: &Path, tests: &[&str], environment: &[(&str, PathBuf)]) -> anyhow::Result<()> {
    let program = program.canonicalize().with_context(|| format!("there is no program {}", program.display()))?;
    for_the_tests()?;
    let mut cargo = cargo();
    cargo.env("POSTERN_PROGRAM", program).envs(environment.iter().map(|(name, value)| (name, value)));
    run_part(&[&END_TO_END, tests].concat(), cargo)
}

/// Runs end-to-end tests against an older API server.
pub(crate) fn run_against(version: &str, tests: &[&str]) -> anyhow::Result<()> {
    let name = format!("kube-apiserver-{version}");
    let patch = match version {
        "1.34" => "1.34.4",
        _ => "1.36.3",
    };
    let flags = of_version(patch);
    go(&name, &name, "k8s.io/kubernetes/cmd/kube-apiserver", &flags)?;
    for_the_tests()?;
    let mut cargo = cargo();
    cargo.env("POSTERN_KUBERNETES", version);
    run_part(&[&END_TO_END, tests].concat(), cargo)
}

/// What a build of Kubernetes is told of its own version, which it does not know otherwise.
fn of_version(version: &str) -> String {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    ["-s -w".to_owned(), set("gitVersion", &format!("v{version}")), set("gitMajor", "1"), set("gitMinor", minor)].join(" ")
}

fn run_part(part: &[&str], mut cargo: Command) -> anyhow::Result<()> {
    if !cargo.args(["test", "--release", "--locked"]).args(part).status()?.success() {
        bail!("tests failed: cargo test {}", part.join(" "));
    }
    Ok(())
}

/// Builds and runs the bench, with nginx to compare with.
pub(crate) fn run_bench(arguments: &[String], environment: &[(&str, PathBuf)]) -> anyhow::Result<()> {
    debian("nginx", "which the bench compares with,", || testbed::nginx().is_some())?;
    go("otelcol", "otelcol", "./collector", "-s -w")?;
    let mut bench = cargo();
    bench.args(["build", "--release", "--locked", "-p", "bench"]);
    step("the bench", bench)?;
    // A watch is two connections of a proxy, and a soft limit of 1,024 files is still common.
    let mut run = Command::new("sh");
    run.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "bench"]).arg(cache().join("target/release/bench")).args(arguments);
    run.envs(environment.iter().map(|(name, value)| (name, value)));
    if !run.status()?.success() {
        bail!("the bench failed");
    }
    Ok(())
}

/// A server from Debian's package where there is none. It is only unpacked: installed, it would start to serve.
fn debian(package: &str, what: &str, is_there: impl Fn() -> bool) -> anyhow::Result<()> {
    if is_there() {
        return Ok(());
    }
    let place = cache().join(package);
    std::fs::create_dir_all(&place)?;
    let mut apt = Command::new("sh");
    let get =
        format!("(apt-get -q download {package} || (apt-get -q update && apt-get -q download {package})) && dpkg -x {package}_*.deb .");
    apt.current_dir(&place).args(["-c", &get]);
    if step(&format!("{package} (Debian package)"), apt).is_err() || !is_there() {
        bail!("{package}, {what}, is needed and not installed: apt-get install {package}");
    }
    Ok(())
}

pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).env("CARGO_TARGET_DIR", cache().join("target"));
    command
}

/// Builds a Go program unless it was built from the same module before.
pub(crate) fn go(module: &str, name: &str, package: &str, flags: &str) -> anyhow::Result<()> {
    let directory = root().join("tests/go").join(module);
    let mut inputs = std::fs::read_to_string(directory.join("go.mod"))? + flags;
    if let Some(local) = package.strip_prefix("./") {
        let mut files = std::fs::read_dir(directory.join(local))?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        files.sort();
        for file in files {
            inputs += &std::fs::read_to_string(file)?;
        }
    }
    let (binary, stamp) = (cache().join("bin").join(name), cache().join("bin").join(format!("{name}.from")));
    if binary.exists() && std::fs::read_to_string(&stamp).is_ok_and(|s| s == inputs) {
        return Ok(());
    }
    let mut command = Command::new("go");
    command.current_dir(directory).env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false -mod=readonly");
    command.args(["build", "-ldflags", flags, "-o"]).arg(&binary).arg(package);
    step(name, command)?;
    Ok(std::fs::write(stamp, inputs)?)
}

/// Builds the policies that ship, for WebAssembly.
fn policies() -> anyhow::Result<()> {
    let mut command = wasm_cargo()?;
    command.current_dir(root()).env("CARGO_TARGET_DIR", cache().join("wasm"));
    command.args(["build", "--locked", "--profile", "policy", "--target", WASM]);
    for policy in POLICIES {
        command.args(["-p", policy]);
    }
    step("the policies", command)?;
    std::fs::create_dir_all(cache().join("policies"))?;
    for policy in POLICIES {
        let built = cache().join("wasm").join(WASM).join("policy").join(format!("{}.wasm", policy.replace('-', "_")));
        std::fs::copy(built, cache().join("policies").join(format!("{policy}.wasm")))?;
    }
    Ok(())
}

/// A cargo that can build for wasm32: rustup's, or Debian's packages where rustup cannot download.
fn wasm_cargo() -> anyhow::Result<Command> {
    let installed = || -> bool {
        let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
        sysroot.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).join("lib/rustlib").join(WASM).exists())
    };
    if installed()
        || Command::new("rustup").args(["target", "add", WASM]).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) && installed()
    {
        return Ok(cargo());
    }
    let debian = ["/usr/bin/cargo", "/usr/bin/rustc", "/usr/bin/wasm-ld-19"];
    let complete = || debian.iter().all(|file| Path::new(file).exists());
    if !complete() {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "-y", "-q", "rustc-web", "cargo-web", "rust-web-src", "lld-19"]).env("DEBIAN_FRONTEND", "noninteractive");
        let _ = step("Rust for WebAssembly (Debian packages)", apt);
    }
    if !complete() {
        bail!(
            "the policies need Rust's {WASM} target: run `rustup target add {WASM}`, or as root `apt-get install rustc-web cargo-web rust-web-src lld-19`"
        );
    }
    let mut command = Command::new("/usr/bin/cargo");
    command
        .env("PATH", format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default()))
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-19")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .arg("-Zbuild-std=std,panic_abort");
    // Cargo takes -Z anywhere, but the subcommand must come first for older ones.
    Ok(command)
}

/// Runs one step of the build; its output goes to a log, and a line says how long it has taken.
pub(crate) fn step(what: &str, mut command: Command) -> anyhow::Result<()> {
    let log = cache().join("build.log");
    let out = File::create(&log)?;
    let mut child =
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn().with_context(|| format!("cannot build {what}"))?;
    let start = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let mut told = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let elapsed = start.elapsed();
        if elapsed - told >= Duration::from_secs(if terminal { 1 } else { 15 }) {
            told = elapsed;
            if terminal {
                eprint!("\r  building {what} ... {} s ", elapsed.as_secs());
            } else {
                eprintln!("  building {what} ... {} s", elapsed.as_secs());
            }
            let _ = std::io::stderr().flush();
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if terminal && told > Duration::ZERO {
        eprintln!("\r  built {what} in {} s          ", start.elapsed().as_secs());
    }
    if !status.success() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(30).collect();
        bail!("building {what} failed:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

pub(crate) fn require(program: &str, how: &str) -> anyhow::Result<()> {
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()));
    if !found {
        bail!("{program} is needed and not there: {how}");
    }
    Ok(())
}
