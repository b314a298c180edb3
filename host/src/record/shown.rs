//! An operation in a line, as people read it.

use serde_json::Value;

/// The operation of an audit event, or of a stream's header, as it would be typed. What a caller wrote in it is as they wrote it.
pub fn operation_of(event: &Value) -> String {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or("-");
    let mut operation = match event["target"].as_object() {
        Some(_) => {
            let part =
                |path: &str, mark: &str| event.pointer(path).and_then(Value::as_str).map(|v| format!("{mark}{v}")).unwrap_or_default();
            let resource = format!("{}{}", text("/target/resource"), part("/target/subresource", "/"));
            format!("{} {resource}{}{}", text("/verb"), part("/target/namespace", " -n "), part("/target/name", " "))
        }
        None => format!("{} {}", text("/method"), text("/path")),
    };
    if let Some(argv) = event.pointer("/command/argv").and_then(Value::as_array) {
        operation += &format!(" -- {}", argv.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
    }
    if let Some(by) = event["approvedBy"].as_array() {
        operation += &format!("  (approved by {})", by.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
    }
    if let Some(why) = event["refusal"].as_str() {
        operation += &format!("  ({why})");
    }
    operation
}
