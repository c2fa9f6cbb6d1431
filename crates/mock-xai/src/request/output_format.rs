//! Structured output: JSON that fits what a request demands.

use super::InvalidBody;
use crate::schema_value::value_for;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The text of an answer in the format that `format` demands: the `response_format` of chat, `text.format` of
/// responses, `output_config.format` of messages. `None` for plain text.
///
/// # Errors
/// A format that is nested too deep.
pub fn structured_text(format: Option<&RawValue>) -> Result<Option<String>, InvalidBody> {
    let Some(format) = format else { return Ok(None) };
    let format: Value = serde_json::from_str(format.get())?;
    let value = match format["type"].as_str() {
        Some("json_object") => json!({"answer": "Paris"}),
        // Chat nests the schema.
        Some("json_schema") => {
            let schema = format["json_schema"].get("schema").or(format.get("schema"));
            schema.map_or_else(|| json!({}), value_for)
        }
        _ => return Ok(None),
    };
    Ok(Some(value.to_string()))
}
