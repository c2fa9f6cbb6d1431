//! What has been told of a response, so that nothing counts twice: deltas, the events at the end of a text or
//! an item, and the response at the end all say the same, and any of them may be missing.

use crate::openai::follow::Listener;
use crate::openai::output::{self, Kind, Piece};
use std::collections::BTreeMap;

/// Items that are kept apart. Of those beyond, output may count twice where no usage is reported.
const MAX_ITEMS: usize = 1024;

/// The kinds of output that have been told, by the place of their item.
#[derive(Default)]
pub(super) struct Told(BTreeMap<u64, Item>);

#[derive(Default)]
struct Item {
    id: Option<String>,
    /// One bit for each kind.
    kinds: u8,
}

impl Told {
    /// The kinds that have been told of the item at this place.
    pub fn of_lane(&self, lane: u64) -> u8 {
        self.0.get(&lane).map_or(0, |item| item.kinds)
    }

    /// The kinds that have been told of anything.
    pub fn of_all(&self) -> u8 {
        self.0.values().fold(0, |kinds, item| kinds | item.kinds)
    }

    /// The kinds that have been told of the item with this id, which may have another place at the end.
    pub fn of_item(&self, id: &str) -> Option<u8> {
        self.0.values().find(|item| item.id.as_deref() == Some(id)).map(|item| item.kinds)
    }

    /// Notes the id of the item at a place, once.
    pub fn name(&mut self, lane: u64, id: impl FnOnce() -> Option<String>) {
        if let Some(item) = self.item(lane).filter(|item| item.id.is_none()) {
            item.id = id();
        }
    }

    /// Tells a piece of an item that goes on.
    pub fn piece(&mut self, lane: u64, piece: Piece<'_>, to: &mut dyn Listener) {
        self.mark(lane, bit(piece));
        to.output(lane, piece);
    }

    /// Tells what the value of a member says in kinds that are not in `before`.
    pub fn rest(
        &mut self,
        lane: u64,
        before: u8,
        (name, kind): (&str, Kind),
        json: &str,
        to: &mut dyn Listener,
    ) {
        let mut kinds = 0;
        output::each(kind, name, json, &mut |piece| {
            let bit = bit(piece);
            if before & bit == 0 {
                kinds |= bit;
                to.output(lane, piece);
            }
        });
        self.mark(lane, kinds);
    }

    fn mark(&mut self, lane: u64, kinds: u8) {
        if let Some(item) = self.item(lane) {
            item.kinds |= kinds;
        }
    }

    fn item(&mut self, lane: u64) -> Option<&mut Item> {
        if self.0.len() >= MAX_ITEMS && !self.0.contains_key(&lane) {
            return None;
        }
        Some(self.0.entry(lane).or_default())
    }
}

fn bit(piece: Piece<'_>) -> u8 {
    match piece {
        Piece::Text(Kind::Content, _) => 1,
        Piece::Text(Kind::Reasoning, _) => 2,
        Piece::Text(Kind::Refusal, _) => 4,
        Piece::Text(Kind::ToolName, _) => 8,
        Piece::Text(Kind::ToolArguments, _) => 16,
        Piece::Image => 32,
        Piece::Media(_) => 64,
        Piece::Sealed(_) => 128,
    }
}
