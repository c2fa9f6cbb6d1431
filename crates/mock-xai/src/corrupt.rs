//! Changes the bytes of events and bodies as faults demand. Pure.

use crate::fault::{Fault, Faults};
use bytes::Bytes;

const OVERSIZE_BYTES: usize = 8 << 20;

/// Corrupts the event at the end of `bytes`, from `start` on; `number` counts events from 0.
pub fn event(bytes: &mut Vec<u8>, start: usize, number: u64, faults: &Faults) {
    for fault in faults.iter() {
        let event = bytes.get(start..).unwrap_or_default();
        let corrupted = match fault {
            Fault::Oversize if number == 1 => pad(event),
            Fault::BadUtf8 if number == 2 => break_utf8(event),
            Fault::Garbage if number > 0 => garbage(number),
            Fault::DuplicateKeys => duplicate_key(event),
            Fault::OddIndex => odd_index(event),
            Fault::Comments => [NOISE, event].concat(),
            Fault::Multiline => spread(event),
            _ => continue,
        };
        bytes.truncate(start);
        bytes.extend_from_slice(&corrupted);
    }
    if faults.has(Fault::Crlf) {
        let event = bytes.split_off(start);
        let lines = event.split_inclusive(|byte| *byte == b'\n');
        for line in lines {
            bytes.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            bytes.extend_from_slice(b"\r\n");
        }
    }
}

/// Corrupts a whole JSON body.
pub fn body(json: &[u8], faults: &Faults) -> Vec<u8> {
    let corrupt = |json: Vec<u8>, fault| match fault {
        Fault::Oversize => pad(&json),
        Fault::BadUtf8 => break_utf8(&json),
        Fault::DuplicateKeys => duplicate_key(&json),
        Fault::OddIndex => odd_index(&json),
        _ => json,
    };
    faults.iter().fold(json.to_vec(), corrupt)
}

/// Cuts a frame into the pieces it is written in.
pub fn pieces(frame: Vec<u8>, faults: &Faults) -> Vec<Bytes> {
    let mut rest = Bytes::from(frame);
    let mut pieces = Vec::new();
    let mut sizes = [1, 7, 3, 13, 5, 31, 11].into_iter().cycle();
    while !rest.is_empty() {
        let size = if faults.has(Fault::Drip) {
            1
        } else if faults.has(Fault::Split) {
            odd_size(&rest, sizes.next().unwrap_or(1))
        } else {
            rest.len()
        };
        pieces.push(rest.split_to(size.min(rest.len())));
    }
    pieces
}

/// Comments and an event of an unknown kind.
const NOISE: &[u8] = b": simulated\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n";

/// `size`, or less where a character or a CRLF can be cut in two.
fn odd_size(rest: &[u8], size: usize) -> usize {
    let window = rest.get(..size).unwrap_or(rest);
    let cut = window.iter().position(|byte| *byte >= 0xc0 || *byte == b'\r');
    cut.map_or(size, |at| at + 1)
}

/// Members of the replies of each surface; the first that occurs is duplicated.
const MEMBERS: [&[u8]; 4] = [
    b"\"role\":\"assistant\"",
    b"\"index\":0",
    b"\"object\":\"list\"",
    b"\"mime_type\":\"image/jpeg\"",
];

fn duplicate_key(json: &[u8]) -> Vec<u8> {
    let member = MEMBERS.iter().find_map(|member| Some((find(json, member)?, member)));
    let Some((at, member)) = member else { return json.to_vec() };
    let (before, after) = json.split_at(at);
    [before, member, b",", after].concat()
}

fn odd_index(json: &[u8]) -> Vec<u8> {
    let index = b"\"index\":0";
    let Some(at) = find(json, index) else { return json.to_vec() };
    let (before, after) = json.split_at(at);
    [before, b"\"index\":-1", after.get(index.len()..).unwrap_or_default()].concat()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Blanks are legal anywhere in JSON and are no tokens.
fn pad(event: &[u8]) -> Vec<u8> {
    let (head, tail) = split_after(event, b'{');
    [head, &vec![b' '; OVERSIZE_BYTES], tail].concat()
}

/// The last blank of an event is the one before its word.
fn break_utf8(event: &[u8]) -> Vec<u8> {
    let mut broken = event.to_vec();
    if let Some(at) = broken.iter().rposition(|byte| *byte == b' ') {
        broken[at] = 0xff;
    }
    broken
}

fn garbage(number: u64) -> Vec<u8> {
    match number % 3 {
        0 => b"data: \x00\x01\x02 no json\n\n".to_vec(),
        1 => b"data: {\"id\":\"broken\n\n".to_vec(),
        _ => b"<html>what is this</html>\n\n".to_vec(),
    }
}

/// The first two commas of the simulator's events separate members.
fn spread(event: &[u8]) -> Vec<u8> {
    let (first, rest) = split_after(event, b',');
    let (second, rest) = split_after(rest, b',');
    if second.is_empty() || rest.is_empty() {
        return event.to_vec();
    }
    [first, b"\ndata: ", second, b"\ndata: ", rest].concat()
}

fn split_after(bytes: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == mark).map_or(bytes.len(), |at| at + 1);
    bytes.split_at(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrupted(fault: &str, number: u64) -> Vec<u8> {
        let mut bytes = b"before\n\ndata: {\"a\":1,\"b\":2,\"c\":\" caf\xc3\xa9\"}\n\n".to_vec();
        event(&mut bytes, 8, number, &fault.parse().expect("a fault"));
        bytes
    }

    #[test]
    fn line_ends_become_crlf_from_the_start_on() {
        let bytes = corrupted("crlf", 0);
        assert!(bytes.starts_with(b"before\n\ndata: ") && bytes.ends_with(b"}\r\n\r\n"));
    }

    #[test]
    fn json_spreads_over_lines_and_stays_json() {
        let text = String::from_utf8(corrupted("multiline", 0)).expect("text");
        let data: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.len(), 3);
        serde_json::from_str::<serde_json::Value>(&data.join("\n")).expect("still json");
    }

    #[test]
    fn only_the_one_event_is_broken_or_blown_up() {
        assert!(String::from_utf8(corrupted("bad-utf8", 2)).is_err());
        assert!(String::from_utf8(corrupted("bad-utf8", 3)).is_ok());
        assert!(corrupted("oversize", 1).len() > OVERSIZE_BYTES);
        assert!(corrupted("oversize", 2).len() < 100);
    }

    #[test]
    fn pieces_cut_characters_and_line_ends_and_lose_nothing() {
        let bytes = corrupted("crlf", 0);
        let faults: Faults = "split".parse().expect("a fault");
        let pieces = pieces(bytes.clone(), &faults);
        assert_eq!(pieces.concat(), bytes);
        assert!(pieces.iter().any(|piece| piece.ends_with(b"\xc3")));
        assert!(pieces.iter().any(|piece| piece.ends_with(b"\r")));
    }
}
