//! Byte-pair merging of one word: of all neighbours that form a token, the pair with the lowest
//! rank is merged first, the leftmost of equals; until no two neighbours form a token.

use super::vocabulary::rank;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Words up to this many bytes are merged by scanning, which is faster than a heap for them.
const SHORT: usize = 96;
/// Longer words are merged in parts of this size: the bound on the memory that merging takes.
const PART: usize = 8 * 1024;

/// Hands the tokens of `word` to `token`, in order.
pub fn each_token<'a>(word: &'a [u8], token: &mut impl FnMut(&'a [u8])) {
    if rank(word).is_some() {
        token(word);
    } else if word.len() <= SHORT {
        scan(word, token);
    } else {
        parts(word).for_each(|part| link(part, token));
    }
}

/// The parts in which a word is merged: one, unless it is very long.
pub fn parts(word: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let (part, behind) = rest.split_at(part_of(rest));
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
}

/// The length of the next part: at most [`PART`], and no character of UTF-8 is split.
fn part_of(word: &[u8]) -> usize {
    let is_continuation = |at: &usize| word.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    if word.len() <= PART {
        return word.len();
    }
    (PART - 3..=PART).rev().find(|at| !is_continuation(at)).unwrap_or(PART)
}

/// A segment of a short word: where it begins, and the rank of it joined with the next.
#[derive(Clone, Copy)]
struct Segment {
    start: usize,
    joined: u32,
}

const NO_TOKEN: u32 = u32::MAX;

pub(super) fn scan<'a>(word: &'a [u8], token: &mut impl FnMut(&'a [u8])) {
    let mut segments = [Segment { start: 0, joined: NO_TOKEN }; SHORT + 1];
    // One segment behind the last marks the end of the word.
    let mut count = word.len();
    for (start, segment) in segments[..=count].iter_mut().enumerate() {
        let joined = word.get(start..start + 2).and_then(rank).unwrap_or(NO_TOKEN);
        *segment = Segment { start, joined };
    }
    loop {
        let lowest = segments[..count].iter().enumerate().min_by_key(|(_, segment)| segment.joined);
        let Some((at, _)) = lowest.filter(|(_, segment)| segment.joined != NO_TOKEN) else { break };
        segments.copy_within(at + 2..=count, at + 1);
        count -= 1;
        for left in at.saturating_sub(1)..=at {
            let end = if left + 2 <= count { segments[left + 2].start } else { 0 };
            let joined = word.get(segments[left].start..end).and_then(rank);
            segments[left].joined = joined.unwrap_or(NO_TOKEN);
        }
    }
    for pair in segments[..=count].windows(2) {
        token(&word[pair[0].start..pair[1].start]);
    }
}

/// The segments of a long word as a list linked by positions, and the pairs that can be merged.
struct Segments<'a> {
    word: &'a [u8],
    /// Where the segment that begins here ends; 0 where none begins.
    ends: Vec<u32>,
    /// Where the segment before the one that begins here begins.
    befores: Vec<u32>,
    /// Rank, start and end of two segments joined. Outdated pairs stay in until they come up.
    pairs: BinaryHeap<Reverse<(u32, u32, u32)>>,
}

pub(super) fn link<'a>(word: &'a [u8], token: &mut impl FnMut(&'a [u8])) {
    Segments::new(word).merge(token);
}

impl<'a> Segments<'a> {
    fn new(word: &'a [u8]) -> Self {
        let length = u32::try_from(word.len()).unwrap_or(u32::MAX);
        let pair = |start: u32| {
            let joined = word.get(start as usize..start as usize + 2)?;
            Some(Reverse((rank(joined)?, start, start + 2)))
        };
        Self {
            word,
            ends: (1..=length).collect(),
            befores: (0..length).map(|start| start.saturating_sub(1)).collect(),
            pairs: (0..length).filter_map(pair).collect(),
        }
    }

    fn merge(mut self, token: &mut impl FnMut(&'a [u8])) {
        while let Some(Reverse((_, start, end))) = self.pairs.pop() {
            let middle = self.ends[start as usize];
            if middle == 0 || self.end_of(middle) != Some(end) {
                continue;
            }
            self.ends[start as usize] = end;
            self.ends[middle as usize] = 0;
            if let Some(before) = self.befores.get_mut(end as usize) {
                *before = start;
            }
            self.offer(start);
            if start > 0 {
                self.offer(self.befores[start as usize]);
            }
        }
        let mut start = 0;
        while let Some(end) = self.end_of(start) {
            token(&self.word[start as usize..end as usize]);
            start = end;
        }
    }

    /// Notes that the segment at `start` and the next one can be merged, if they can.
    fn offer(&mut self, start: u32) {
        let Some(end) = self.end_of(start).and_then(|middle| self.end_of(middle)) else { return };
        if let Some(rank) = rank(&self.word[start as usize..end as usize]) {
            self.pairs.push(Reverse((rank, start, end)));
        }
    }

    fn end_of(&self, start: u32) -> Option<u32> {
        self.ends.get(start as usize).copied()
    }
}
