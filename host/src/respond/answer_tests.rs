use crate::config::Audit;
use crate::respond::Permits;
use std::collections::VecDeque;
use std::time::Instant;

use http_body::Body as _;
use http_body_util::BodyExt;

use super::*;
use crate::classify::Shape;
use crate::record::session::seal::SigningKey;
use crate::record::{AuditLog, Event, Opening};
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

/// The end of an operation that is recorded in a log of its own.
async fn completion(log: &std::path::Path) -> Completion {
    let audit = AuditLog::open(log, &Audit::default(), Opening::new(SigningKey::of_seed(&[7; 32]).unwrap())).unwrap();
    Completion::new(audit.enter(&mut Event::new("1", "test", Instant::now()), false).await.unwrap(), Permits::default())
}

/// What is sent of them, piece by piece, and how it ends.
async fn sent(work: Work, pieces: &[Piece]) -> (Vec<String>, Option<String>) {
    let log = std::env::temp_dir().join(format!("postern-answer-{}-{:p}", std::process::id(), &work));
    let completion = completion(&log).await;
    let answer = AnswerBody::new(Pieces(pieces.iter().cloned().collect()), work, Vec::new(), completion);
    let came = all_of(answer).await;
    std::fs::remove_file(&log).unwrap();
    came
}

async fn all_of(mut answer: AnswerBody<Pieces>) -> (Vec<String>, Option<String>) {
    let (mut out, mut error) = (Vec::new(), None);
    while let Some(frame) = answer.frame().await {
        match frame {
            Ok(frame) => out.push(String::from_utf8(frame.into_data().unwrap().into()).unwrap()),
            Err(e) => error = Some(e.to_string()),
        }
    }
    assert!(answer.is_end_stream());
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
    // What came together is sent together, or not at all.
    assert_eq!(out, "");
    assert!(error.contains("cannot be read"), "{error}");
}

#[tokio::test]
async fn what_came_of_a_list_before_an_error_is_masked_and_sent() {
    let list = [data(r#"{"kind":"SecretList","items":[{"data":{"a":"b25l"}}"#), data(r#",{"data":{"a":"dHdv"}},{"da"#), Piece::Gone];
    let (out, error) = sent(Work::Items(Box::new(items("list", Shape::Answer, false))), &list).await;
    let out = out.concat();
    assert!(out.matches("cG9zdGVybi1tYXNrZWQ=").count() == 2 && !out.contains("b25l") && !out.contains("dHdv"), "{out}");
    assert_eq!(error.as_deref(), Some("gone"));
}

/// Both sides as the gateway has them: hyper asks twice in a turn, and the second time is not another turn.
#[test]
fn a_list_that_comes_an_item_at_a_time_is_sent_in_few_pieces() {
    const ITEMS: usize = 400;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    let log = std::env::temp_dir().join(format!("postern-answer-few-{}", std::process::id()));
    let (pieces, whole) = runtime.block_on(async {
        let item = |n: usize| format!("{}{{\"data\":{{\"a\":\"{}\"}}}}", if n == 0 { "" } else { "," }, "eA==".repeat(500));
        let mut list: VecDeque<Piece> = (0..ITEMS).map(|n| data(&item(n))).collect();
        list.push_front(data(r#"{"kind":"SecretList","items":["#));
        list.push_back(data("]}"));
        let upstream = served(Pieces(list)).await;
        let completion = completion(&log).await;
        let work = Work::Items(Box::new(items("list", Shape::Answer, false)));
        let mut answer = served(AnswerBody::new(upstream, work, Vec::new(), completion)).await;
        let (mut pieces, mut whole) = (0, Vec::new());
        while let Some(frame) = answer.frame().await {
            whole.extend(frame.unwrap().into_data().unwrap());
            pieces += 1;
        }
        (pieces, whole)
    });
    std::fs::remove_file(&log).unwrap();
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["items"].as_array().unwrap().len(), ITEMS);
    assert!(!whole.to_string().contains("eA=="));
    assert!(pieces < ITEMS / 10, "{pieces} pieces");
}

/// A body as it comes out of a connection that it was sent through.
async fn served<B>(body: B) -> Incoming
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + 'static,
{
    use hyper_util::rt::TokioIo;
    let (near, far) = tokio::io::duplex(1 << 20);
    let body = std::cell::RefCell::new(Some(body));
    let service = hyper::service::service_fn(move |_| {
        let body = body.borrow_mut().take().unwrap();
        async move { Ok::<_, std::convert::Infallible>(hyper::Response::new(body)) }
    });
    tokio::task::spawn_local(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
    let (mut ask, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::task::spawn_local(connection);
    let response = ask.send_request(hyper::Request::new(http_body_util::Empty::<Bytes>::new())).await.unwrap();
    response.into_body()
}

#[tokio::test]
async fn events_that_come_at_once_are_sent_at_once() {
    let event = |value: &str| data(&format!("{{\"type\":\"ADDED\",\"object\":{{\"kind\":\"Secret\",\"data\":{{\"a\":\"{value}\"}}}}}}\n"));
    let pieces = [event("b25l"), event("dHdv"), Piece::Nothing, Piece::Nothing, Piece::Nothing, Piece::Nothing, event("c2l4")];
    let (out, error) = sent(Work::Items(Box::new(items("watch", Shape::Watch, false))), &pieces).await;
    assert_eq!((out.len(), error), (2, None), "{out:?}");
    assert_eq!(out[0].lines().count(), 2);
    assert!(!["b25l", "dHdv", "c2l4"].iter().any(|value| out.concat().contains(value)), "{out:?}");
}

/// What a caller sees of an answer that goes on for ever, whose right is withdrawn once the pieces came.
async fn cut(form: Form, pieces: &[&str]) -> (String, Option<String>) {
    let log = std::env::temp_dir().join(format!("postern-answer-cut-{}-{:p}", std::process::id(), pieces));
    let completion = completion(&log).await;
    let pieces = pieces.iter().map(|text| data(text)).chain(vec![Piece::Nothing; 1_000_000]).collect();
    let withdrawn = Box::pin(async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        End::RightWithdrawn
    });
    let answer = AnswerBody::new(Pieces(pieces), Work::Pass, Vec::new(), completion).until(Some(withdrawn), form);
    let (out, error) = all_of(answer).await;
    std::fs::remove_file(&log).unwrap();
    (out.concat(), error)
}

#[tokio::test]
async fn an_answer_that_ends_early_says_so_where_it_can_and_never_looks_whole_where_it_cannot() {
    let (events, error) = cut(Form::Events { json: true }, &["{\"type\":\"ADDED\"}\n"]).await;
    let last: serde_json::Value = serde_json::from_str(events.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&last["type"], &last["object"]["code"], error), (&"ERROR".into(), &403.into(), None), "{events}");
    // Within an event nothing can be said, nor where events are not JSON.
    for (form, came) in [(Form::Events { json: true }, "{\"type\":"), (Form::Events { json: false }, "k8s\0\n")] {
        assert_eq!(cut(form, &[came]).await, (came.into(), None));
    }
    for (came, line) in [("one\n", ""), ("half", "\n"), ("", "")] {
        let (log, error) = cut(Form::Text, &[came]).await;
        assert!(log.starts_with(&format!("{came}{line}postern: you may do this no longer")) && error.is_none(), "{log:?}");
    }
    let (proxied, error) = cut(Form::Other, &["text"]).await;
    assert!(proxied == "text" && error.is_some_and(|why| why.contains("no longer")), "{proxied}");
}
