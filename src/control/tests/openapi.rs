//! The OpenAPI document.

use super::*;

#[tokio::test]
async fn the_description_is_whole() {
    let control = control().await;
    let reply = control.get("/api/openapi.json", None).await;
    assert!(reply.header("etag").starts_with("W/"));
    let document = reply.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{what}");
            assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{what}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let is_error = status.as_str() >= "400" && !path.starts_with("/health");
                if is_error {
                    let schema = &response["content"]["application/json"]["schema"]["$ref"];
                    let is_anthropics = path.starts_with("/v1/messages");
                    let name = if is_anthropics { "MessagesError" } else { "ErrorBody" };
                    let expected = format!("#/components/schemas/{name}");
                    assert_eq!(*schema, expected, "{what} {status}");
                }
            }
        }
    }
    let mut references = Vec::new();
    collect(&document, &mut references);
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "$ref" => references.push(text.to_owned()),
                    _ => collect(value, references),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}
