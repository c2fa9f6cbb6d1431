//! The vocabulary: which byte strings are tokens, and their ranks. Lower ranks merge first.

include!("hash.rs");

static TOKENS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tokens"));
static STARTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/starts"));
static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/slots"));

/// The rank of the token with exactly these bytes.
pub fn rank(bytes: &[u8]) -> Option<u32> {
    if bytes.len() > LONGEST {
        return None;
    }
    let (mut slot, fingerprint) = place(hash(bytes));
    loop {
        let entry = number(TABLE, slot);
        if entry == 0 {
            return None;
        }
        let (rank, found) = ((entry & ((1 << RANK_BITS) - 1)) - 1, entry >> RANK_BITS);
        if found == fingerprint >> RANK_BITS && token(rank) == bytes {
            return Some(rank);
        }
        slot = (slot + 1) % SLOTS;
    }
}

pub(super) fn token(rank: u32) -> &'static [u8] {
    let rank = rank as usize;
    &TOKENS[number(STARTS, rank) as usize..number(STARTS, rank + 1) as usize]
}

fn number(table: &[u8], index: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&table[index * 4..index * 4 + 4]);
    u32::from_le_bytes(bytes)
}
