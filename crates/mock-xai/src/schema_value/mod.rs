//! Values that fit a JSON schema: arguments of calls and structured output.
//!
//! Pure and deterministic. Any schema ends: depth, steps and the size of a value are bounded, and a schema that needs
//! more gets a value cut short.

mod scalars;

use serde_json::{Map, Value};

/// Levels of a value.
const MAX_DEPTH: usize = 24;
/// Levels down to which optional properties and elements are there.
const OPTIONAL_DEPTH: usize = 3;
/// Schemas that are visited for one value.
const MAX_STEPS: usize = 20_000;
/// Bytes of the texts in one value.
const MAX_BYTES: usize = 256 * 1024;
/// Schemas that apply together to one value.
const MAX_LAYERS: usize = 64;
/// Elements of an array, and properties that a schema demands without naming them.
const MAX_ELEMENTS: usize = 100;

type Schema = Map<String, Value>;

/// A value that the schema accepts, as far as its keywords are known: types, `enum`, `const`, bounds, properties,
/// elements, unions, `allOf` and references within the schema. The same schema gives the same value.
pub fn value_for(schema: &Value) -> Value {
    let mut generator = Generator { root: schema, steps: MAX_STEPS, bytes: MAX_BYTES };
    generator.value(&[schema], 0, 0)
}

struct Generator<'a> {
    root: &'a Value,
    steps: usize,
    bytes: usize,
}

impl<'a> Generator<'a> {
    /// A value that all of `schemas` accept. `index` varies elements that must differ.
    fn value(&mut self, schemas: &[&'a Value], depth: usize, index: usize) -> Value {
        let mut layers = Vec::new();
        for schema in schemas {
            self.add_layers(schema, 0, &mut layers);
        }
        if depth > MAX_DEPTH || self.steps == 0 {
            return Value::Null;
        }
        if let Some(chosen) = chosen(&layers, index) {
            return self.copy(chosen);
        }
        match kind(&layers) {
            "object" => self.object(&layers, depth),
            "array" => self.array(&layers, depth),
            "integer" => scalars::number(&layers, true, index),
            "number" => scalars::number(&layers, false, index),
            "boolean" => Value::Bool(index.is_multiple_of(2)),
            "null" => Value::Null,
            _ => {
                let text = scalars::string(&layers, index, self.bytes);
                self.bytes -= text.len().min(self.bytes);
                Value::String(text)
            }
        }
    }

    /// The schema and all that apply with it: what it refers to, every part of `allOf`, one branch of each union.
    fn add_layers(&mut self, schema: &'a Value, depth: usize, layers: &mut Vec<&'a Schema>) {
        let has_room = depth <= MAX_DEPTH && self.steps > 0 && layers.len() < MAX_LAYERS;
        let Some(members) = schema.as_object().filter(|_| has_room) else { return };
        self.steps -= 1;
        layers.push(members);
        let target = members.get("$ref").and_then(Value::as_str);
        if let Some(target) = target.and_then(|target| self.resolve(target)) {
            self.add_layers(target, depth + 1, layers);
        }
        for part in members.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.add_layers(part, depth + 1, layers);
        }
        for union in ["anyOf", "oneOf"] {
            let branches = members.get(union).and_then(Value::as_array);
            let branch = branches.and_then(|all| {
                all.iter().find(|branch| branch["type"] != "null").or_else(|| all.first())
            });
            if let Some(branch) = branch {
                self.add_layers(branch, depth + 1, layers);
            }
        }
    }

    /// The part of the schema that a reference within it names.
    fn resolve(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }

    /// A copy of a value that the schema lists.
    fn copy(&mut self, value: &Value) -> Value {
        let len = value.to_string().len();
        if len > self.bytes {
            self.steps = 0;
            return Value::Null;
        }
        self.bytes -= len;
        value.clone()
    }

    fn has_room_for_optional(&self, depth: usize) -> bool {
        depth < OPTIONAL_DEPTH && self.steps > MAX_STEPS / 2 && self.bytes > MAX_BYTES / 2
    }

    fn object(&mut self, layers: &[&'a Schema], depth: usize) -> Value {
        let mut object = Map::new();
        let required = layers.iter().filter_map(|layer| layer.get("required")?.as_array());
        for name in required.flatten().filter_map(Value::as_str) {
            self.add_property(name, layers, depth, &mut object);
        }
        let properties = layers.iter().filter_map(|layer| layer.get("properties")?.as_object());
        for name in properties.flat_map(Map::keys) {
            if self.has_room_for_optional(depth) {
                self.add_property(name, layers, depth, &mut object);
            }
        }
        let least = bound(layers, "minProperties").map_or(0, |least| least.min(MAX_ELEMENTS));
        for number in 0..least.saturating_sub(object.len()) {
            self.add_property(&format!("property{number}"), layers, depth, &mut object);
        }
        Value::Object(object)
    }

    fn add_property(
        &mut self,
        name: &str,
        layers: &[&'a Schema],
        depth: usize,
        object: &mut Map<String, Value>,
    ) {
        if object.contains_key(name) || name.len() > self.bytes || self.steps == 0 {
            return;
        }
        self.steps -= 1;
        self.bytes -= name.len();
        let of_layer = |layer: &&'a Schema| layer.get("properties")?.get(name);
        let mut schemas: Vec<&Value> = layers.iter().filter_map(of_layer).collect();
        if schemas.is_empty() {
            schemas.extend(layers.iter().filter_map(|layer| layer.get("additionalProperties")));
        }
        let value = self.value(&schemas, depth + 1, 0);
        object.insert(name.to_owned(), value);
    }

    fn array(&mut self, layers: &[&'a Schema], depth: usize) -> Value {
        let tuple = layers.iter().find_map(|layer| {
            layer.get("prefixItems").or(layer.get("items")).and_then(Value::as_array)
        });
        let tuple: &[Value] = tuple.map_or(&[], Vec::as_slice);
        let items: Vec<&Value> = layers
            .iter()
            .filter_map(|layer| layer.get("items"))
            .filter(|it| !it.is_array())
            .collect();
        let least = bound(layers, "minItems").unwrap_or(0);
        let wanted = if self.has_room_for_optional(depth) { tuple.len().max(1) } else { 0 };
        let most = bound(layers, "maxItems").unwrap_or(usize::MAX);
        let count = wanted.min(most).max(least).min(MAX_ELEMENTS);
        let differ =
            layers.iter().any(|layer| layer.get("uniqueItems") == Some(&Value::Bool(true)));
        let element = |index: usize| match tuple.get(index) {
            Some(schema) => self.value(&[schema], depth + 1, 0),
            None => self.value(&items, depth + 1, if differ { index } else { 0 }),
        };
        Value::Array((0..count).map(element).collect())
    }
}

/// The value that a `const` or an `enum` demands.
fn chosen<'a>(layers: &[&'a Schema], index: usize) -> Option<&'a Value> {
    let constant = layers.iter().find_map(|layer| layer.get("const"));
    constant.or_else(|| {
        let listed = |layer: &&'a Schema| {
            let values = layer.get("enum")?.as_array()?;
            values.get(index % values.len().max(1))
        };
        layers.iter().find_map(listed)
    })
}

/// The type of the value: the named one, or the one that the keywords are for.
fn kind<'a>(layers: &[&'a Schema]) -> &'a str {
    let named = layers.iter().filter_map(|layer| match layer.get("type")? {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    });
    let named: Vec<&str> = named.collect();
    if named.contains(&"integer") {
        return "integer";
    }
    let has = |keywords: &[&str]| {
        keywords.iter().any(|keyword| layers.iter().any(|layer| layer.contains_key(*keyword)))
    };
    match named.first() {
        Some(kind) => kind,
        None if has(&["properties", "required", "additionalProperties", "minProperties"]) => {
            "object"
        }
        None if has(&["items", "prefixItems", "minItems", "maxItems"]) => "array",
        None if has(&[
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
        ]) =>
        {
            "number"
        }
        None => "string",
    }
}

/// A bound on a length or a count; of several, the first.
fn bound(layers: &[&Schema], keyword: &str) -> Option<usize> {
    let bound = layers.iter().find_map(|layer| layer.get(keyword)?.as_u64())?;
    Some(usize::try_from(bound).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
