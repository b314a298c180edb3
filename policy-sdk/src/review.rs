//! An operation as an AdmissionRequest says it, for rules that were written for one (`k8s.io/api/admission/v1`), and for all that never reaches admission.

use crate::{Request, Surrounding, Text};
use serde_json::{Value, json};

/// An operation to be reviewed.
pub struct Review<'r, 'a> {
    request: &'r Request<'a>,
}

impl<'r, 'a> Review<'r, 'a> {
    /// Of a request.
    pub fn new(request: &'r Request<'a>) -> Self {
        Self { request }
    }

    /// `request` of an AdmissionReview, without its objects. Beside its own fields: `verb`, `path`, `query`, `command`, `cluster`, `userInfo.issuer`, `userInfo.claims`.
    pub fn request(&self) -> Value {
        let request = self.request;
        let text = |what: Text| request.get(what).unwrap_or_default();
        let (verb, subresource) = (request.verb(), text(Text::Subresource));
        let operation = match (verb.as_str(), subresource.as_str()) {
            (_, "exec" | "attach" | "portforward" | "proxy") => "CONNECT",
            ("create", _) => "CREATE",
            ("update" | "patch", _) => "UPDATE",
            ("delete" | "deletecollection", _) => "DELETE",
            // Reading never reaches admission, and has no name there.
            _ => "",
        };
        let claims: serde_json::Map<_, _> =
            request.caller.claims().into_iter().filter_map(|(name, text)| Some((name, serde_json::from_str(&text).ok()?))).collect();
        json!({
            "uid": request.id(), "operation": operation, "verb": verb,
            "resource": {
                "group": text(Text::ApiGroup), "version": text(Text::ApiVersion), "resource": text(Text::Resource),
            },
            "subResource": subresource,
            "namespace": text(Text::Namespace),
            "name": text(Text::Name),
            "userInfo": {"username": text(Text::Username), "groups": request.caller.groups(), "issuer": text(Text::Issuer), "claims": claims},
            "dryRun": request.dry_run(),
            "path": text(Text::Path),
            "query": request.query(),
            "command": request.command().map(|command| command.argv).unwrap_or_default(),
            "cluster": text(Text::Cluster),
        })
    }

    /// The request's body; of a patch it is the patch.
    pub fn object(&self) -> Value {
        self.request.body().filter(|_| !self.request.verb().starts_with("delete")).map(|body| body.json()).unwrap_or_default()
    }

    /// The object as it is stored, where there is one.
    pub fn old_object(&self) -> Value {
        self.request.around(Surrounding::Stored).map(|stored| stored.json()).unwrap_or_default()
    }
}
