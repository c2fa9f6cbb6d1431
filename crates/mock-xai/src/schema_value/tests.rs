use super::*;
use serde_json::json;

#[test]
fn values_fit_their_schemas() {
    let cases = [
        (json!({}), json!("Paris")),
        (json!(true), json!("Paris")),
        (json!({"type": "boolean"}), json!(true)),
        (json!({"type": ["null", "integer"]}), json!(1)),
        (json!({"const": {"a": [1]}}), json!({"a": [1]})),
        (json!({"type": "string", "enum": ["c", "d"]}), json!("c")),
        (json!({"type": "integer", "minimum": 5, "maximum": 9}), json!(5)),
        (json!({"type": "integer", "exclusiveMaximum": -3}), json!(-4)),
        (json!({"type": "integer", "minimum": 7, "multipleOf": 5}), json!(10)),
        (json!({"type": "number", "minimum": 0.1, "maximum": 0.3}), json!(0.3)),
        (json!({"type": "string", "maxLength": 2}), json!("Pa")),
        (json!({"type": "string", "minLength": 7}), json!("ParisParis")),
        (json!({"type": "string", "format": "date"}), json!("2026-01-01")),
        (json!({"type": "array", "items": {"type": "integer"}, "minItems": 2}), json!([1, 1])),
        (
            json!({"type": "array", "uniqueItems": true, "minItems": 3, "items": {"enum": [4, 5, 6]}}),
            json!([4, 5, 6]),
        ),
        (json!({"prefixItems": [{"type": "null"}, {"const": 2}]}), json!([null, 2])),
        (json!({"anyOf": [{"type": "null"}, {"type": "integer"}]}), json!(1)),
        (json!({"type": "object", "minProperties": 1}), json!({"property0": "Paris"})),
    ];
    for (schema, value) in cases {
        assert_eq!(value_for(&schema), value, "{schema}");
    }
}

#[test]
fn all_parts_of_a_schema_apply_together() {
    let schema = json!({
        "$defs": {"city": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        "allOf": [{"$ref": "#/$defs/city"}, {"properties": {"days": {"type": "number"}}}],
        "properties": {"days": {"minimum": 3}},
        "oneOf": [{"required": ["unit"], "properties": {"unit": {"const": "C"}}}, {"required": ["other"]}],
        "required": ["more"], "additionalProperties": {"type": "boolean"},
    });
    let value = json!({"name": "Paris", "days": 3, "unit": "C", "more": true});
    assert_eq!(value_for(&schema), value);
}

#[test]
fn recursive_schemas_end_with_what_is_required() {
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "left": {"$ref": "#"}, "right": {"$ref": "#"},
    }, "required": ["name"]});
    let text = value_for(&schema).to_string();
    assert!(text.len() < 1_000 && text.contains(r#""right":{"name":"Paris"}"#), "{text}");
    let endless =
        json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]});
    assert!(value_for(&endless).to_string().len() < 1_000);
}

#[test]
fn hostile_schemas_are_cut_short() {
    let twice = |level: usize| json!({"$ref": format!("#/$defs/{}", level + 1)});
    let defs: Map<String, Value> = (0..100)
        .map(|level| (level.to_string(), json!({"allOf": [twice(level), twice(level)]})))
        .collect();
    let large = json!({"const": "x".repeat(300_000)});
    let many: Map<String, Value> =
        (0..5_000).map(|n| (n.to_string(), json!({"$ref": "#/large"}))).collect();
    let names: Vec<String> = many.keys().cloned().collect();
    for schema in [
        json!({"$ref": "#/$defs/0", "$defs": defs}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"type": "array", "minItems": u64::MAX, "items": {"type": "array", "minItems": 1e300, "items": {"$ref": "#"}}}),
        json!({"type": "string", "minLength": u64::MAX}),
        json!({"type": "string", "minLength": 9, "maxLength": 1}),
        json!({"type": "integer", "minimum": 9, "maximum": 1, "multipleOf": 0}),
        json!({"type": "number", "minimum": 1e308, "multipleOf": 1e-300}),
        json!({"type": "object", "properties": many, "required": names, "large": large}),
        json!({"enum": [], "type": [], "items": [], "required": [3], "anyOf": [], "$ref": "#/x/y"}),
        json!({"type": "object", "minProperties": u64::MAX, "additionalProperties": {"type": "string", "minLength": 9000}}),
    ] {
        assert!(value_for(&schema).to_string().len() < 2 * MAX_BYTES, "{schema:.200}");
    }
}
