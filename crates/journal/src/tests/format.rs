//! Records, frames and heads: what is written is read, and nothing else is.

use super::super::reader::{self, Ending, FRAME_HEAD, Reader};
use super::super::record::{BadRecord, Record};
use super::super::segment::{self, LogId, SegmentHead};
use super::{charge, lease, one_of_each};
use domain::charge::Status;
use proptest::prelude::*;
use uuid::Uuid;

const SEED: u32 = 7;

fn framed(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        reader::append(record, SEED, &mut bytes);
    }
    bytes
}

/// All records up to the ending.
fn read(bytes: &[u8]) -> (Vec<Record>, Ending) {
    let mut reader = Reader::new(bytes, SEED);
    let records = reader.by_ref().map(|framed| framed.record).collect();
    (records, reader.ending())
}

#[test]
fn every_kind_comes_back_as_it_was_written() {
    let records = one_of_each();
    assert_eq!(read(&framed(&records)), (records, Ending::Whole));
    for status in Status::ALL {
        let record = Record::Settle(domain::charge::Charge { status, ..charge(&lease(1), 2) });
        assert_eq!(read(&framed(std::slice::from_ref(&record))).0, [record]);
    }
}

/// Layout 1, byte for byte: logs of today must be readable for ever.
#[test]
fn the_layout_is_the_one_of_version_1() {
    let request = domain::id::RequestId(Uuid::from_bytes([0xAB; 16]));
    let mut bytes = Vec::new();
    Record::Extend { request, reserved: 0x0102 }.encode(&mut bytes);
    let expected = [&[2, 1][..], &[0xAB; 16], &[2, 1, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(bytes, expected);
    let head = SegmentHead { log: LogId(Uuid::from_bytes([1; 16])), base: 258 }.encode();
    assert_eq!(head[..8], *b"knockxJ\x01");
    assert_eq!(head[24..36], [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(segment::file_name(258), "00000000000000000258.journal");
}

#[test]
fn a_record_torn_at_any_byte_is_the_end() {
    for last in one_of_each() {
        let whole = framed(&one_of_each()[..2]);
        let all = [whole.clone(), framed(&[last])].concat();
        for cut in whole.len() + 1..all.len() {
            let (records, ending) = read(&all[..cut]);
            assert_eq!((records.len(), ending), (2, Ending::Torn { at: whole.len() }), "{cut}");
            let mut zeroed = all.clone();
            zeroed[cut..].fill(0);
            if zeroed != all {
                let (records, ending) = read(&zeroed);
                assert_eq!((records.len(), ending), (2, Ending::Torn { at: whole.len() }), "{cut}");
            }
        }
    }
}

#[test]
fn any_changed_byte_before_a_good_record_is_damage() {
    let first = framed(&one_of_each()[..1]);
    let all = [first.clone(), framed(&one_of_each()[2..4])].concat();
    for at in 0..first.len() {
        let mut changed = all.clone();
        changed[at] ^= 0x40;
        let (records, ending) = read(&changed);
        assert_eq!(
            (records, ending),
            (vec![], Ending::Damaged { at: 0, next: first.len() }),
            "{at}"
        );
    }
}

#[test]
fn a_record_of_another_log_is_none_of_this_one() {
    let mut bytes = framed(&one_of_each()[..1]);
    let at = bytes.len();
    reader::append(&one_of_each()[1], SEED + 1, &mut bytes);
    assert_eq!(read(&bytes).1, Ending::Torn { at });
}

#[test]
fn a_kind_of_a_newer_version_is_said_and_not_skipped() {
    for (kind, version) in [(9, 1), (1, 2)] {
        let payload = [kind, version, 0, 0];
        let mut bytes = 4_u32.to_le_bytes().to_vec();
        bytes.extend(crc32c::crc32c_append(SEED, &payload).to_le_bytes());
        bytes.extend(payload);
        bytes.extend(framed(&one_of_each()));
        let why = BadRecord::Unknown { kind, version };
        assert_eq!(read(&bytes), (vec![], Ending::Unreadable { at: 0, end: 12, why }));
    }
}

#[test]
fn no_cut_payload_is_a_record() {
    for record in one_of_each() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Record::decode(&bytes[..cut]).is_err());
        }
        bytes.push(0);
        assert_eq!(Record::decode(&bytes), Err(BadRecord::Long));
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let by = "ü".repeat(40_000);
    let Record::Adjust(adjustment) = one_of_each().remove(4) else { panic!() };
    let record = Record::Adjust(domain::charge::Adjustment { by, ..adjustment });
    let (records, ending) = read(&framed(&[record]));
    let Record::Adjust(read) = &records[0] else { panic!() };
    assert_eq!((read.by.len(), ending), (65_534, Ending::Whole));
}

#[test]
fn heads_and_names_are_read_strictly() {
    let head = SegmentHead { log: LogId(Uuid::from_bytes([3; 16])), base: 5 };
    let bytes = head.encode();
    assert_eq!(SegmentHead::decode(&bytes), Some(head));
    for at in 0..bytes.len() {
        let mut changed = bytes;
        changed[at] ^= 1;
        assert_eq!(SegmentHead::decode(&changed), None);
        assert_eq!(SegmentHead::decode(&bytes[..at]), None);
    }
    assert_eq!(segment::base_of("00000000000000000258.journal"), Some(258));
    for name in [
        "258.journal",
        "00000000000000000258.journal.draft",
        "+0000000000000000258.journal",
        "lock",
    ] {
        assert_eq!(segment::base_of(name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (records, _) = read(&bytes);
        prop_assert!(framed(&records).len() <= bytes.len());
        let _ = Record::decode(&bytes);
        let _ = reader::is_cut_off(&bytes, bytes.len().min(FRAME_HEAD));
    }
}
