//! Scenes of the demo: what containers write, what is recorded, and what is written back.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use testbed::wait_until;

use crate::demo::Bed;
use crate::play::Play;

/// A masked Secret is edited and stays what it is.
pub(crate) fn a_masked_secret_is_edited(bed: &Bed, play: &mut Play) -> anyhow::Result<()> {
    play.scene("A masked Secret is edited without harm");
    let edit = ["--kubeconfig", "caller.kubeconfig", "edit", "secret", "db"];
    println!("   $ KUBE_EDITOR=\"sed -i 's/^type:/immutable: false\\ntype:/'\" kubectl {}", edit.join(" "));
    let edited = play.command("kubectl", &edit).env("KUBE_EDITOR", "sed -i 's/^type:/immutable: false\\ntype:/'").output()?;
    let edited = play.printed(&edited);
    let show = ["get", "secret", "db", "-o", "jsonpath={.data.password} {.immutable}"];
    let admin = bed.cluster.admin_kubeconfig();
    play.show("kubectl", &[&["--kubeconfig", "(the administrator's, without the gateway)"][..], &show].concat());
    let stored = play.command("kubectl", &[&["--kubeconfig", admin.to_str().unwrap_or_default()][..], &show].concat()).output()?;
    let stored = play.printed(&stored);
    play.because(
        edited.ok && stored.text.trim() == "aHVudGVyMi1pcy1zZWNyZXQ= false",
        "what was hidden from the editor is put right on its way back: the cluster still has the password",
    );
    Ok(())
}

/// The environment of a container holds a password, and it does not show.
pub(crate) fn a_password_never_shows(play: &mut Play) -> anyhow::Result<()> {
    play.scene("A container's environment holds a password, and it never shows");
    let env = play.run("kubectl", &["--kubeconfig", "caller.kubeconfig", "exec", "app", "--", "env"])?;
    let words = ["--kubeconfig", "caller.kubeconfig", "exec", "app", "--", "base64", "/proc/self/environ"];
    let hidden = env.ok && env.text.contains("PASSWORD=postern-masked") && !env.text.contains("hunter2");
    let raw = play.run("kubectl", &words)?;
    play.because(
        hidden && !raw.text.contains("hunter2"),
        "mask-secrets knows the Secrets the pod uses and hides their values in all its containers write, as they are and in base64",
    );
    Ok(())
}

/// What a credential did is listed, shown and played.
pub(crate) fn a_session_is_replayed(play: &mut Play) -> anyhow::Result<()> {
    play.scene("What that credential did is one session, and it plays again");
    let words = ["session", "--data-directory", "data"];
    let (mut id, mut listed) = (String::new(), String::new());
    wait_until("the session is listed", Duration::from_secs(20), || {
        let list = play.command("postern", &[&words[..], &["list", "--json", "--resource", "pods/exec"]].concat()).output()?;
        listed = String::from_utf8(list.stdout)?;
        let first: Option<Value> = listed.lines().next().and_then(|line| serde_json::from_str(line).ok());
        id = first.and_then(|session| Some(session["id"].as_str()?.to_owned())).unwrap_or_default();
        Ok(!id.is_empty())
    })?;
    play.run("postern", &[&words[..], &["list", "--resource", "pods/exec"]].concat())?;
    let mut shown = String::new();
    wait_until("the exec is recorded whole", Duration::from_secs(20), || {
        let show = play.command("postern", &[&words[..], &["show", &id]].concat()).output()?;
        shown = String::from_utf8(show.stdout)?;
        Ok(shown.lines().any(|line| line.contains("-- env") && line.contains("exit code 0")))
    })?;
    play.run("postern", &[&words[..], &["show", &id]].concat())?;
    let line = shown.lines().find(|line| line.contains("-- env")).context("the exec is in the session")?;
    let stream = line.rsplit("  ").next().unwrap_or_default().trim().to_owned();
    let played = play.run("postern", &[&words[..], &["replay", &stream, "--idle-limit", "1"]].concat())?;
    let verified = play.run("postern", &[&words[..], &["verify"]].concat())?;
    play.because(
        played.ok && played.text.contains("PASSWORD=postern-masked") && verified.ok,
        "recorded after masking, hash-chained and signed: a changed byte would be found",
    );
    Ok(())
}
