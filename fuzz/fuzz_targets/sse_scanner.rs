#![no_main]

#[path = "../bodies/sse_scanner.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
