//! Schemas of functions with a union at the root, for upstreams that take objects only.

use super::members::{Edit, edit_object};
use crate::json::{self, each_element, each_member};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};

const UNIONS: [&str; 2] = ["oneOf", "anyOf"];
/// Members of the root that the merged ones replace.
const MERGED: [&str; 6] = ["oneOf", "anyOf", "allOf", "type", "properties", "required"];
/// Members with parts that a reference can name.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Levels of unions and references.
const MAX_DEPTH: usize = 16;
/// A schema is read at most about this many times, however often its parts refer to each other.
const MAX_READS: usize = 16;
/// The most schemas of one property.
const MAX_ALTERNATIVES: usize = 32;

/// An object that takes what any branch of the union takes; `None` if the root is no union. The arguments keep
/// their form, so nothing is to be undone in the reply.
pub(super) fn as_object(schema: &RawValue) -> Option<String> {
    let unions = json::members(schema.get().as_bytes(), UNIONS)?;
    if unions.iter().all(Option::is_none) {
        return None;
    }
    let mut merged = Merged::of(schema);
    let required = merged.add(schema, 0);
    let rest = edit_object(schema.get(), |name, _| {
        if MERGED.contains(&name) || name == "$ref" { Edit::Drop } else { Edit::Keep }
    });
    let rest = rest.unwrap_or_default();
    let rest = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    let comma = if rest.is_empty() { "" } else { "," };
    let (properties, required) = (merged.properties(), Value::from_iter(required));
    Some(format!(
        "{{\"type\":\"object\",\"properties\":{{{properties}}},\"required\":{required}{comma}{rest}}}"
    ))
}

/// The properties of all parts of a schema.
struct Merged<'a> {
    /// Parts that references name.
    definitions: HashMap<String, &'a RawValue>,
    /// Bytes that may still be read.
    work: usize,
    /// In the order in which they are found, each with the schemas that it has in the parts.
    properties: Vec<(String, Vec<&'a RawValue>)>,
    places: HashMap<String, usize>,
}

impl<'a> Merged<'a> {
    fn of(root: &'a RawValue) -> Self {
        let mut definitions = HashMap::from([("#".to_owned(), root)]);
        for group in DEFINITIONS {
            let [parts] = json::members(root.get().as_bytes(), [group]).unwrap_or_default();
            let _ = each_member(parts.map_or("{}", RawValue::get), |name, part| {
                definitions.insert(format!("#/{group}/{name}"), part);
            });
        }
        let work = root.get().len().saturating_mul(MAX_READS);
        Self { definitions, work, properties: Vec::new(), places: HashMap::new() }
    }

    /// Adds a part; returns the properties that it requires: its own, those of all that apply with it, and those that
    /// every branch of a union requires.
    fn add(&mut self, part: &'a RawValue, depth: usize) -> BTreeSet<String> {
        let len = part.get().len();
        if depth > MAX_DEPTH || self.work < len {
            return BTreeSet::new();
        }
        self.work -= len;
        let names = ["properties", "required", "$ref", "allOf", "oneOf", "anyOf"];
        let [properties, required, reference, all_of, one_of, any_of] =
            json::members(part.get().as_bytes(), names).unwrap_or_default();
        let _ = each_member(properties.map_or("{}", RawValue::get), |name, schema| {
            self.add_property(&name, schema);
        });
        let mut names = texts(required);
        let target =
            reference.map(json::text).and_then(|name| self.definitions.get(&*name).copied());
        if let Some(target) = target {
            names.append(&mut self.add(target, depth + 1));
        }
        let _ = each_element(all_of.map_or("[]", RawValue::get), |part| {
            names.append(&mut self.add(part, depth + 1));
        });
        for union in [one_of, any_of] {
            let mut shared: Option<BTreeSet<String>> = None;
            let _ = each_element(union.map_or("[]", RawValue::get), |branch| {
                let required = self.add(branch, depth + 1);
                shared = Some(match shared.take() {
                    Some(shared) => shared.intersection(&required).cloned().collect(),
                    None => required,
                });
            });
            names.extend(shared.unwrap_or_default());
        }
        names
    }

    fn add_property(&mut self, name: &str, schema: &'a RawValue) {
        let Some(place) = self.places.get(name) else {
            self.places.insert(name.to_owned(), self.properties.len());
            self.properties.push((name.to_owned(), vec![schema]));
            return;
        };
        let Some((_, schemas)) = self.properties.get_mut(*place) else { return };
        let is_known = |known: &&RawValue| known.get() == schema.get();
        if schemas.len() < MAX_ALTERNATIVES && !schemas.iter().any(is_known) {
            schemas.push(schema);
        }
    }

    /// The members of `properties`. A property that the parts describe differently takes what any of them takes.
    fn properties(&self) -> String {
        let property = |(name, schemas): &(String, Vec<&RawValue>)| {
            let name = Value::from(&**name);
            match &schemas[..] {
                [schema] => format!("{name}:{}", schema.get()),
                several => {
                    let several: Vec<_> = several.iter().map(|schema| schema.get()).collect();
                    format!("{name}:{{\"anyOf\":[{}]}}", several.join(","))
                }
            }
        };
        self.properties.iter().map(property).collect::<Vec<_>>().join(",")
    }
}

fn texts(list: Option<&RawValue>) -> BTreeSet<String> {
    let list = list.and_then(|raw| serde_json::from_str::<Vec<String>>(raw.get()).ok());
    list.unwrap_or_default().into_iter().collect()
}
