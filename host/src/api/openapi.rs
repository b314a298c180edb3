//! The API as OpenAPI 3.1 has it, made of the routes and of the types that are answered.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::routes::{ParameterType, ROUTES, ResponseContent, Route};

/// The document.
pub fn document() -> Value {
    let mut schemas =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation;
    }
    let mut components: Map<String, Value> = schemas.take_definitions(true).into_iter().collect();
    components.insert("Status-metav1".into(), status());
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Postern", "version": env!("CARGO_PKG_VERSION"),
            "description": "The gateway's own API. At the host of one of several clusters, or behind its path, it is about that cluster alone. Errors are a metav1.Status."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "a token that the gateway takes for its clusters"},
            "certificate": {"type": "mutualTLS"}}},
        "security": [{"bearer": []}, {"certificate": []}],
    })
}

fn operation(route: &Route, schemas: &mut schemars::SchemaGenerator) -> Value {
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = route.parameters.iter().map(|parameter| {
        let kind = match parameter.kind {
            ParameterType::String => json!({"type": "string"}),
            ParameterType::Integer => json!({"type": "integer", "minimum": 0}),
            ParameterType::Boolean => json!({"type": "boolean"}),
        };
        json!({"name": parameter.name, "in": "query", "description": parameter.description, "schema": kind})
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let content = match &route.answer {
        ResponseContent::Json(schema) => json!({"application/json": {"schema": schema(schemas)}}),
        ResponseContent::Bytes => json!({"application/octet-stream": {}}),
    };
    let error =
        json!({"description": "an error", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status-metav1"}}}});
    let name = route.path.trim_start_matches("/postern/v1/").replace(['/', '{', '}'], " ");
    let name: Vec<&str> = name.split_whitespace().collect();
    let mut operation = json!({
        "operationId": format!("{}-{}", route.method.to_ascii_lowercase(), name.join("-")),
        "summary": route.summary,
        "description": route.who_may,
        "parameters": parameters,
        "responses": {"200": {"description": "done", "content": content}, "default": error},
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": body(schemas)}}});
    }
    operation
}

/// `metav1.Status`, as far as the gateway writes it.
fn status() -> Value {
    json!({"type": "object", "required": ["kind", "apiVersion", "status", "message", "reason", "code"], "properties": {
        "kind": {"const": "Status"}, "apiVersion": {"const": "v1"}, "status": {"const": "Failure"},
        "message": {"type": "string"}, "reason": {"type": "string"}, "code": {"type": "integer"}}})
}
