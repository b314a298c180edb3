//! An operation as an AdmissionRequest says it, for rules that were written for one (`k8s.io/api/admission/v1`), and for all that never reaches admission.

use crate::{Request, Surrounding, Text};
use serde_json::{Map, Value, json};

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
        self.request_with(|_| true)
    }

    /// The same with the fields that are wanted, by their names: what is not wanted is not asked about.
    pub fn request_with(&self, wants: impl Fn(&str) -> bool) -> Value {
        let request = self.request;
        let text = |what: Text| Value::from(request.get(what).unwrap_or_default());
        let fields: [(&str, &dyn Fn() -> Value); 13] = [
            ("uid", &|| request.id().into()),
            ("operation", &|| operation(request).into()),
            ("verb", &|| text(Text::Verb)),
            ("resource", &|| json!({"group": text(Text::ApiGroup), "version": text(Text::ApiVersion), "resource": text(Text::Resource)})),
            ("subResource", &|| text(Text::Subresource)),
            ("namespace", &|| text(Text::Namespace)),
            ("name", &|| text(Text::Name)),
            ("userInfo", &|| user(request)),
            ("dryRun", &|| request.dry_run().into()),
            ("path", &|| text(Text::Path)),
            ("query", &|| json!(request.query())),
            ("command", &|| request.command().map(|command| command.argv).unwrap_or_default().into()),
            ("cluster", &|| text(Text::Cluster)),
        ];
        fields.into_iter().filter(|(name, _)| wants(name)).map(|(name, value)| (name.to_owned(), value())).collect::<Map<_, _>>().into()
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

/// What admission calls it. Reading never gets there, and has no name.
fn operation(request: &Request<'_>) -> &'static str {
    if request.is(Text::Subresource, &["exec", "attach", "portforward", "proxy"]) {
        return "CONNECT";
    }
    match request.which(Text::Verb, &["create", "update", "patch", "delete", "deletecollection"]) {
        Some(0) => "CREATE",
        Some(1 | 2) => "UPDATE",
        Some(_) => "DELETE",
        None => "",
    }
}

fn user(request: &Request<'_>) -> Value {
    let claims = request.caller.claims().into_iter();
    let claims: Map<_, _> = claims.filter_map(|(name, text)| Some((name, serde_json::from_str(&text).ok()?))).collect();
    let (username, issuer) = (request.caller.username(), request.caller.issuer());
    json!({"username": username, "groups": request.caller.groups(), "issuer": issuer, "claims": claims})
}
