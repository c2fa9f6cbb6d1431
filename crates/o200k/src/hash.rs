/// Slots of the hash table; a power of two, more than twice the number of tokens.
const SLOTS: usize = 1 << 19;
/// The bits of a slot that hold a rank plus one; 0 means an empty slot.
const RANK_BITS: u32 = 18;
/// No token has more bytes.
const LONGEST: usize = 128;

/// Spreads byte strings over slots and fingerprints. Quality matters only for speed: a lookup
/// always compares the bytes themselves.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |state: u64, word: u64| {
        let product = (state ^ word).wrapping_mul(FACTOR);
        product ^ (product >> 32)
    };
    let mut rest = bytes;
    let mut state = bytes.len() as u64;
    while let Some((chunk, behind)) = rest.split_first_chunk::<8>() {
        state = mix(state, u64::from_le_bytes(*chunk));
        rest = behind;
    }
    if let Some((chunk, behind)) = rest.split_first_chunk::<4>() {
        state = mix(state, u64::from(u32::from_le_bytes(*chunk)));
        rest = behind;
    }
    let tail = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(state, tail)
}

/// The first slot to look into, and the fingerprint in the upper bits of a slot.
fn place(hash: u64) -> (usize, u32) {
    let slot = usize::try_from(hash % SLOTS as u64).unwrap_or(0);
    let fingerprint = u32::try_from(hash >> 50).unwrap_or(0);
    (slot, fingerprint << RANK_BITS)
}
