use std::collections::VecDeque;
use std::time::Instant;

use http_body::Body as _;
use http_body_util::BodyExt;

use super::*;
use crate::classify::Shape;
use crate::record::{AuditLog, Event};
use crate::respond::items::tests::items;

/// What a server sends, and where it has nothing to send just now.
struct Pieces(VecDeque<Piece>);

#[derive(Clone)]
enum Piece {
    Data(Vec<u8>),
    Nothing,
    Gone,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(Piece::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data.into())))),
            Some(Piece::Gone) => Poll::Ready(Some(Err("gone".into()))),
            Some(Piece::Nothing) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// What is sent of them, piece by piece, and how it ends.
async fn sent(work: Work, pieces: &[Piece]) -> (Vec<String>, Option<String>) {
    let log = std::env::temp_dir().join(format!("postern-answer-{}-{:p}", std::process::id(), &work));
    let completion = Completion::new(AuditLog::open(&log, None).unwrap(), Event::new("1", "test"), Instant::now());
    let mut answer = Answer::new(Pieces(pieces.iter().cloned().collect()), work, Vec::new(), None, completion);
    let (mut out, mut error) = (Vec::new(), None);
    while let Some(frame) = answer.frame().await {
        match frame {
            Ok(frame) => out.push(String::from_utf8(frame.into_data().unwrap().into()).unwrap()),
            Err(e) => error = Some(e.to_string()),
        }
    }
    assert!(answer.is_end_stream());
    std::fs::remove_file(&log).unwrap();
    (out, error)
}

fn data(text: &str) -> Piece {
    Piece::Data(text.into())
}

#[tokio::test]
async fn what_comes_in_small_pieces_is_sent_together() {
    let pieces = [data("a"), data("b"), Piece::Nothing, data("c")];
    assert_eq!(sent(Work::Pass, &pieces).await, (vec!["abc".into()], None));
}

#[tokio::test]
async fn what_is_ready_does_not_wait_for_what_does_not_come() {
    let pieces = [data("a"), Piece::Nothing, data("b"), Piece::Nothing, Piece::Nothing, Piece::Nothing, data("c")];
    assert_eq!(sent(Work::Pass, &pieces).await, (vec!["ab".into(), "c".into()], None));
}

#[tokio::test]
async fn no_more_is_gathered_than_is_sent_at_a_time() {
    let pieces = vec![data(&"x".repeat(TOGETHER / 3)); 12];
    let (out, error) = sent(Work::Pass, &pieces).await;
    assert_eq!((out.concat().len(), error), (pieces.len() * (TOGETHER / 3), None));
    assert!(out.len() >= 3 && out.iter().all(|piece| piece.len() < 2 * TOGETHER), "{:?}", out.iter().map(String::len).collect::<Vec<_>>());
    let long = "x".repeat(TOGETHER);
    assert_eq!(sent(Work::Pass, &[data("a"), data(&long), data(&long), data("b")]).await.0, [format!("a{long}"), long, "b".into()]);
}

#[tokio::test]
async fn what_came_before_an_error_is_sent() {
    assert_eq!(sent(Work::Pass, &[data("a"), data("b"), Piece::Gone, data("c")]).await, (vec!["ab".into()], Some("gone".into())));
    assert_eq!(sent(Work::Pass, &[Piece::Gone]).await, (vec![], Some("gone".into())));
}

#[tokio::test]
async fn of_a_list_that_cannot_be_read_to_its_end_no_value_is_sent() {
    let head = r#"{"kind":"SecretList","apiVersion":"v1","metadata":{},"items":["#;
    let (one, broken) = (r#"{"data":{"a":"b25l"}}"#, r#",{"data":{"a":"dHdv"}},{"data":{"a":]}"#);
    let (out, error) = sent(Work::Items(Box::new(items("list", Shape::Answer, false))), &[data(head), data(one), data(broken)]).await;
    let (out, error) = (out.concat(), error.unwrap());
    assert!(out.starts_with(&head[..head.len() - 1]) && !out.contains("b25l") && !out.contains("dHdv"), "{out}");
    assert!(error.contains("cannot be read"), "{error}");
}

#[tokio::test]
async fn events_that_come_at_once_are_sent_at_once() {
    let event = |value: &str| data(&format!("{{\"type\":\"ADDED\",\"object\":{{\"kind\":\"Secret\",\"data\":{{\"a\":\"{value}\"}}}}}}\n"));
    let pieces = [event("b25l"), event("dHdv"), Piece::Nothing, Piece::Nothing, event("c2l4")];
    let (out, error) = sent(Work::Items(Box::new(items("watch", Shape::Watch, false))), &pieces).await;
    assert_eq!((out.len(), error), (2, None), "{out:?}");
    assert_eq!(out[0].lines().count(), 2);
    assert!(!["b25l", "dHdv", "c2l4"].iter().any(|value| out.concat().contains(value)), "{out:?}");
}
