use super::*;
use std::sync::Arc;

use crate::identify::Caller;
use crate::mask::{Literals, Scope, TextRules, TokenKey, Transform};
use crate::record::Inbox;
use crate::record::session::Sessions;
use crate::record::session::index::SqliteIndex;
use crate::record::session::read::Recorded;
use crate::store::Database;
use crate::stream::end::ends;
use crate::wire::frames;
use crate::words::Ending;
use tokio::io::{DuplexStream, duplex};
use tokio_util::sync::CancellationToken;

fn setup() -> Setup {
    Setup {
        protocol: Protocol::WebSocket { base64: false },
        answered: None,
        filter: Filter::idle(),
        recording: None,
        must_record: true,
        idle: Duration::from_secs(60),
        longest: Duration::from_secs(60),
        leaving: CancellationToken::new(),
        ends: Box::pin(std::future::pending()),
        told_on: Some(Channel::Stderr),
    }
}

/// A message as a client sends it, its mask all zeros.
fn message(channel: u8, text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frames::write(2, &[&[channel], text], &mut frame);
    let head = frame.len() - text.len() - 1;
    frame[1] |= 0x80;
    frame.splice(head..head, [0; 4]);
    frame
}

async fn all(mut from: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn what_was_sent_already_goes_first_and_never_holds_up_the_answer() {
    // Pipes of 16 bytes: whoever writes all before it reads waits for ever.
    let ((client, caller), (command, server)) = (duplex(16), duplex(16));
    let already = Bytes::from(message(0, &[b'a'; 1000]));
    let sent = already.len() + message(0, b"then this").len();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            let carrying = tokio::task::spawn_local(carry(caller, server, already, setup()));
            let (mut from_client, mut to_server) = tokio::io::split(command);
            let echo = tokio::task::spawn_local(async move {
                let mut taken = 0;
                let mut buffer = [0; 10];
                while taken < sent {
                    taken += from_client.read(&mut buffer).await.unwrap();
                    to_server.write_all(&[0x82, 2, 1, b'x']).await.unwrap();
                }
                to_server.shutdown().await.unwrap();
            });
            let (mut from_server, mut to_caller) = tokio::io::split(client);
            let reader = tokio::task::spawn_local(async move {
                let mut bytes = Vec::new();
                from_server.read_to_end(&mut bytes).await.unwrap();
                bytes
            });
            to_caller.write_all(&message(0, b"then this")).await.unwrap();
            to_caller.shutdown().await.unwrap();
            assert!(reader.await.unwrap().starts_with(&[0x82, 2, 1, b'x']));
            echo.await.unwrap();
            let carried = carrying.await.unwrap();
            assert_eq!((carried.sent, carried.ended), (sent as u64, Ending::Ok));
        })
        .await;
}

#[tokio::test]
async fn what_one_channel_holds_for_a_moment_does_not_cut_short_what_the_other_holds() {
    let ((client, caller), (mut command, server)) = (duplex(4096), duplex(4096));
    let literals = Literals::of([&b"hunter2-is-secret"[..]]).unwrap().map(|known| (Arc::new(known), Transform::Redact));
    let rules = TextRules { patterns: Vec::new(), literals, key: TokenKey::new(&[1; 32]), scope: Scope::default() };
    let setup = Setup { filter: Filter::new(Vec::new(), Some(Arc::new(rules)), false), ..setup() };
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            let carrying = tokio::task::spawn_local(carry(caller, server, Bytes::new(), setup));
            let shown = tokio::task::spawn_local(all(client));
            // The last of standard output may be the beginning of the value in base64, and is let go in 40 ms.
            for (channel, text) in [(2, &b"the value: hunter2-is-"[..]), (1, b"a line a\n"), (2, b"secret\n")] {
                let mut frame = Vec::new();
                frames::write(2, &[&[channel], text], &mut frame);
                command.write_all(&frame).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            drop(command);
            let shown = String::from_utf8_lossy(&shown.await.unwrap()).into_owned();
            assert!(shown.contains("postern-masked") && shown.contains("a line ") && !shown.contains("hunter2"), "{shown}");
            carrying.await.unwrap();
        })
        .await;
}

/// A command has ended, its connection is gone, and its last output is on its way to a slow caller when that sends a ping (kubectl does every five
/// seconds).
#[tokio::test]
async fn input_that_nobody_takes_any_more_does_not_cut_off_the_output() {
    let ((mut client, caller), (mut command, server)) = (duplex(16), duplex(1 << 20));
    let mut output = Vec::new();
    frames::write(2, &[&[1], &[b'x'; 100_000]], &mut output);
    command.write_all(&output).await.unwrap();
    drop(command);
    let slow = async {
        let mut got = vec![0; 1000];
        client.read_exact(&mut got).await.unwrap();
        for _ in 0..3 {
            client.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client.read_to_end(&mut got).await.unwrap();
        got
    };
    let (carried, got) = tokio::join!(carry(caller, server, Bytes::new(), setup()), slow);
    assert_eq!((got.len(), carried.received), (output.len(), output.len() as u64));
}

#[tokio::test]
async fn a_credential_that_ends_ends_the_stream_and_the_user_is_told() {
    let ((client, caller), (_command, server)) = (duplex(4096), duplex(64));
    let ends = Setup { ends: ends(crate::clock::now() + 1, tokio_util::sync::CancellationToken::new(), std::future::pending()), ..setup() };
    let (carried, told) = tokio::join!(carry(caller, server, Bytes::new(), ends), all(client));
    assert_eq!(carried.ended, Ending::CredentialExpired);
    assert!(told.ends_with(&[0x88, 2, 3, 0xE8]), "a close frame");
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("postern: the stream was ended: the credential has expired") && told.contains("\"kind\":\"Status\""), "{told}");
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_stream_unforwarded() {
    let ((mut client, caller), (command, server)) = (duplex(4096), duplex(4096));
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (carried, told, forwarded) = tokio::join!(carry(caller, server, Bytes::new(), setup()), all(client), all(command));
    assert_eq!((carried.ended, forwarded), (Ending::Violation, vec![]));
    assert!(String::from_utf8_lossy(&told).contains("not what was agreed on"));
}

#[tokio::test]
async fn a_stream_that_carries_nothing_ends() {
    let ((client, caller), (_command, server)) = (duplex(4096), duplex(64));
    let idle = Setup { idle: Duration::from_millis(50), ..setup() };
    let (carried, told) = tokio::join!(carry(caller, server, Bytes::new(), idle), all(client));
    assert_eq!(carried.ended, Ending::Idle);
    assert!(String::from_utf8_lossy(&told).contains("limits.streamIdleTime"));
}

/// Much more than may wait for the disk, both ways at once: while one direction waits for room the other goes on, and is recorded.
#[tokio::test]
async fn both_directions_at_once_are_recorded_whole() {
    let data = std::env::temp_dir().join(format!("postern-carry-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    let sessions = Sessions::open(
        &data.join("sessions"),
        &data,
        SqliteIndex::new(&Database::open(&data.join("postern.db")).unwrap()).unwrap(),
        1 << 30,
        None,
        &Inbox::default(),
    )
    .unwrap();
    let who = Caller {
        username: "ann".into(),
        groups: vec![],
        issuer: "i".into(),
        claims: vec![],
        expires: u64::MAX,
        credential: "0123456789abcdef".into(),
        cluster: Arc::default(),
    };
    let recording = sessions.begin(&Arc::new(who), "both", &serde_json::json!({"kind": "stream"})).await.unwrap();
    const PIECES: usize = 1500;
    let ((client, caller), (command, server)) = (duplex(1 << 20), duplex(1 << 20));
    let carrying = carry(caller, server, Bytes::new(), Setup { recording: Some(recording.opened()), ..setup() });
    let pump = |side: DuplexStream, piece: Vec<u8>| async move {
        let (mut read, mut write) = tokio::io::split(side);
        let writing = async {
            for _ in 0..PIECES {
                write.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            write.shutdown().await.unwrap();
        };
        let reading = async {
            let mut buffer = vec![0; 1 << 16];
            while read.read(&mut buffer).await.unwrap() > 0 {}
        };
        tokio::join!(writing, reading);
    };
    let mut output = Vec::new();
    frames::write(2, &[&[1], &[b'o'; 30_000]], &mut output);
    let (carried, (), ()) = tokio::join!(carrying, pump(client, message(0, &[b'i'; 10_000])), pump(command, output));
    assert_eq!(carried.ended, Ending::Ok);
    sessions.close().await;
    let recorded = Recorded::new("both.stream", std::fs::read(data.join("sessions/0123456789abcdef/both.stream")).unwrap()).unwrap();
    let sum = |wanted| recorded.frames().filter(|(kind, ..)| *kind == wanted).map(|(_, _, payload)| payload.len()).sum::<usize>();
    assert_eq!((sum(Kind::Stdin), sum(Kind::Stdout)), (10_000 * PIECES, 30_000 * PIECES));
    std::fs::remove_dir_all(data).unwrap();
}
