//! Before a write is sent: values that were hidden from the caller and come back as placeholders are put right, or the write is refused.

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{Exchange, Gateway};
use crate::body::collect;
use crate::classify::Shape;
use crate::decide::Decision;
use crate::mask::{Plan, Report, Stored, placeholder};
use crate::policy::RequestBody;
use crate::record::Event;
use crate::status::Refusal;

/// The media type of JSON patches (RFC 6902).
const JSON_PATCH: &str = "application/json-patch+json";

impl Gateway {
    /// Puts placeholders of an update or a patch right from the stored object, or says which field cannot be.
    pub(super) async fn restore(&self, exchange: &mut Exchange, decision: &Decision, event: &mut Event) -> Result<(), Refusal> {
        let operation = &exchange.operation;
        let carries = operation.is_mutating() && placeholder::appears_in(&exchange.body);
        let is_change = matches!(operation.method, Method::PUT | Method::PATCH) && operation.shape == Shape::Answer;
        let masks = decision.masks.as_deref().filter(|masks| masks.reads_objects());
        let Some(masks) = masks.filter(|_| is_change && operation.target.as_ref().is_some_and(|t| t.name.is_some())) else {
            return if carries { Err(unrestorable("the body")) } else { Ok(()) };
        };
        let media_type = exchange.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let parsed = RequestBody::new(exchange.body.clone(), &media_type);
        let mut body = match parsed.value() {
            Ok(value) => Value::clone(value),
            Err(refusal) if carries => return Err(refusal.clone()),
            // What cannot be read here the API server refuses, or it carries nothing that a mask left.
            Err(_) => return Ok(()),
        };
        if let Some(why) = masks.loses(operation.method == Method::PUT) {
            return Err(Refusal::invalid(why));
        }
        if !carries && !masks.may_have_left(&body) {
            return Ok(());
        }
        let stored = self.stored(exchange, masks).await?;
        let Some((object, shown)) = stored else {
            return if carries { Err(unrestorable("the body")) } else { Ok(()) };
        };
        let stored = Stored { object: &object, shown: &shown, whole: operation.method == Method::PUT };
        let is_json_patch = media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON_PATCH);
        let restored = if is_json_patch { stored.restore_patch(&mut body) } else { stored.restore(&mut body) };
        let count = restored.map_err(|place| unrestorable(&place.0))?;
        if count == 0 {
            return if carries { Err(unrestorable("the body")) } else { Ok(()) };
        }
        only_on(&mut body, &object["metadata"]["resourceVersion"]);
        let text = Bytes::from(body.to_string());
        if placeholder::appears_in(&text) {
            return Err(unrestorable("the body"));
        }
        if operation.method == Method::PUT {
            exchange.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        exchange.body = text;
        event.set("restored", count);
        Ok(())
    }

    /// The object a write is for, read as the caller would read it, and as the caller is shown it.
    async fn stored(&self, exchange: &Exchange, masks: &Plan) -> Result<Option<(Value, Value)>, Refusal> {
        let operation = &exchange.operation;
        let path = operation.path_and_query.split('?').next().unwrap_or_default();
        let answer = self.upstream.send(&exchange.who, &Method::GET, path, exchange.headers_to_read(), Bytes::new(), true).await?;
        let status = answer.status();
        let unreadable = || Refusal::bad_gateway("the stored object cannot be read, so what is hidden in it cannot be kept; try again");
        let bytes = collect(answer.into_body(), self.config.limits.object.0).await.ok().flatten().ok_or_else(unreadable)?;
        if !status.is_success() {
            // A create by apply, or a caller who may not read: then nothing was shown that could come back.
            return Ok(None);
        }
        let resource = operation.target.as_ref().map(|t| t.resource.as_str()).unwrap_or_default();
        let mut shown = Vec::with_capacity(bytes.len());
        masks.apply(&bytes, resource, false, &mut shown, &mut Report::new()).map_err(|_| unreadable())?;
        let parse = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|_| unreadable());
        Ok(Some((parse(&bytes)?, parse(&shown)?)))
    }
}

/// What was put right is right for this version of the object only: another one is a conflict, which clients know to repeat.
fn only_on(body: &mut Value, version: &Value) {
    if let Some(patch) = body.as_array_mut() {
        patch.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    } else if let Some(object) = body.as_object_mut() {
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.entry("resourceVersion").or_insert_with(|| version.clone());
        }
    }
}

fn unrestorable(place: &str) -> Refusal {
    Refusal::invalid(format!(
        "{place} carries postern-masked, which stands for a value hidden from you, and there is no such hidden value in that field; leave the field out, or patch only the fields you mean"
    ))
}
