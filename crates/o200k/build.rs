//! Packs the token list into three tables that are used as they lie in the binary.
//!
//! `tokens`: the bytes of all tokens by rank, one behind the other. `starts`: where each begins.
//! `slots`: a hash table from bytes to rank.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

include!("src/hash.rs");

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/hash.rs");
    println!("cargo::rerun-if-changed=data/o200k_base.tiktoken");
    let list = tokens(include_str!("data/o200k_base.tiktoken"));
    #[expect(
        clippy::disallowed_methods,
        reason = "Cargo passes the folder of a build script this way"
    )]
    let folder = std::env::var("OUT_DIR").expect("cargo names the folder");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(Path::new(&folder).join(name), bytes).expect("a writable folder");
    };
    let mut starts = vec![0_u32];
    for token in &list {
        let end = starts.last().copied().unwrap_or(0) + u32::try_from(token.len()).expect("short");
        starts.push(end);
    }
    write("tokens", &list.concat());
    write("starts", &little_endian(&starts));
    write("slots", &little_endian(&slots(&list)));
}

/// Each line is a token in base64 and its rank; ranks count up from 0.
fn tokens(list: &str) -> Vec<Vec<u8>> {
    let token = |(rank, line): (usize, &str)| {
        let (token, listed) = line.split_once(' ').expect("a token and its rank");
        assert_eq!(listed.parse(), Ok(rank), "ranks are in order");
        let token = STANDARD.decode(token).expect("base64");
        assert!(token.len() <= LONGEST, "no token is longer than {LONGEST} bytes");
        token
    };
    list.lines().enumerate().map(token).collect()
}

fn slots(list: &[Vec<u8>]) -> Vec<u32> {
    assert!(list.len() < (1 << RANK_BITS) - 1 && list.len() * 2 < SLOTS);
    let mut slots = vec![0; SLOTS];
    for (rank, token) in (1..).zip(list) {
        let (mut slot, fingerprint) = place(hash(token));
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = fingerprint | rank;
    }
    slots
}

fn little_endian(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
