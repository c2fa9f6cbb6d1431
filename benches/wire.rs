//! What one call costs in the wire format's code: `cargo bench --bench wire`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wire::chunk::Chunk;
use wire::error::UpstreamError;
use wire::request::{Request, Rewrite};
use wire::sse::Scanner;
use wire::surface::Surface;
use wire::tokens::estimate::{count, count_prompt, estimate_prompt};
use wire::tokens::meter::Meter;
use wire::usage::Usage;

const PROSE: &str = "The lighthouse keeper wrote letters all winter, and nobody on the mainland ever \
    answered one of them; in spring he found them all in the harbour master's drawer. ";

/// A request with `turns` messages of `len` bytes.
fn body(turns: usize, len: usize) -> String {
    let text = PROSE.repeat(len / PROSE.len() + 1);
    let message = format!(r#"{{"role":"user","content":"{}\n"}}"#, &text[..len]);
    let messages = vec![message; turns].join(",");
    format!(r#"{{"model":"grok-4.3","messages":[{messages}],"temperature":0.7,"stream":true}}"#)
}

fn chunk(text: &str) -> String {
    format!(
        "{{\"id\":\"3f6c-cmpl-2\",\"object\":\"chat.completion.chunk\",\"created\":1780000001,\
         \"model\":\"grok-4.3\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}],\
         \"system_fingerprint\":\"fp_5ea\"}}"
    )
}

fn chunks() -> Vec<String> {
    PROSE.repeat(10).split_inclusive(' ').map(chunk).collect()
}

fn requests(c: &mut Criterion) {
    let rewrite = Rewrite {
        model: Some("grok-4.3-upstream"),
        max_output: Some(1000),
        include_usage: true,
        ..Rewrite::default()
    };
    for (name, body) in
        [("1 KiB", body(2, 512)), ("64 KiB", body(32, 2048)), ("1 MiB", body(64, 16384))]
    {
        let mut group = c.benchmark_group(format!("request {name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("parse", |b| {
            b.iter(|| Request::parse(Surface::ChatCompletions, black_box(body.as_bytes())).is_ok());
        });
        let request =
            Request::parse(Surface::ChatCompletions, body.as_bytes()).expect("a good body");
        group.bench_function("rewrite", |b| b.iter(|| request.rewrite(black_box(rewrite))));
        group.bench_function("cheap estimate", |b| b.iter(|| estimate_prompt(&request, 192)));
        group.bench_function("exact estimate", |b| b.iter(|| count_prompt(&request, 192)));
        group.finish();
    }
}

fn streams(c: &mut Criterion) {
    let chunks = chunks();
    let stream = format!("data: {}\n\n", chunks.join("\n\ndata: "));
    let mut group = c.benchmark_group(format!("stream of {} events", chunks.len()));
    group.throughput(Throughput::Elements(chunks.len() as u64));
    for len in [64, 1400, stream.len()] {
        group.bench_function(format!("scan in pieces of {len} bytes"), |b| {
            b.iter(|| scan(stream.as_bytes(), len));
        });
    }
    group.bench_function("read each chunk", |b| {
        b.iter(|| chunks.iter().filter(|chunk| Chunk::parse(chunk.as_bytes()).is_some()).count());
    });
    group.bench_function("meter", |b| b.iter(|| metered(&chunks).output_ceiling()));
    group.bench_function("count at the end", |b| {
        b.iter_batched(
            || metered(&chunks),
            |mut meter| meter.output_counted(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn scan(stream: &[u8], len: usize) -> usize {
    let mut scanner = Scanner::new(1 << 20);
    let mut bytes = 0;
    for piece in stream.chunks(len) {
        scanner.push(black_box(piece));
        while let Ok(Some(event)) = scanner.next_event() {
            bytes += event.raw.len();
        }
    }
    bytes
}

fn metered(chunks: &[String]) -> Meter {
    let mut meter = Meter::default();
    for chunk in chunks {
        meter.read_event(black_box(chunk.as_bytes()));
    }
    meter
}

fn tokens(c: &mut Criterion) {
    let mut group = c.benchmark_group("o200k");
    let hostile = "a".repeat(100_000);
    for (name, text) in [
        ("one sentence", PROSE),
        ("16 KiB of prose", &PROSE.repeat(100)),
        ("100 kB of a", &hostile),
    ] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| count(black_box(text))));
    }
    group.finish();
}

fn replies(c: &mut Criterion) {
    let reply = include_bytes!("../tests/golden/reply.json");
    c.bench_function("usage of a reply", |b| b.iter(|| Usage::find(black_box(reply))));
    let error = br#"{"code":"resource-exhausted","error":"Too many requests (actual/limit): 2/2"}"#;
    c.bench_function("error of an upstream", |b| {
        b.iter(|| UpstreamError::read(429, None, black_box(error)));
    });
}

criterion_group!(benches, requests, streams, tokens, replies);
criterion_main!(benches);
