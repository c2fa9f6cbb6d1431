//! Callers who hang up: never cheaper than staying, and charged what the upstream bills.

mod billed;
mod draining;
mod other_ends;

use crate::support::http_client::{Call, Shared};
use crate::support::raw_socket::with_small_buffers;
use crate::support::surfaces::{TEXT_SURFACES, merge};
use crate::support::{Gateway, Key, Plan, WIDE, by, gateway, soon};
use bytes::Bytes;
use domain::charge::{Charge, Source, Status};
use domain::user::UserStatus;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use store::UserChange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const REASONING: &str = "grok-4.20-0309-reasoning";
const PLAIN: &str = "grok-4.3";
/// An upstream that never answers.
const NEVER: &str = "[sim first-token-ms=600000]";

/// A surface, and the body that asks it for `text`.
type Surface = (&'static str, fn(&str) -> Value);

const TEXT: [Surface; 4] = {
    const fn of(number: usize) -> Surface {
        (TEXT_SURFACES[number].path, TEXT_SURFACES[number].prompt)
    }
    [of(0), of(1), of(2), of(3)]
};

const OTHERS: [Surface; 2] = [
    ("/v1/embeddings", |text| json!({"input": text})),
    ("/v1/images/generations", |text| json!({"prompt": text, "n": 2})),
];

fn call(gw: &Gateway, key: &Key, (path, body): Surface, model: &str, text: &str) -> Call {
    ask(gw, key, path, body(text), model)
}

fn stream(gw: &Gateway, key: &Key, (path, body): Surface, model: &str, text: &str) -> Call {
    let mut body = body(text);
    body["stream"] = true.into();
    ask(gw, key, path, body, model)
}

fn ask(gw: &Gateway, key: &Key, path: &str, mut body: Value, model: &str) -> Call {
    body["model"] = model.into();
    Call::post(gw.addr(), path).key(&key.text).body(body.to_string())
}

/// Sends a call, and goes as soon as the simulator has it.
async fn abandon(gw: &Gateway, call: Call) {
    let before = gw.simulator.log.totals().requests;
    let waiting = tokio::spawn(call.open());
    soon("the simulator has the call", || async { gw.simulator.log.totals().requests > before })
        .await;
    waiting.abort();
    let _ = waiting.await;
}

/// Begins to read a call, and goes after `pieces` of its body.
async fn leave_after(call: Call, pieces: usize) {
    let mut open = call.open().await;
    for _ in 0..pieces {
        open.next().await.expect("tokens flow");
    }
}

fn assert_billed(gw: &Gateway, charge: &Charge, status: Status) {
    let entry = gw.bill(charge);
    assert!(entry.finished, "it was read to its end: {entry:?}");
    // The upstream bills images in dollars, the gateway counts two of 1000 tokens each.
    let images = if entry.surface == "images" { 2_000 } else { 0 };
    let billed = (entry.prompt, entry.completion + entry.reasoning + images);
    let charged = (charge.tokens.prompt, charge.tokens.completion + charge.tokens.reasoning);
    assert_eq!((charged, charge.source, charge.status), (billed, Source::Reported, status));
    assert_eq!(charge.cost_micro_dollars, (entry.cost_ticks as i64 + 5_000) / 10_000);
}

const IMAGES: &str = "[[models]]\nid = \"imagine\"\nupstreams = [{ name = \"simulator\", model = \"grok-4.3\" }]\n\
    context_tokens = 1000\nprices = { input = 1, cached_input = 1, output = 1 }\nimage_price = 0.07\nimage_tokens = 500\n\
    owned_by = \"x\"\n";
