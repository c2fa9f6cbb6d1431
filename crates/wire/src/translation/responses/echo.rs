//! The members of a response that repeat its request. Clients expect all of them.

use crate::translation::json_writer::JsonWriter;
use crate::translation::object::Object;

/// The most bytes of instructions and tools that are repeated; larger ones are left out.
const MAX_REPEATED_BYTES: usize = 128 * 1024;

/// Members that repeat the request, with what stands for one that is missing.
const MEMBERS: [(&str, &str); 17] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

/// The members of a request that its response repeats, as JSON without braces. Nothing is stored at the upstream,
/// whatever the request says.
pub(in crate::translation) fn of_request(body: &Object<'_>) -> String {
    let json = JsonWriter::object_text(|object| {
        object.flag("background", false).null("previous_response_id").flag("store", false);
        for (name, missing) in MEMBERS {
            let value = body.get(name).map_or(missing, serde_json::value::RawValue::get);
            object.json(name, if value.len() > MAX_REPEATED_BYTES { missing } else { value });
        }
    });
    // Events are written on one line; a line break in JSON is always between two values.
    let members = json.strip_prefix('{').and_then(|json| json.strip_suffix('}'));
    members.unwrap_or_default().replace(['\n', '\r'], " ")
}
