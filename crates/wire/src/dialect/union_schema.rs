//! Schemas of functions with a union at the root, for upstreams that take objects only.

use super::members::{Edit, edit_object};
use crate::json::{self, each_element, each_member};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

const UNIONS: [&str; 3] = ["oneOf", "anyOf", "allOf"];

/// An object that takes what any branch of the union takes; `None` if the root is no union. The arguments keep
/// their form, so nothing is to be undone in the reply.
pub(super) fn as_object(schema: &RawValue) -> Option<String> {
    let [one_of, any_of, properties] =
        json::members(schema.get().as_bytes(), ["oneOf", "anyOf", "properties"])?;
    let union = one_of.or(any_of)?;
    let mut merged = Merged::default();
    merged.add_properties(properties);
    each_element(union.get(), |branch| merged.add_branch(branch)).ok()?;
    let rest = edit_object(schema.get(), |name, _| {
        let is_replaced =
            UNIONS.contains(&name) || matches!(name, "type" | "properties" | "required");
        if is_replaced { Edit::Drop } else { Edit::Keep }
    });
    let rest = rest.unwrap_or_default();
    let rest = rest.trim_start_matches('{').strip_suffix('}').unwrap_or_default();
    let comma = if rest.is_empty() { "" } else { "," };
    Some(format!("{{\"type\":\"object\",{}{comma}{rest}}}", merged.members()))
}

/// The properties of all branches.
#[derive(Default)]
struct Merged {
    names: BTreeSet<String>,
    properties: Vec<String>,
    /// Required by every branch so far.
    required: Option<BTreeSet<String>>,
}

impl Merged {
    fn add_branch(&mut self, branch: &RawValue) {
        let names = ["properties", "required"];
        let [properties, required] =
            json::members(branch.get().as_bytes(), names).unwrap_or_default();
        self.add_properties(properties);
        let required: BTreeSet<String> = required
            .and_then(|raw| serde_json::from_str::<Vec<String>>(raw.get()).ok())
            .unwrap_or_default()
            .into_iter()
            .collect();
        self.required = Some(match self.required.take() {
            Some(before) => before.intersection(&required).cloned().collect(),
            None => required,
        });
    }

    /// Of a property that several branches have, the first counts.
    fn add_properties(&mut self, properties: Option<&RawValue>) {
        let Some(properties) = properties else { return };
        let _ = each_member(properties.get(), |name, value| {
            if self.names.insert(name.clone().into_owned()) {
                self.properties.push(format!("{}:{}", Value::from(&*name), value.get()));
            }
        });
    }

    fn members(&self) -> String {
        let required: Vec<_> = self.required.iter().flatten().cloned().collect();
        let properties = self.properties.join(",");
        format!("\"properties\":{{{properties}}},\"required\":{}", Value::from(required))
    }
}
