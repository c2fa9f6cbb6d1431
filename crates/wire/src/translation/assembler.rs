//! Puts the steps of a reply together into items, and has a writer follow: each item opens, grows and closes once.
//!
//! The one place that knows when an item ends, what a tool is called, and how much is stored. Texts are stored only
//! for writers that repeat them at the end ([`MAX_STORED_BYTES`] at most).

use super::chat::write_request::INPUT;
use super::event::{Failure, ReplyEvent, StopReason};
use super::json_depth::JsonDepth;
use super::object::Object;
use super::reply::{ItemKind, OutputItem, Reply, StreamWriter};
use super::request::CallKind;
use super::stop_sequences::StopSequences;
use super::tool_names::ToolNames;

/// The most bytes of output that one reply may store while it is translated: far above what any model writes.
pub(super) const MAX_STORED_BYTES: usize = 16 * 1024 * 1024;
/// What an item takes beside its text, in bytes.
const ITEM_BYTES: usize = 256;

/// The state of one reply.
pub(super) struct Assembler {
    pub reply: Reply,
    options: AssemblerOptions,
    names: ToolNames,
    stops: StopSequences,
    /// The open text, refusal or reasoning.
    open: Option<usize>,
    calls: Vec<OpenCall>,
    stored: usize,
    progress: Progress,
}

/// What the caller sees.
pub(super) struct AssemblerOptions {
    /// Whole texts are needed at the end.
    pub stores_texts: bool,
    pub shows_reasoning: bool,
    /// For ids of calls that the upstream gave none.
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Unstarted,
    Started,
    /// The reason to end has come.
    Stopped,
    /// The last event is written.
    Ended,
}

/// A call that has begun.
struct OpenCall {
    lane: u64,
    index: usize,
    /// A custom tool that the upstream calls as a function: its input is read once it is complete.
    is_wrapped: bool,
    is_empty: bool,
    depth: JsonDepth,
}

type Writer<'w> = &'w mut dyn StreamWriter;

impl Assembler {
    pub fn new(options: AssemblerOptions, names: ToolNames, stops: StopSequences) -> Self {
        Self {
            reply: Reply::default(),
            options,
            names,
            stops,
            open: None,
            calls: Vec::new(),
            stored: 0,
            progress: Progress::Unstarted,
        }
    }

    /// True once the last event is written.
    pub fn has_ended(&self) -> bool {
        self.progress == Progress::Ended
    }

    /// True if the reply has given its reason to end.
    pub fn has_stopped(&self) -> bool {
        self.progress >= Progress::Stopped
    }

    /// Takes the next event of the reply. Events after the last one are ignored.
    pub fn push(&mut self, event: ReplyEvent<'_>, writer: Writer<'_>, out: &mut Vec<u8>) {
        if self.has_ended() {
            return;
        }
        match event {
            ReplyEvent::Failed(failure) => return self.fail(&failure, writer, out),
            ReplyEvent::Start { model, created } => self.set_envelope(model, created),
            ReplyEvent::Usage(usage) => self.reply.usage = Some(usage),
            _ => {}
        }
        if self.progress == Progress::Unstarted && !matches!(event, ReplyEvent::Usage(_)) {
            self.progress = Progress::Started;
            writer.started(&self.reply, out);
        }
        match event {
            ReplyEvent::Stop(reason) => self.stop(reason, writer, out),
            ReplyEvent::End => self.end(writer, out),
            event if self.progress == Progress::Started => self.push_output(&event, writer, out),
            _ => {}
        }
        if self.stored > MAX_STORED_BYTES && !self.has_ended() {
            let message = format!(
                "The response is incomplete: it exceeds the {MAX_STORED_BYTES} bytes that can be translated."
            );
            self.fail(&Failure::of_gateway(&message), writer, out);
        }
    }

    fn set_envelope(&mut self, model: Option<&str>, created: Option<u64>) {
        if let Some(model) = model.filter(|model| !model.is_empty()) {
            model.clone_into(&mut self.reply.model);
        }
        if let Some(created) = created.filter(|created| *created > 0) {
            self.reply.created_at = created;
        }
    }

    fn push_output(&mut self, event: &ReplyEvent<'_>, writer: Writer<'_>, out: &mut Vec<u8>) {
        // Behind a stop sequence there is nothing more for the caller.
        if self.stops.found().is_some() {
            return;
        }
        match *event {
            ReplyEvent::Text(text) => self.push_text(text, writer, out),
            ReplyEvent::Refusal(text) => self.grow(ItemKind::Refusal, text, writer, out),
            ReplyEvent::Reasoning(text) if self.options.shows_reasoning => {
                self.grow(ItemKind::Reasoning, text, writer, out);
            }
            ReplyEvent::Sealed(sealed) if self.options.shows_reasoning => {
                let index = self.open_as(ItemKind::Reasoning, writer, out);
                self.stored += sealed.len();
                if let Some(item) = self.reply.items.get_mut(index) {
                    item.encrypted = Some(sealed.to_owned());
                }
                self.close_open(true, writer, out);
            }
            ReplyEvent::ItemEnd => self.close_open(true, writer, out),
            ReplyEvent::Call { lane, kind, call_id, namespace, name } => {
                let call_id = self.call_id(call_id);
                let (item, is_wrapped) = self.call_item(kind, call_id, namespace, name);
                self.open_call(lane, item, is_wrapped, writer, out);
            }
            ReplyEvent::CallInput { lane, input } => self.grow_call(lane, input, writer, out),
            ReplyEvent::CallEnd { lane } => {
                self.close_calls(true, |call| call.lane == lane, writer, out);
            }
            ReplyEvent::Search { id, query } => {
                self.close_open(true, writer, out);
                let (id, query) = (id.to_owned(), query.to_owned());
                let index = self.add_item(ItemKind::Search { id, query }, writer, out);
                self.close_item(index, true, writer, out);
            }
            _ => {}
        }
    }

    fn push_text(&mut self, text: &str, writer: Writer<'_>, out: &mut Vec<u8>) {
        if self.stops.is_empty() {
            return self.grow(ItemKind::Text, text, writer, out);
        }
        if text.is_empty() {
            return;
        }
        // Opened although the text may be held back: what is held is shown when the item ends.
        let index = self.open_as(ItemKind::Text, writer, out);
        let text = self.stops.push(text);
        if !text.is_empty() {
            self.add_text(index, &text, writer, out);
        }
    }

    /// Adds to the open item of this kind, or opens one.
    fn grow(&mut self, kind: ItemKind, text: &str, writer: Writer<'_>, out: &mut Vec<u8>) {
        if !text.is_empty() {
            let index = self.open_as(kind, writer, out);
            self.add_text(index, text, writer, out);
        }
    }

    fn add_text(&mut self, index: usize, text: &str, writer: Writer<'_>, out: &mut Vec<u8>) {
        let Some(item) = self.reply.items.get_mut(index) else { return };
        if self.options.stores_texts {
            self.stored += text.len();
            item.text.push_str(text);
        }
        writer.grew(index, item, text, out);
    }

    /// The index of the open item, which is of this kind then.
    fn open_as(&mut self, kind: ItemKind, writer: Writer<'_>, out: &mut Vec<u8>) -> usize {
        let open = self
            .open
            .filter(|index| self.reply.items.get(*index).is_some_and(|item| item.kind == kind));
        if let Some(index) = open {
            return index;
        }
        self.close_open(true, writer, out);
        self.close_calls(true, |call| call.depth.is_complete(), writer, out);
        let index = self.add_item(kind, writer, out);
        self.open = Some(index);
        index
    }

    fn add_item(&mut self, kind: ItemKind, writer: Writer<'_>, out: &mut Vec<u8>) -> usize {
        let index = self.reply.items.len();
        self.stored += ITEM_BYTES;
        let item = OutputItem { kind, text: String::new(), encrypted: None, is_complete: false };
        writer.opened(index, &item, out);
        self.reply.items.push(item);
        index
    }

    fn close_open(&mut self, is_complete: bool, writer: Writer<'_>, out: &mut Vec<u8>) {
        let Some(index) = self.open else { return };
        let is_text = self.reply.items.get(index).is_some_and(|item| item.kind == ItemKind::Text);
        let rest = if is_text { self.stops.rest() } else { String::new() };
        if !rest.is_empty() {
            self.add_text(index, &rest, writer, out);
        }
        self.open = None;
        self.close_item(index, is_complete, writer, out);
    }

    fn close_item(
        &mut self,
        index: usize,
        is_complete: bool,
        writer: Writer<'_>,
        out: &mut Vec<u8>,
    ) {
        if let Some(item) = self.reply.items.get_mut(index) {
            item.is_complete = is_complete;
            writer.closed(index, item, out);
        }
    }

    /// The upstream's id of the next call, or one of the gateway's.
    fn call_id(&self, id: &str) -> String {
        if id.is_empty() {
            return format!("call_{}_{}", self.options.id, self.reply.items.len());
        }
        id.to_owned()
    }

    /// The item of a call, and whether its input is the argument of a function.
    fn call_item(
        &self,
        kind: CallKind,
        call_id: String,
        namespace: Option<&str>,
        name: &str,
    ) -> (ItemKind, bool) {
        let known = self.names.restore(name).filter(|_| kind == CallKind::Function);
        match known {
            Some(tool) => {
                let namespace = Some(tool.namespace.clone()).filter(|space| !space.is_empty());
                let name = tool.name.clone();
                match tool.kind {
                    CallKind::Custom => (ItemKind::Custom { call_id, namespace, name }, true),
                    CallKind::Function => (ItemKind::Function { call_id, namespace, name }, false),
                }
            }
            None => {
                let (namespace, name) = (namespace.map(str::to_owned), name.to_owned());
                let item = match kind {
                    CallKind::Custom => ItemKind::Custom { call_id, namespace, name },
                    CallKind::Function => ItemKind::Function { call_id, namespace, name },
                };
                (item, false)
            }
        }
    }

    fn open_call(
        &mut self,
        lane: u64,
        item: ItemKind,
        is_wrapped: bool,
        writer: Writer<'_>,
        out: &mut Vec<u8>,
    ) {
        self.close_open(true, writer, out);
        // Calls that run at the same time stay open together; most upstreams send one after another.
        self.close_calls(true, |call| call.depth.is_complete(), writer, out);
        let index = self.add_item(item, writer, out);
        let depth = JsonDepth::default();
        self.calls.push(OpenCall { lane, index, is_wrapped, is_empty: true, depth });
    }

    fn grow_call(&mut self, lane: u64, input: &str, writer: Writer<'_>, out: &mut Vec<u8>) {
        if input.is_empty() {
            return;
        }
        let Some(call) = self.calls.iter_mut().find(|call| call.lane == lane) else { return };
        call.is_empty = false;
        call.depth.push(input);
        let (index, is_wrapped) = (call.index, call.is_wrapped);
        if is_wrapped {
            self.stored += input.len();
            if let Some(item) = self.reply.items.get_mut(index) {
                item.text.push_str(input);
            }
            return;
        }
        self.add_text(index, input, writer, out);
    }

    fn close_calls(
        &mut self,
        is_complete: bool,
        is_due: impl Fn(&OpenCall) -> bool,
        writer: Writer<'_>,
        out: &mut Vec<u8>,
    ) {
        while let Some(at) = self.calls.iter().position(&is_due) {
            let call = self.calls.remove(at);
            let index = call.index;
            if call.is_wrapped {
                let input = self.unwrap_input(index);
                self.add_text(index, &input, writer, out);
            } else if call.is_empty && self.is_function(index) {
                // Clients parse the arguments, and nothing is not JSON.
                self.add_text(index, "{}", writer, out);
            }
            self.close_item(index, is_complete, writer, out);
        }
    }

    fn is_function(&self, index: usize) -> bool {
        let item = self.reply.items.get(index);
        item.is_some_and(|item| matches!(item.kind, ItemKind::Function { .. }))
    }

    /// Takes the arguments of a function that stands for a custom tool, and reads its input. What the model wrote
    /// in another form is the input as it is.
    fn unwrap_input(&mut self, index: usize) -> String {
        let Some(item) = self.reply.items.get_mut(index) else { return String::new() };
        let arguments = std::mem::take(&mut item.text);
        self.stored = self.stored.saturating_sub(arguments.len());
        let input = Object::read(&arguments).and_then(|object| object.text_leniently(INPUT));
        input.map(std::borrow::Cow::into_owned).unwrap_or(arguments)
    }

    fn stop(&mut self, reason: StopReason, writer: Writer<'_>, out: &mut Vec<u8>) {
        if self.progress != Progress::Started {
            return;
        }
        let reason = match self.stops.found() {
            Some(found) => StopReason::StopSequence(found.to_owned()),
            None => reason,
        };
        let is_complete = reason != StopReason::MaxTokens;
        self.close_open(is_complete, writer, out);
        self.close_calls(is_complete, |_| true, writer, out);
        self.reply.stop = Some(reason);
        self.progress = Progress::Stopped;
    }

    fn end(&mut self, writer: Writer<'_>, out: &mut Vec<u8>) {
        self.stop(StopReason::Finished, writer, out);
        self.progress = Progress::Ended;
        writer.ended(&self.reply, out);
    }

    fn fail(&mut self, failure: &Failure, writer: Writer<'_>, out: &mut Vec<u8>) {
        if self.progress != Progress::Ended {
            self.progress = Progress::Ended;
            writer.failed(&self.reply, failure, out);
        }
    }
}
