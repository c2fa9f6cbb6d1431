//! A reply that is read step by step, and the writers that follow it.

use super::event::{Failure, StopReason};
use crate::usage::Usage;

/// A reply, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The upstream's name of the model.
    pub model: String,
    /// Unix time in seconds.
    pub created_at: u64,
    pub items: Vec<OutputItem>,
    pub usage: Option<Usage>,
    pub stop: Option<StopReason>,
}

/// One item of the output.
#[derive(Debug)]
pub(super) struct OutputItem {
    pub kind: ItemKind,
    /// Text, reasoning, or the input of a call; empty where the writer needs no whole texts.
    pub text: String,
    /// Sealed reasoning.
    pub encrypted: Option<String>,
    /// False if the reply ended in the middle of it.
    pub is_complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ItemKind {
    Text,
    Refusal,
    Reasoning,
    Function { call_id: String, namespace: Option<String>, name: String },
    Custom { call_id: String, namespace: Option<String>, name: String },
    Search { id: String, query: String },
}

impl ItemKind {
    /// True for calls that the client answers.
    pub fn is_call(&self) -> bool {
        matches!(self, Self::Function { .. } | Self::Custom { .. })
    }
}

impl Reply {
    /// True if the client has calls to answer.
    pub fn has_calls(&self) -> bool {
        self.items.iter().any(|item| item.kind.is_call())
    }

    /// The texts of all items of a kind, one after another.
    pub fn text_of(&self, kind: &ItemKind) -> String {
        self.items.iter().filter(|item| item.kind == *kind).map(|item| &*item.text).collect()
    }
}

/// Writes a stream while its reply is read. Each step appends its events to `out`.
pub(super) trait StreamWriter: Send {
    fn started(&mut self, reply: &Reply, out: &mut Vec<u8>);
    /// The item at `index` has begun.
    fn opened(&mut self, index: usize, item: &OutputItem, out: &mut Vec<u8>);
    /// The item has more text.
    fn grew(&mut self, index: usize, item: &OutputItem, text: &str, out: &mut Vec<u8>);
    fn closed(&mut self, index: usize, item: &OutputItem, out: &mut Vec<u8>);
    /// The reply is complete.
    fn ended(&mut self, reply: &Reply, out: &mut Vec<u8>);
    fn failed(&mut self, reply: &Reply, failure: &Failure, out: &mut Vec<u8>);
}

/// Follows a reply that is written as a whole.
pub(super) struct NoStream;

impl StreamWriter for NoStream {
    fn started(&mut self, _: &Reply, _: &mut Vec<u8>) {}
    fn opened(&mut self, _: usize, _: &OutputItem, _: &mut Vec<u8>) {}
    fn grew(&mut self, _: usize, _: &OutputItem, _: &str, _: &mut Vec<u8>) {}
    fn closed(&mut self, _: usize, _: &OutputItem, _: &mut Vec<u8>) {}
    fn ended(&mut self, _: &Reply, _: &mut Vec<u8>) {}
    fn failed(&mut self, _: &Reply, _: &Failure, _: &mut Vec<u8>) {}
}
