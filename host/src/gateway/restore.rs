//! A write whose body holds placeholders (`postern-masked...`) of values that were hidden when the object was read: each is put right by the stored value of the same
//! field, or the write is refused. `postern_mask::Stored` is the comparison itself.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::Cluster;
use super::exchange::Exchange;
use crate::body::RequestBody;
use crate::classify::{Shape, escape};
use crate::decide::{Terms, may_hide};
use crate::forward::{Question, Seal, Way};
use crate::mask::{MaskCounts, Plan, Stored, Unrestorable, placeholder};
use crate::record::Event;
use crate::respond::QuotedValues;
use crate::status::Refusal;
use crate::wire::json::write_for_yaml;

/// The media type of JSON patches (RFC 6902).
const JSON_PATCH: &str = "application/json-patch+json";
/// How often a write is put right and sent again after a conflict.
const MOST_RETRIES: u32 = 20;

/// What is needed to put a write right again if the object changes before it arrives.
pub(super) struct Restored {
    /// The body as the client sent it, with its placeholders.
    original: Arc<RequestBody>,
    /// `metadata.resourceVersion` of the stored object that it was put right from.
    version: Value,
    /// How often it was tried again.
    tries: u32,
}

impl Cluster {
    /// Puts placeholders of an update or a patch right from the stored object, or says which field cannot be.
    pub(super) async fn restore(&self, exchange: &mut Exchange, terms: &Terms, event: &mut Event) -> Result<(), Refusal> {
        let body = Arc::clone(&exchange.body);
        if let Some(count) = self.restore_body(exchange, &body, terms, 0).await? {
            event.set("restored", count);
        }
        Ok(())
    }

    /// After a 409 or 422: puts the original body right from the object as it is stored now. True where that is of another version, so that it is worth sending again.
    async fn restore_again(&self, exchange: &mut Exchange, terms: &Terms, answered: StatusCode) -> Result<bool, Refusal> {
        let Some(Restored { original, version, tries }) = exchange.restored.take() else { return Ok(false) };
        // Of a JSON patch whose test fails it is 422.
        if !matches!(answered, StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY) || tries >= MOST_RETRIES {
            return Ok(false);
        }
        self.restore_body(exchange, &original, terms, tries + 1).await?;
        // Of the same version it would be refused again.
        Ok(exchange.restored.as_ref().is_some_and(|now| now.version != version))
    }

    /// Sends a write. One whose placeholders were put right from an object that was another one when it arrived is put right again and sent again: its client
    /// would not have met that conflict without the gateway.
    pub(super) async fn send_until_settled(
        &self,
        exchange: &mut Exchange,
        terms: &Terms,
        seal: &Seal,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Refusal> {
        loop {
            let way = Way::Plain(exchange.body.to_send());
            if exchange.restored.is_none() {
                return self.upstream.send(seal, exchange.outgoing(path, headers, way)).await;
            }
            let answer = self.upstream.send(seal, exchange.outgoing(path, headers.clone(), way)).await?;
            if !self.restore_again(exchange, terms, answer.status()).await? {
                return Ok(answer);
            }
        }
    }

    /// Puts the stored values in the place of placeholders in `original`, and makes what comes of it the exchange's body. How many there were; none when there was
    /// nothing to do.
    async fn restore_body(
        &self,
        exchange: &mut Exchange,
        original: &Arc<RequestBody>,
        terms: &Terms,
        tries: u32,
    ) -> Result<Option<u64>, Refusal> {
        let operation = &exchange.operation;
        // What is behind a proxy is no object of the cluster's, and its bodies pass unread.
        let carries = operation.is_mutating() && operation.shape != Shape::Proxy && has_placeholder(original, operation.shape)?;
        let is_change = matches!(operation.method, Method::PUT | Method::PATCH) && operation.shape == Shape::Answer;
        let is_json_patch = original.media_type() == JSON_PATCH;
        let unless_carried = || if carries { Err(unrestorable("the body")) } else { Ok(None) };
        if is_change && is_json_patch && may_hide(&terms.on_object) {
            // What these hide is known only when it is there.
            refuse_reaching(original, |_| true)?;
        }
        let masks = terms.masks.as_deref().filter(|masks| masks.reads_objects());
        let Some(masks) = masks.filter(|_| is_change && operation.target.as_ref().is_some_and(|t| t.name.is_some())) else {
            return unless_carried();
        };
        let mut body = match original.read_if_known()? {
            Some(value) => Value::clone(value),
            None if carries => return original.read().map(|_| None).map_err(Refusal::clone),
            // What was put right would be sent without what is not known of it.
            None if original.read_partly().is_some_and(|known| masks.may_have_left(known)) => {
                return original.read().map(|_| None).map_err(Refusal::clone);
            }
            // Nothing is in it that a mask left.
            None => return Ok(None),
        };
        if let Some(why) = masks.loses(operation.method == Method::PUT) {
            return Err(Refusal::invalid(why));
        }
        if !carries && !is_json_patch && !masks.may_have_left(&body) {
            return Ok(None);
        }
        let Some((object, shown)) = self.stored(exchange, masks).await? else {
            if is_json_patch {
                refuse_reaching(original, |_| true)?;
            }
            return unless_carried();
        };
        if is_json_patch {
            refuse_reaching(original, |pointer| object.pointer(pointer) != shown.pointer(pointer))?;
        }
        let stored = Stored { object: &object, shown: &shown, whole: operation.method == Method::PUT };
        let restored = if is_json_patch { stored.restore_patch(&mut body) } else { stored.restore(&mut body) };
        let count = restored.map_err(|why| match why {
            Unrestorable::Unknown(place) => unrestorable(&place),
            // As kube-apiserver says it of an older version, so that clients read again and repeat.
            Unrestorable::Changed(place) => Refusal::conflict(format!(
                "{place} carries the token of a value hidden from you, and another value is stored there by now; read the object again, then try again"
            )),
        })?;
        // A patch that copies, moves or tests was allowed for the object as it is now: it is sent for that version alone, although nothing in it was put right.
        if count == 0 && (carries || !(is_json_patch && reaches(original)?)) {
            return unless_carried();
        }
        let version = &object["metadata"]["resourceVersion"];
        let is_ours = add_version_precondition(&mut body, version);
        let text = if original.is_yaml() { write_for_yaml(&body) } else { body.to_string() };
        if placeholder::appears_in(text.as_bytes()) {
            return Err(unrestorable("the body"));
        }
        let media_type = if operation.method == Method::PUT { "application/json" } else { original.media_type() };
        if let Ok(value) = HeaderValue::from_str(media_type) {
            exchange.headers.insert(header::CONTENT_TYPE, value);
        }
        exchange.body = Arc::new(RequestBody::new(text.into(), media_type));
        exchange.restored = is_ours.then(|| Restored { original: Arc::clone(original), version: version.clone(), tries });
        Ok(Some(count).filter(|count| *count > 0))
    }

    /// The object that a write is for, read with the caller's own rights: as it is stored, and as masks show it to the caller. None where it cannot be read, and so
    /// was never shown.
    async fn stored(&self, exchange: &Exchange, masks: &Plan) -> Result<Option<(Value, Value)>, Refusal> {
        let path = exchange.operation.path_and_query.split('?').next().unwrap_or_default();
        let unreadable = || Refusal::bad_gateway("the stored object cannot be read, so what is hidden in it cannot be kept; try again");
        // A create by apply, or a caller who may not read: then nothing was shown that could come back.
        let (status, bytes) = self.read_as_caller(exchange, path).await?;
        if !status.is_success() {
            return Ok(None);
        }
        let mut shown = Vec::with_capacity(bytes.len());
        masks.apply(&bytes, &exchange.resource(), false, &mut shown, &mut MaskCounts::new()).map_err(|_| unreadable())?;
        let parse = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|_| unreadable());
        Ok(Some((parse(&bytes)?, parse(&shown)?)))
    }

    /// What an answer may repeat of the object that a write was for, in whatever words: an error, or a warning.
    pub(super) async fn repeats(&self, exchange: &Exchange, terms: &Terms, answer: &Response<Incoming>) -> QuotedValues {
        let Exchange { operation, .. } = exchange;
        let says_something = !answer.status().is_success() || answer.headers().contains_key(header::WARNING);
        if says_something && operation.is_mutating() && operation.shape == Shape::Answer && may_hide(&terms.on_object) {
            // What these hide is known only for an object that is shown.
            return QuotedValues::Unknown;
        }
        let masks = terms.masks.as_deref();
        let object = operation.target.as_ref().and_then(|target| Some((target.collection(), target.name.as_deref()?)));
        let (Some(masks), Some((collection, name))) = (masks.filter(|masks| masks.reads_objects()), object) else {
            return QuotedValues::Nothing;
        };
        if !says_something || !operation.is_mutating() {
            return QuotedValues::Nothing;
        }
        let path = format!("{collection}/{}", escape(name));
        match self.read_as_caller(exchange, &path).await {
            // Any other answer may speak of one that is gone since.
            Ok((StatusCode::NOT_FOUND, _)) if answer.status() == StatusCode::NOT_FOUND => QuotedValues::Nothing,
            Ok((status, bytes)) if status.is_success() => {
                masks.hidden_in(&bytes, &exchange.resource()).map_or(QuotedValues::Unknown, QuotedValues::Values)
            }
            _ => QuotedValues::Unknown,
        }
    }

    /// Reads a path as the identity that the caller's own requests have at the API server.
    async fn read_as_caller(&self, exchange: &Exchange, path: &str) -> Result<(StatusCode, Bytes), Refusal> {
        let question = Question::GetWith(path, exchange.headers_to_read());
        self.upstream.read(&exchange.who, question, self.config.limits.object.0).await.map_err(|refusal| match refusal.code {
            StatusCode::BAD_GATEWAY => {
                Refusal::bad_gateway("the stored object cannot be read, so what is hidden in it cannot be kept; try again")
            }
            _ => refusal,
        })
    }
}

/// Whether a body has a placeholder in it, however it is spelt.
fn has_placeholder(body: &RequestBody, shape: Shape) -> Result<bool, Refusal> {
    if placeholder::appears_in(body.bytes()) {
        return Ok(true);
    }
    // What is spelt in YAML's own ways, or packed as Helm packs its releases, is known only once it is read.
    let is_spelt = body.is_yaml() && placeholder::may_be_spelt_in_yaml(body.bytes());
    if shape != Shape::Answer || !is_spelt && !placeholder::may_be_packed(body.bytes()) {
        return Ok(false);
    }
    match body.read_if_known()?.or_else(|| body.read_partly()) {
        Some(value) => placeholder::appears_within(value).ok_or_else(|| {
            Refusal::invalid("the body holds something packed that is too large to be looked through for values hidden from you")
        }),
        None => Ok(false),
    }
}

/// Refuses a JSON patch that moves, copies or tests what is hidden: it would show somewhere else, or be guessed. `is_hidden` is asked of a JSON pointer; what
/// lies within a list is asked of the list, for the patch's own order may move it.
fn refuse_reaching(patch: &RequestBody, is_hidden: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let operations = patch.read_if_known()?.and_then(|patch| patch.as_array());
    let mut is_as_stored = true;
    for (index, operation) in operations.into_iter().flatten().enumerate() {
        let text = |key: &str| operation[key].as_str().unwrap_or_default();
        if text("op") == "test" && ALWAYS_TOLD.contains(&text("path")) {
            continue;
        }
        let Some(from) = source_pointer(operation) else {
            is_as_stored = false;
            continue;
        };
        // As long as nothing was changed, an element is the one that is stored there.
        let is_hidden = if is_as_stored { is_hidden(from) } else { is_hidden(before_lists(from)) };
        is_as_stored &= text("op") == "test";
        if is_hidden {
            return Err(Refusal::invalid(format!(
                "operation {index} of the patch ({} of {from}) reaches a value hidden from you; leave it out, or send a merge patch of the fields you mean",
                text("op")
            )));
        }
    }
    Ok(())
}

/// Fields that a patch may test although the object is hidden: clients hold a patch to one version of an object with them.
const ALWAYS_TOLD: [&str; 4] = ["/metadata/name", "/metadata/namespace", "/metadata/resourceVersion", "/metadata/uid"];

/// The JSON pointer that an operation of a JSON patch copies, moves or tests; none of the others.
fn source_pointer(operation: &Value) -> Option<&str> {
    let text = |key: &str| operation[key].as_str().unwrap_or_default();
    match text("op") {
        "move" | "copy" => Some(text("from")),
        "test" => Some(text("path")),
        _ => None,
    }
}

/// Whether an operation of a JSON patch copies, moves or tests something.
fn reaches(patch: &RequestBody) -> Result<bool, Refusal> {
    let operations = patch.read_if_known()?.and_then(|patch| patch.as_array());
    Ok(operations.into_iter().flatten().any(|operation| source_pointer(operation).is_some()))
}

/// A JSON pointer up to the first part that could be an index into a list.
fn before_lists(pointer: &str) -> &str {
    let is_element = |part: &str| part == "-" || !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut end = pointer.find('/').unwrap_or(pointer.len());
    for part in pointer.split('/').skip(1) {
        if is_element(part) {
            break;
        }
        end += 1 + part.len();
    }
    &pointer[..end]
}

/// Makes a write hold for this version of the object only. False where its client had named one: a conflict is then the client's to see.
fn add_version_precondition(body: &mut Value, version: &Value) -> bool {
    if let Some(patch) = body.as_array_mut() {
        patch.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
        return true;
    }
    let metadata = body.as_object_mut().map(|object| object.entry("metadata").or_insert_with(|| json!({})));
    match metadata.and_then(Value::as_object_mut) {
        Some(metadata) if metadata.get("resourceVersion").is_none_or(|known| known.is_null() || known == "") => {
            metadata.insert("resourceVersion".into(), version.clone());
            true
        }
        _ => false,
    }
}

fn unrestorable(place: &str) -> Refusal {
    Refusal::invalid(format!(
        "{place} carries postern-masked, which stands for a value hidden from you, and there is no such hidden value in that field; leave the field out, or patch only the fields you mean"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(media_type: &str, text: &str) -> RequestBody {
        RequestBody::new(Bytes::copy_from_slice(text.as_bytes()), media_type)
    }

    #[test]
    fn a_placeholder_is_found_however_it_is_spelt() {
        let yaml = "application/apply-patch+yaml";
        for text in [
            "data: {a: postern-masked}",
            "data: {a: \"postern\\x2dmasked\"}",
            "data: {a: \"postern\\u002Dmasked\"}",
            "data: {a: \"post\\\n  ern-masked\"}",
            "data:\n  a: |\n    cG9zdGVybi1t\n    YXNrZWQ=\n",
            r#"{"data": {"a": "postern\x2dmasked"}}"#,
        ] {
            assert_eq!(has_placeholder(&body(yaml, text), Shape::Answer).ok(), Some(true), "{text}");
        }
        for text in [
            r#"{"data":{"a":"postern\u002dmasked"}}"#,
            r#"{"data":{"a":"cG9zdGVybi1t\nYXNrZWQ="}}"#,
            r#"{"a":"{\"b\":\"postern\\u002dmasked\"}"}"#,
        ] {
            assert_eq!(has_placeholder(&body("application/json", text), Shape::Answer).ok(), Some(true), "{text}");
        }
        assert_eq!(has_placeholder(&body(yaml, "data:\n  a: postern\n  b: masked\n"), Shape::Answer).ok(), Some(false));
        assert!(
            has_placeholder(&body(yaml, "data: {a: !!binary cG9zdGVybi1tYXNrZWQ=, b: &x y}"), Shape::Answer).is_ok_and(|carries| carries)
        );
        assert!(has_placeholder(&body(yaml, "data: {a: !!binary cG9z}"), Shape::Answer).is_err());
    }

    #[test]
    fn what_is_packed_as_helm_packs_it_is_looked_through() {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let packed = |text: &str| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
            STANDARD.encode(STANDARD.encode(gzip.finish().unwrap()))
        };
        let secret = |text: &str| body("application/json", &json!({"kind": "Secret", "data": {"release": packed(text)}}).to_string());
        let chart = json!({"manifest": "a: postern-masked\n", "more": "x".repeat(100_000)}).to_string();
        assert_eq!(has_placeholder(&secret(&chart), Shape::Answer).ok(), Some(true));
        assert_eq!(has_placeholder(&secret(&chart.replace("postern-masked", "cG9zdGVybi1tYXNrZWQ=")), Shape::Answer).ok(), Some(true));
        assert_eq!(has_placeholder(&secret(&chart.replace("postern-masked", "plain")), Shape::Answer).ok(), Some(false));
        assert!(has_placeholder(&secret(&"x".repeat(100 << 20)), Shape::Answer).is_err());
    }

    #[test]
    fn a_patch_reaches_nothing_hidden() {
        let hidden = |pointer: &str| ["", "/data", "/data/password", "/list"].contains(&pointer);
        let refused = |operation: &str| refuse_reaching(&body(JSON_PATCH, &format!("[{operation}]")), hidden).is_err();
        for operation in [
            r#"{"op":"move","from":"/data/password","path":"/metadata/labels/x"}"#,
            r#"{"op":"copy","from":"/data","path":"/metadata/annotations"}"#,
            r#"{"op":"copy","from":"","path":"/x"}"#,
            r#"{"op":"test","path":"/data/password","value":"x"}"#,
            r#"{"op":"add","path":"/list/0","value":{}},{"op":"copy","from":"/list/0/value","path":"/x"}"#,
            r#"{"op":"remove","path":"/list/0"},{"op":"move","from":"/list/-","path":"/x"}"#,
        ] {
            assert!(refused(operation), "{operation}");
        }
        for operation in [
            r#"{"op":"add","path":"/data/password","value":"x"}"#,
            r#"{"op":"copy","from":"/metadata/labels/a","path":"/metadata/labels/b"}"#,
            r#"{"op":"test","path":"/metadata/resourceVersion","value":"1"}"#,
            r#"{"op":"remove","path":"/data/password"}"#,
            r#"{"op":"test","path":"/list/0/name","value":"a"},{"op":"replace","path":"/list/0/image","value":"b"}"#,
        ] {
            assert!(!refused(operation), "{operation}");
        }
    }

    #[test]
    fn a_patch_may_be_held_to_a_version_of_what_is_hidden() {
        let patch = |text: &str| refuse_reaching(&body(JSON_PATCH, text), |_| true);
        let held = r#"{"op":"test","path":"/metadata/resourceVersion","value":"7"},{"op":"test","path":"/metadata/uid","value":"u"}"#;
        assert!(patch(&format!(r#"[{held},{{"op":"add","path":"/metadata/labels/a","value":"b"}}]"#)).is_ok());
        assert!(patch(&format!(r#"[{held},{{"op":"test","path":"/data/a","value":"b"}}]"#)).is_err());
        assert!(patch(r#"[{"op":"copy","from":"/metadata/uid","path":"/metadata/labels/a"}]"#).is_err());
    }
}
