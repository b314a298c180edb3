//! An operation as an AdmissionRequest says it, for rules that were written for one (`k8s.io/api/admission/v1`), and for all that never reaches admission.

use crate::{Request, Surrounding};
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
        let target = request.target.as_ref();
        let subresource = target.and_then(|t| t.subresource.as_deref()).unwrap_or_default();
        let operation = match (request.verb.as_str(), subresource) {
            (_, "exec" | "attach" | "portforward" | "proxy") => "CONNECT",
            ("create", _) => "CREATE",
            ("update" | "patch", _) => "UPDATE",
            ("delete" | "deletecollection", _) => "DELETE",
            // Reading never reaches admission, and has no name there.
            _ => "",
        };
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let claims: serde_json::Map<_, _> =
            request.caller.claims.iter().filter_map(|(name, text)| Some((name.clone(), serde_json::from_str(text).ok()?))).collect();
        json!({
            "uid": request.id, "operation": operation, "verb": request.verb,
            "resource": {
                "group": target.map(|t| t.api_group.clone()).unwrap_or_default(),
                "version": target.map(|t| t.api_version.clone()).unwrap_or_default(),
                "resource": target.map(|t| t.resource.clone()).unwrap_or_default(),
            },
            "subResource": subresource,
            "namespace": text(target.and_then(|t| t.namespace.as_ref())),
            "name": text(target.and_then(|t| t.name.as_ref())),
            "userInfo": {"username": request.caller.username, "groups": request.caller.groups, "issuer": request.caller.issuer, "claims": claims},
            "dryRun": request.dry_run,
            "path": request.path,
            "query": request.query.iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>(),
            "command": request.command.as_ref().map(|c| c.argv.clone()).unwrap_or_default(),
            "cluster": request.cluster,
        })
    }

    /// The request's body; of a patch it is the patch.
    pub fn object(&self) -> Value {
        self.request.body().filter(|_| !self.request.verb.starts_with("delete")).map(|body| body.json()).unwrap_or_default()
    }

    /// The object as it is stored, where there is one.
    pub fn old_object(&self) -> Value {
        self.request.around(Surrounding::Stored).map(|stored| stored.json()).unwrap_or_default()
    }
}
