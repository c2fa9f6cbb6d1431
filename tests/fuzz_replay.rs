//! The fuzz targets on the stable toolchain: every file of `fuzz/corpus`, whole, cut short at each
//! byte, and with single bytes changed. See `docs/fuzzing.md` for the long runs.

#![allow(
    clippy::disallowed_methods,
    reason = "the length of a long run comes from the environment"
)]

#[path = "../fuzz/bodies/body_reader.rs"]
mod body_reader;
#[path = "../fuzz/bodies/journal_reader.rs"]
mod journal_reader;
#[path = "../fuzz/bodies/key_parser.rs"]
mod key_parser;
#[path = "../fuzz/bodies/reply_reader.rs"]
mod reply_reader;
#[path = "../fuzz/bodies/sse_scanner.rs"]
mod sse_scanner;

use std::path::Path;

/// Inputs longer than this are not cut and changed byte by byte, which takes quadratic time; `KNOCKX_FUZZ_SHORT`
/// says otherwise.
const SHORT: usize = 700;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let short = std::env::var("KNOCKX_FUZZ_SHORT");
    let short = short.map_or(SHORT, |length| length.parse().expect("a length in bytes"));
    let mut inputs = 0;
    for file in std::fs::read_dir(&folder).expect("every target has a corpus") {
        let input = std::fs::read(file.expect("a file").path()).expect("a readable file");
        inputs += 1;
        run(&input);
        if input.len() <= short {
            vary(&input, run);
        }
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

fn vary(input: &[u8], run: fn(&[u8])) {
    let mut changed = input.to_vec();
    for at in 0..input.len() {
        run(&input[..at]);
        for byte in [b'"', b'\\', b'{', b'\n', 0xFF, input[at] ^ 1] {
            changed[at] = byte;
            run(&changed);
        }
        changed[at] = input[at];
    }
}

#[test]
fn sse_scanner_holds() {
    replay("sse_scanner", sse_scanner::run);
}

#[test]
fn body_reader_holds() {
    replay("body_reader", body_reader::run);
}

#[test]
fn reply_reader_holds() {
    replay("reply_reader", reply_reader::run);
}

#[test]
fn journal_reader_holds() {
    replay("journal_reader", journal_reader::run);
}

#[test]
fn key_parser_holds() {
    replay("key_parser", key_parser::run);
}
