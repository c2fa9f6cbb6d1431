//! Collects the output of a response, for the closing event that the gateway writes: it repeats all whole
//! items and the text of the one that was cut.

use crate::json;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most bytes to collect. Beyond it the closing event repeats no output.
const MAX_BYTES: usize = 256 * 1024;

/// Items by their index in the output.
#[derive(Default)]
pub(super) struct PartialOutput {
    items: BTreeMap<u64, PartialItem>,
    /// Index and length of the latest delta, removed again if its event was not relayed.
    latest: Option<(u64, usize)>,
    bytes: usize,
}

enum PartialItem {
    Whole(Box<RawValue>),
    Text { id: Option<String>, text: String },
}

impl PartialOutput {
    /// Begins a new event; the delta before it has been relayed.
    pub fn next_event(&mut self) {
        self.latest = None;
    }

    /// Appends a piece of a message's text.
    pub fn add_delta(&mut self, place: u64, id: Option<String>, delta: &RawValue) {
        let delta = json::text(delta);
        if !self.has_room(delta.len()) {
            return;
        }
        let item = self.items.entry(place);
        let item = item.or_insert_with(|| PartialItem::Text { id, text: String::new() });
        if let PartialItem::Text { text, .. } = item {
            text.push_str(&delta);
            self.latest = Some((place, delta.len()));
        }
    }

    /// Stores a finished item in place of its pieces.
    pub fn set_item(&mut self, place: u64, item: &RawValue) {
        if self.has_room(item.get().len()) {
            self.items.insert(place, PartialItem::Whole(item.to_owned()));
        }
    }

    fn has_room(&mut self, more: usize) -> bool {
        self.bytes = self.bytes.saturating_add(more);
        if self.bytes > MAX_BYTES {
            self.items.clear();
        }
        self.bytes <= MAX_BYTES
    }

    /// Returns the output without the latest delta, which was not relayed.
    pub fn output(&mut self) -> Vec<Value> {
        if let Some((place, length)) = self.latest.take()
            && let Some(PartialItem::Text { text, .. }) = self.items.get_mut(&place)
        {
            text.truncate(text.len().saturating_sub(length));
        }
        let items = std::mem::take(&mut self.items).into_iter();
        items.filter_map(|(place, item)| item.into_value(place)).collect()
    }
}

impl PartialItem {
    /// Clients require an id, and some servers send none with the pieces.
    fn into_value(self, place: u64) -> Option<Value> {
        match self {
            Self::Whole(item) => serde_json::from_str(item.get()).ok(),
            Self::Text { text, .. } if text.is_empty() => None,
            Self::Text { id, text } => Some(json!({
                "id": id.unwrap_or_else(|| format!("msg_{place}")), "type": "message", "status": "incomplete", "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": []}],
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    fn texts(partial_output: &mut PartialOutput) -> Vec<Value> {
        partial_output.output().iter().map(|item| item["content"][0]["text"].clone()).collect()
    }

    #[test]
    fn the_latest_delta_is_left_out_unless_another_event_came_after_it() {
        let mut partial_output = PartialOutput::default();
        for delta in ["caf\u{e9}", " ", "\u{1f980}"] {
            partial_output.next_event();
            partial_output.add_delta(0, None, &raw(&json!(delta)));
        }
        partial_output.next_event();
        partial_output.add_delta(1, None, &raw(&json!("unsaid")));
        assert_eq!(texts(&mut partial_output), ["caf\u{e9} \u{1f980}"]);
        partial_output.next_event();
        partial_output.add_delta(0, None, &raw(&json!("said")));
        partial_output.next_event();
        assert_eq!(texts(&mut partial_output), ["said"]);
    }

    #[test]
    fn a_whole_item_takes_the_place_of_its_pieces() {
        let mut partial_output = PartialOutput::default();
        partial_output.add_delta(0, None, &raw(&json!("piece")));
        partial_output.next_event();
        let item = json!({"id": "m", "content": [{"text": "whole"}]});
        partial_output.set_item(0, &raw(&item));
        assert_eq!(partial_output.output(), [item]);
    }

    #[test]
    fn beyond_its_limit_nothing_is_stored() {
        let mut partial_output = PartialOutput::default();
        for _ in 0..100 {
            partial_output.next_event();
            partial_output.add_delta(0, None, &raw(&json!("x".repeat(4096))));
        }
        assert!(partial_output.items.is_empty());
        assert_eq!(partial_output.output(), Vec::<Value>::new());
    }
}
