//! Scenes of the demo: a policy is tried on what was done, and one is shared, signed.

use std::time::Duration;

use testbed::wait_until;

use crate::demo::Bed;
use crate::play::Play;

/// A stricter version of a policy is laid over what was recorded.
pub(crate) fn a_policy_is_tried_on_what_was_done(bed: &Bed, play: &mut Play) -> anyhow::Result<()> {
    play.scene("What would a stricter policy have changed? It is tried on what was recorded");
    std::fs::copy(testbed::policy("no-bulk-export"), bed.gateway.directory.join("50-no-bulk-export.wasm"))?;
    std::fs::write(bed.gateway.directory.join("50-no-bulk-export.yaml"), "settings: {resources: [secrets, pods], names: [db]}\n")?;
    println!("   $ cat 50-no-bulk-export.yaml\n     settings: {{resources: [secrets, pods], names: [db]}}");
    let replayed = play.run("postern", &["policy", "replay", "50-no-bulk-export.wasm", "--from", "1h", "--data-directory", "data"])?;
    play.because(
        replayed.ok && replayed.text.contains("allow -> block") && replayed.text.contains("named db are not given out"),
        "what would have been refused, by whom, and why, before it guards anything",
    );
    Ok(())
}

/// A policy from elsewhere is pinned by digest and known by its signature.
pub(crate) fn a_signed_policy_is_pulled(bed: &Bed, play: &mut Play) -> anyhow::Result<()> {
    play.scene("A policy of another organisation is pulled from a registry, and its signature checked");
    for (key, public) in [("acme.key", "acme.pub"), ("other.key", "other.pub")] {
        play.command("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key]).output()?;
        play.command("openssl", &["pkey", "-in", key, "-pubout", "-out", public]).output()?;
    }
    let (registry, ca) = (bed.registry.host(), bed.registry.ca().display().to_string());
    std::fs::copy(testbed::policy("no-latest-tag"), bed.gateway.directory.join("no-latest-tag.wasm"))?;
    let to = format!("oci://{registry}/acme/no-latest-tag:0.1.0");
    let docker = bed.registry.directory.clone();
    let run = |play: &mut Play, args: &[&str]| -> anyhow::Result<_> {
        play.show("postern", args);
        let output = play.command("postern", &[args, &["--ca-file", &ca]].concat()).env("DOCKER_CONFIG", &docker).output()?;
        Ok(play.printed(&output))
    };
    let pushed = run(play, &["policy", "push", "no-latest-tag.wasm", &to, "--sign", "acme.key"])?;
    let pinned = pushed.text.lines().last().unwrap_or_default().to_owned();
    let wrong = run(play, &["policy", "pull", &pinned, "--key", "other.pub"])?;
    let pulled = run(play, &["policy", "pull", &pinned, "--key", "acme.pub"])?;
    play.because(pushed.ok && !wrong.ok && pulled.ok, "pinned by digest, signed as cosign signs; another key did not sign it");
    let file = bed.gateway.directory.join("policies.d/70-no-latest-tag.yaml");
    println!("   $ echo 'source: {pinned}' > policies.d/70-no-latest-tag.yaml");
    std::fs::write(&file, format!("source: {pinned}\n"))?;
    let run_latest = ["--kubeconfig", "caller.kubeconfig", "run", "latest", "--image=nginx", "--dry-run=server"];
    let refused = wait_until("the policy is in force", Duration::from_secs(30), || {
        Ok(!play.command("kubectl", &run_latest).output()?.status.success())
    });
    let shown = play.run("kubectl", &run_latest)?;
    play.because(
        refused.is_ok() && shown.text.contains("70-no-latest-tag"),
        "the gateway fetched it, and keeps it: it starts without the registry",
    );
    Ok(())
}
