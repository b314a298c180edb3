//! Recordings in a real S3 server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Setup, cluster, scratch, setup_with};
use testbed::{Gateway, GatewayOptions, S3, wait_until};

fn options(s3: &S3, further: &str) -> GatewayOptions {
    let config = format!("sessions: {{objectStore: {{{}{further}}}}}\n", s3.config());
    GatewayOptions { config, environment: s3.environment(), ..GatewayOptions::default() }
}

/// The recordings of streams below a directory.
fn streams(directory: &Path) -> Vec<PathBuf> {
    let within =
        |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut found: Vec<_> =
        within(directory).iter().flat_map(|session| within(session)).filter(|f| f.to_string_lossy().ends_with(".stream")).collect();
    found.sort();
    found
}

fn on_disk(s: &Setup) -> Vec<PathBuf> {
    streams(&s.gateway.directory.join("data/sessions"))
}

fn stored(s3: &S3) -> Vec<PathBuf> {
    streams(&s3.bucket().join("of/testbed"))
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    wait_until(what, Duration::from_secs(45), || Ok(holds())).unwrap();
}

/// `SESSION/STREAM` of a recording's file.
fn name(file: &Path) -> String {
    let session = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    format!("{session}/{}", file.file_stem().unwrap().to_string_lossy())
}

#[test]
fn recordings_go_to_the_object_store_and_play_from_there() {
    let mut s3 = S3::start(&scratch("s3")).unwrap();
    let s = setup_with(options(&s3, ""));
    s.kubectl(&["exec", "web", "--", "sh", "-c", "echo small; exit 0"]).success();
    // More than one part of S3's.
    let large = "head -c 20000000 /dev/zero | tr '\\0' y; echo the-end";
    assert_eq!(s.kubectl(&["exec", "web", "--", "sh", "-c", large]).success().len(), 20_000_008);
    wait_for("both are stored and gone from the disk", || stored(&s3).len() == 2 && on_disk(&s).is_empty());
    let files = stored(&s3);
    let (small, large) = (name(&files[0]), name(&files[1]));
    let id = small.split('/').next().unwrap();

    wait_for("the index knows them", || s.session(&["list", "--json"]).out.contains("\"streams\":2"));
    assert!(s.session(&["list", "--text", "the-end"]).success().contains(id));
    let shown = s.session(&["show", id]).success().to_owned();
    assert!(shown.contains(&small) && shown.contains(&large) && shown.contains("(exit code 0)"), "{shown}");
    assert_eq!(s.session(&["replay", &small]).success(), "small\n");
    assert!(s.session(&["replay", &large, "--speed", "100"]).success().ends_with("ythe-end\n"));
    assert!(s.session(&["search", "the-end"]).success().contains(&large));
    assert!(s.session(&["export", &small]).success().contains("small\\r\\n"));
    let whole = s.session(&["verify"]);
    assert!(whole.success().contains("are whole and signed"), "{}", whole.out);

    // Calls follow when their segment is sealed, at the latest when the gateway stops.
    let mut s = s;
    s.gateway.process.terminate(Duration::from_secs(30)).unwrap();
    assert!(std::fs::read_dir(s.gateway.directory.join("data/sessions")).unwrap().next().is_none(), "the disk holds nothing any more");
    assert!(s.session(&["show", id]).success().contains(&large));

    // What somebody changes or removes in the bucket is found.
    let mut bytes = std::fs::read(&files[0]).unwrap();
    let at = bytes.windows(6).rposition(|w| w == b"small\n").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    assert!(s.session(&["verify", id]).failure().contains("do not give their hash"));
    std::fs::remove_file(&files[1]).unwrap();
    assert!(s.session(&["verify", id]).failure().contains("1 of its 2 streams are gone"));
    s3.stop();
    assert!(s.session(&["show", id]).failure().contains("the object store (sessions.objectStore) does not answer"));
}

#[test]
fn a_store_that_is_gone_loses_nothing() {
    let mut s3 = S3::start(&scratch("s3")).unwrap();
    let mut s = setup_with(options(&s3, ""));
    s3.stop();
    assert_eq!(s.kubectl(&["exec", "web", "--", "echo", "while it is gone"]).success(), "while it is gone\n");
    wait_for("it waits on the disk", || on_disk(&s).len() == 1);
    wait_for("the log says so", || s.gateway.log().contains("recordings stay on the disk"));
    let recording = name(&on_disk(&s)[0]);
    assert!(Command::new("kill").args(["-9", &s.gateway.process.id().to_string()]).status().unwrap().success());
    let directory = s.gateway.directory.clone();
    s.gateway = Gateway::start(cluster(), &directory, &options(&s3, "")).unwrap();
    s3.resume().unwrap();
    wait_for("it is stored", || stored(&s3).len() == 1 && on_disk(&s).is_empty());
    assert_eq!(s.session(&["replay", &recording]).success(), "while it is gone\n");
    s.session(&["verify"]).success();
    assert!(!s.gateway.log().contains("testbed-secret-access-key"));
}

#[test]
fn what_waits_for_the_store_is_bounded() {
    let mut s3 = S3::start(&scratch("s3")).unwrap();
    s3.stop();
    let s = setup_with(options(&s3, ", largestSpool: 100"));
    s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
    wait_for("it waits on the disk", || on_disk(&s).len() == 1);
    let refused = s.kubectl(&["exec", "web", "--", "echo", "hello"]);
    assert!(refused.failure().contains("wait for the object store") && refused.out.is_empty(), "{}", refused.err);
    assert!(refused.err.contains("largestSpool"), "{}", refused.err);
    wait_for("the log says so", || s.gateway.log().contains("recordings stay on the disk"));
    s3.resume().unwrap();
    wait_for("it is stored", || on_disk(&s).is_empty());
    wait_for("the log says that it is back", || s.gateway.log().contains("the object store takes recordings again"));
    s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
}

#[test]
fn nothing_in_the_bucket_is_written_over() {
    let s3 = S3::start(&scratch("s3")).unwrap();
    let mut s = setup_with(options(&s3, ""));
    for _ in 0..2 {
        s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
    }
    wait_for("both are stored", || stored(&s3).len() == 2 && on_disk(&s).is_empty());
    s.gateway.process.terminate(Duration::from_secs(30)).unwrap();
    // One was sent, and the gateway before did not hear of it; the names of the others are taken by something else.
    let directory = s.gateway.directory.clone();
    let files = stored(&s3);
    let whole = std::fs::read(&files[1]).unwrap();
    let here = directory.join("data/sessions").join(files[0].parent().unwrap().file_name().unwrap());
    std::fs::create_dir_all(&here).unwrap();
    std::fs::copy(&files[0], here.join(files[0].file_name().unwrap())).unwrap();
    std::fs::write(here.join(files[1].file_name().unwrap()), &whole[..whole.len() - 1]).unwrap();
    s.gateway = Gateway::start(cluster(), &directory, &options(&s3, "")).unwrap();
    wait_for("the log names the other", || s.gateway.log().contains("the bucket holds another recording"));
    wait_for("the one that is stored leaves the disk", || on_disk(&s).len() == 1);
    assert_eq!(std::fs::read(&files[1]).unwrap(), whole);
    assert_eq!(on_disk(&s)[0].file_name(), files[1].file_name(), "nothing is lost");
}

#[test]
fn a_credential_the_store_does_not_take_is_named_and_nothing_is_lost() {
    let s3 = S3::start(&scratch("s3")).unwrap();
    let wrong = vec![("AWS_ACCESS_KEY_ID", "testbed"), ("AWS_SECRET_ACCESS_KEY", "not-the-secret")];
    let s = setup_with(GatewayOptions { environment: wrong, ..options(&s3, "") });
    s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
    wait_for("the log says why", || s.gateway.log().contains("recordings stay on the disk"));
    let log = s.gateway.log();
    assert!(log.contains("SignatureDoesNotMatch") && !log.contains("not-the-secret"), "{log}");
    assert_eq!((on_disk(&s).len(), stored(&s3).len()), (1, 0));
}

/// More recordings whose place is taken than a store may refuse in a row: that is not the store's trouble, and the next one goes.
#[test]
fn recordings_whose_place_is_taken_do_not_hold_up_others() {
    const TAKEN: usize = 12;
    let s3 = S3::start(&scratch("s3")).unwrap();
    let mut s = setup_with(options(&s3, ""));
    for _ in 0..TAKEN {
        s.kubectl(&["exec", "web", "--", "true"]).success();
    }
    wait_for("all are stored", || stored(&s3).len() == TAKEN && on_disk(&s).is_empty());
    s.gateway.process.terminate(Duration::from_secs(30)).unwrap();
    let directory = s.gateway.directory.clone();
    for file in stored(&s3) {
        let here = directory.join("data/sessions").join(file.parent().unwrap().file_name().unwrap());
        std::fs::create_dir_all(&here).unwrap();
        std::fs::write(here.join(file.file_name().unwrap()), b"POSTERN-SESSION 1\n").unwrap();
    }
    s.gateway = Gateway::start(cluster(), &directory, &options(&s3, "")).unwrap();
    s.caller = s.gateway.kubeconfig("again", &s.token).unwrap();
    s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
    wait_for("the new one is stored", || stored(&s3).len() == TAKEN + 1);
    wait_for("the new one left the disk", || on_disk(&s).len() == TAKEN);
}
