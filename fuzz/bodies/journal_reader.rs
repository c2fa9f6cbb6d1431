//! The reader of the journal: never panics, and what it takes is what the journal would write.

use journal::reader::{self, Ending, Reader};
use journal::record::Record;
use journal::segment::SegmentHead;

const SEED: u32 = 0;

pub fn run(input: &[u8]) {
    let mut records = Reader::new(input, SEED);
    let mut end = 0;
    for framed in records.by_ref() {
        assert_eq!(framed.start, end);
        assert!(framed.end <= input.len());
        end = framed.end;
        comes_back(&framed.record);
    }
    assert_eq!(records.at(), end);
    match records.ending() {
        Ending::Whole => assert_eq!(end, input.len()),
        Ending::Torn { at } | Ending::Unreadable { at, .. } => assert_eq!(at, end),
        Ending::Damaged { at, next } => {
            assert!(at == end && next > at);
            let mut behind = Reader::new(&input[next..], SEED);
            assert!(
                behind.next().is_some() || matches!(behind.ending(), Ending::Unreadable { .. })
            );
        }
    }
    // A mutated payload has no matching CRC, so it is also read without one.
    if let Ok(record) = Record::decode(input) {
        comes_back(&record);
    }
    if let Some(head) = SegmentHead::decode(input) {
        assert_eq!(head.encode()[..], input[..head.encode().len()]);
    }
}

fn comes_back(record: &Record) {
    let mut bytes = Vec::new();
    reader::append(record, SEED, &mut bytes);
    let mut again = Reader::new(&bytes, SEED);
    assert_eq!(again.next().map(|framed| framed.record).as_ref(), Some(record));
    assert_eq!(again.ending(), Ending::Whole);
}
