//! Tracks which output of a response was counted: deltas, the events at the end of a text or an item, and the
//! final response repeat the same output, and any of them may be missing.

use crate::output::{self, OutputKind, OutputPiece};
use crate::stream_reader::UsageSink;
use std::collections::BTreeMap;

/// Items that are tracked separately. Output of further ones may count twice where no usage is reported.
const MAX_ITEMS: usize = 1024;

/// The kinds of output that were counted, by the index of their item.
#[derive(Default)]
pub(super) struct CountedOutput(BTreeMap<u64, CountedItem>);

#[derive(Default)]
struct CountedItem {
    id: Option<String>,
    /// One bit for each kind.
    kinds: u8,
}

impl CountedOutput {
    /// The kinds that were counted for the item at this index.
    pub fn of_lane(&self, lane: u64) -> u8 {
        self.0.get(&lane).map_or(0, |item| item.kinds)
    }

    /// The kinds that were counted for any item.
    pub fn of_all(&self) -> u8 {
        self.0.values().fold(0, |kinds, item| kinds | item.kinds)
    }

    /// The kinds that were counted for the item with this id; its index may differ in the final response.
    pub fn of_item(&self, id: &str) -> Option<u8> {
        self.0.values().find(|item| item.id.as_deref() == Some(id)).map(|item| item.kinds)
    }

    /// Records the id of the item at an index, once.
    pub fn set_id(&mut self, lane: u64, id: impl FnOnce() -> Option<String>) {
        if let Some(item) = self.item(lane).filter(|item| item.id.is_none()) {
            item.id = id();
        }
    }

    /// Counts a piece of an unfinished item.
    pub fn add_piece(&mut self, lane: u64, piece: OutputPiece<'_>, to: &mut dyn UsageSink) {
        self.mark(lane, bit(piece));
        to.on_output(lane, piece);
    }

    /// Counts the output in the value of a member, except of the kinds in `before`.
    pub fn add_rest(
        &mut self,
        lane: u64,
        before: u8,
        (name, kind): (&str, OutputKind),
        json: &str,
        to: &mut dyn UsageSink,
    ) {
        let mut kinds = 0;
        output::each(kind, name, json, &mut |piece| {
            let bit = bit(piece);
            if before & bit == 0 {
                kinds |= bit;
                to.on_output(lane, piece);
            }
        });
        self.mark(lane, kinds);
    }

    fn mark(&mut self, lane: u64, kinds: u8) {
        if let Some(item) = self.item(lane) {
            item.kinds |= kinds;
        }
    }

    fn item(&mut self, lane: u64) -> Option<&mut CountedItem> {
        if self.0.len() >= MAX_ITEMS && !self.0.contains_key(&lane) {
            return None;
        }
        Some(self.0.entry(lane).or_default())
    }
}

fn bit(piece: OutputPiece<'_>) -> u8 {
    match piece {
        OutputPiece::Text(OutputKind::Content, _) => 1,
        OutputPiece::Text(OutputKind::Reasoning, _) => 2,
        OutputPiece::Text(OutputKind::Refusal, _) => 4,
        OutputPiece::Text(OutputKind::ToolName, _) => 8,
        OutputPiece::Text(OutputKind::ToolArguments, _) => 16,
        OutputPiece::Image => 32,
        OutputPiece::Media(_) => 64,
        OutputPiece::Sealed(_) => 128,
    }
}
