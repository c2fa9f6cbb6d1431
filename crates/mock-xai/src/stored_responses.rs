//! Responses that are stored for a later `GET`, with the items of their input.

use crate::answer::Answer;
use crate::reply::chat::Envelope;
use crate::reply::responses;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// The most responses that are stored; the oldest are deleted first.
const MAX_STORED: usize = 10_000;
/// The most bytes of all stored responses together.
const MAX_STORED_BYTES: usize = 256 << 20;
/// Items on a page of the input, unless the request names another number.
const PAGE_ITEMS: usize = 20;
/// The most items on a page.
const MAX_PAGE_ITEMS: usize = 100;

/// The prefix of reasoning that was sealed under a seed.
pub fn seal(seed: u64) -> String {
    format!("sealed-{seed:016x}-")
}

/// Stored responses by id. xAI stores them for all keys of a team.
#[derive(Debug, Default)]
pub struct StoredResponses(Mutex<Stored>);

#[derive(Debug, Default)]
struct Stored {
    responses: VecDeque<StoredResponse>,
    bytes: usize,
}

/// A response that is generated to its end even after its client has disconnected.
#[derive(Debug)]
struct StoredResponse {
    id: String,
    in_progress: Bytes,
    whole: Bytes,
    /// The items of the input as JSON, each with an id.
    input: Arc<[(String, String)]>,
    done_at: Instant,
    /// Tokens that it adds to the prompt of a request that continues it.
    context: u64,
}

impl StoredResponse {
    fn bytes(&self) -> usize {
        let input: usize = self.input.iter().map(|(id, item)| id.len() + item.len()).sum();
        self.id.len() + self.in_progress.len() + self.whole.len() + input
    }
}

impl Stored {
    fn find(&self, id: &str) -> Option<&StoredResponse> {
        self.responses.iter().find(|response| response.id == id)
    }

    fn remove(&mut self, id: &str) -> bool {
        let at = self.responses.iter().position(|response| response.id == id);
        let removed = at.and_then(|at| self.responses.remove(at));
        self.bytes -= removed.as_ref().map_or(0, StoredResponse::bytes);
        removed.is_some()
    }
}

impl StoredResponses {
    /// Stores an answer that is complete at `done_at`.
    pub fn insert(&self, envelope: &Envelope, answer: &Answer, input: &[Value], done_at: Instant) {
        let response = StoredResponse {
            id: envelope.id.clone(),
            in_progress: responses::in_progress(answer, envelope).into(),
            whole: responses::response(answer, envelope).into(),
            input: input.iter().enumerate().map(|at| input_item(at, envelope)).collect(),
            done_at,
            context: answer.billed_usage.prompt + answer.billed_usage.completion,
        };
        let mut stored = self.0.lock();
        stored.remove(&response.id);
        stored.bytes += response.bytes();
        stored.responses.push_back(response);
        while stored.responses.len() > MAX_STORED || stored.bytes > MAX_STORED_BYTES {
            let Some(oldest) = stored.responses.pop_front() else { return };
            stored.bytes -= oldest.bytes();
        }
    }

    /// Returns the response in its state at `now`.
    pub fn get(&self, id: &str, now: Instant) -> Option<Bytes> {
        let stored = self.0.lock();
        let response = stored.find(id)?;
        let is_done = now >= response.done_at;
        Some(if is_done { response.whole.clone() } else { response.in_progress.clone() })
    }

    /// A page of the input of a response, as `limit`, `order` and `after` of the query ask for it.
    pub fn input_items(&self, id: &str, query: &str) -> Option<Bytes> {
        let items = Arc::clone(&self.0.lock().find(id)?.input);
        let value = |wanted: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='))
        };
        let limit = value("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE_ITEMS);
        let mut ordered: Vec<_> = items.iter().collect();
        if value("order") != Some("asc") {
            ordered.reverse();
        }
        let after = value("after").and_then(|after| ordered.iter().position(|(id, _)| id == after));
        let rest = ordered.get(after.map_or(0, |at| at + 1)..).unwrap_or_default();
        let page = &rest[..rest.len().min(limit.clamp(1, MAX_PAGE_ITEMS))];
        let data: Vec<&str> = page.iter().map(|(_, item)| item.as_str()).collect();
        let id = |item: Option<&&(String, String)>| Value::from(item.map(|(id, _)| id.as_str()));
        let (first, last) = (id(page.first()), id(page.last()));
        let (data, has_more) = (data.join(","), page.len() < rest.len());
        Some(Bytes::from(format!(
            r#"{{"object":"list","data":[{data}],"first_id":{first},"last_id":{last},"has_more":{has_more}}}"#
        )))
    }

    /// Tokens that this response adds to the prompt of a request that continues it.
    pub fn context(&self, id: &str) -> Option<u64> {
        self.0.lock().find(id).map(|response| response.context)
    }

    pub fn delete(&self, id: &str) -> Option<Bytes> {
        let is_deleted = self.0.lock().remove(id);
        let reply = json!({"id": id, "object": "response", "deleted": true});
        is_deleted.then(|| reply.to_string().into())
    }
}

/// An item of the input with its id, which it has itself or gets here.
fn input_item((number, item): (usize, &Value), envelope: &Envelope) -> (String, String) {
    let mut item = item.clone();
    let own = item["id"].as_str().map(str::to_owned);
    let id = own.unwrap_or_else(|| format!("msg_{}_{number}", envelope.id));
    if let Some(members) = item.as_object_mut() {
        members.insert("id".to_owned(), id.as_str().into());
        members.entry("type").or_insert_with(|| "message".into());
        if let Some(Value::String(text)) = members.get("content") {
            let content = json!([{"type": "input_text", "text": text}]);
            members.insert("content".to_owned(), content);
        }
    }
    (id, item.to_string())
}
