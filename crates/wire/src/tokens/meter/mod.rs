//! Counts the output tokens of a running answer, event by event.
//!
//! Needed while the answer runs (is there still quota?) and at its end when usage never came.
//! Three answers, from cheap to sure: [`Meter::output_ceiling`] by the kinds of bytes seen,
//! [`Meter::output_counted`] by the tokenizer, [`Meter::usage`] by the upstream. The first two
//! know what was shown; reasoning that an upstream hides or sums up is in its usage only.
//!
//! Memory is bounded by [`FOLD_AT`] however long the answer: text that has been counted is
//! forgotten.

use super::estimate::{count, media_tokens};
use crate::chunk::Chunk;
use crate::json;
use crate::output::{OutputKind, OutputPiece};
use crate::stream_reader::UsageSink;
use crate::usage::Usage;
use domain::charge::Source;

/// Bytes of text that are buffered before they are counted.
pub const FOLD_AT: usize = 16 << 10;
/// Bytes without a blank after which text is counted although a token may be torn apart.
const LONG_WORD: usize = 1 << 10;

/// Counts the output of one answer from its parsed events.
#[derive(Debug, Default)]
pub struct Meter {
    /// Pieces of output that were not empty: an upstream sends at least one token in each.
    deltas: u64,
    /// Quarters of a token, by the kinds of characters seen.
    quarters: u64,
    /// Tokens of text that has been counted and forgotten.
    folded: u64,
    /// Text yet to be counted, all of one choice and kind.
    pending: String,
    lane: Option<(u64, OutputKind)>,
    usage: Option<Usage>,
    /// Pieces of output that the usage covers.
    covered: u64,
    finished: bool,
    images: u64,
    /// Pictures within an answer, and bytes of other media and of sealed text.
    pictures: u64,
    media_bytes: u64,
    sealed_bytes: u64,
}

impl Meter {
    /// Reads one event's data (a `chat.completion.chunk` as JSON), or a whole reply.
    pub fn read_event(&mut self, data: &[u8]) {
        match Chunk::parse(data) {
            Some(chunk) => self.read_chunk(&chunk),
            // What cannot be read may still be output.
            None if data.trim_ascii() == b"[DONE]" || data.trim_ascii().is_empty() => {}
            None => self.on_unreadable(),
        }
    }

    /// Reads one chunk that has been parsed already.
    pub fn read_chunk(&mut self, chunk: &Chunk<'_>) {
        chunk.report_to(self);
    }

    /// Output tokens so far, never fewer than a tokenizer would count on usual text; cheap.
    ///
    /// Usual text is prose and code in any language: there it is two to four times the o200k
    /// count. Text made to be expensive (base64, rare Chinese characters) can exceed it.
    #[must_use]
    pub fn output_ceiling(&self) -> u64 {
        self.deltas.max(self.quarters.div_ceil(4) + self.media_tokens())
    }

    /// Output tokens so far by the tokenizer: costs time, used near a limit and when usage never came.
    ///
    /// At least one for each delta, as upstreams send whole tokens. The o200k part is exact for
    /// an answer of one choice whose words have blanks between them; where text without blanks is
    /// counted in stretches of a kilobyte, each cut may add a token or two. Calling it often is
    /// fine: no text is counted twice but the last [`LONG_WORD`] bytes.
    #[must_use]
    pub fn output_counted(&mut self) -> u64 {
        self.deltas.max(self.text_counted() + self.media_tokens())
    }

    fn text_counted(&mut self) -> u64 {
        self.fold_words();
        self.folded + count(&self.pending)
    }

    /// Tokens of what is no text, weighed as in a prompt.
    fn media_tokens(&self) -> u64 {
        media_tokens(self.pictures, self.media_bytes, self.sealed_bytes)
    }

    /// The reported usage, unchanged, if it covers all output so far; `None` while the upstream has reported
    /// nothing, the prompt alone, or less than the output.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let is_up_to_date = |usage: &Usage| {
            let names_output = usage.tokens.completion + usage.tokens.reasoning > 0;
            self.deltas <= self.covered && (names_output || self.finished || usage.total.is_some())
        };
        self.usage.filter(is_up_to_date)
    }

    /// The reported usage; counts that are missing or cannot be right are replaced by the gateway's own,
    /// and the source is then [`Source::Estimated`]. `prompt` counts the prompt if that is needed. `None`
    /// if nothing was reported.
    #[must_use]
    pub fn reported(&mut self, prompt: impl FnOnce() -> u64) -> Option<Usage> {
        let mut usage = self.usage?;
        let reported = usage.tokens.completion.saturating_add(usage.tokens.reasoning);
        if self.has_output()
            && (reported == 0 || self.deltas > self.covered || self.is_too_few(reported))
        {
            let counted = self.output_counted();
            let rest = usage
                .total
                .filter(|_| reported == 0)
                .map(|total| total - usage.tokens.prompt.min(total));
            let rest = rest.filter(|rest| *rest > 0);
            let output = rest.map_or(counted, |rest| counted.min(rest));
            if output > reported {
                usage.tokens.completion += output - reported;
                usage.source = Source::Estimated;
            }
            // The reported cost does not include them.
            usage.cost_ticks = usage.cost_ticks.filter(|ticks| *ticks > 0);
        }
        if usage.tokens.prompt == 0 {
            let rest = usage.total.map(|total| total.saturating_sub(usage.tokens.total()));
            usage.tokens.prompt = rest.filter(|rest| *rest > 0).unwrap_or_else(prompt);
            if usage.tokens.prompt > 0 {
                usage.source = Source::Estimated;
            }
        }
        Some(usage)
    }

    /// True if the text seen can hardly be so few tokens, in any vocabulary. The cost of media is left to the
    /// upstream.
    fn is_too_few(&mut self, reported: u64) -> bool {
        // The ceiling is two to four times what a tokenizer counts; counting is not cheap.
        self.quarters.div_ceil(4) / 32 > reported.saturating_add(8)
            && self.text_counted() / 4 > reported
    }

    /// True if any output was seen.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.deltas > 0
    }

    /// True if a choice has ended with a reason.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Number of images generated so far.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Counts the words that are sure to be whole, and forgets them.
    ///
    /// A space behind anything but white space begins a new word in o200k, whatever comes next:
    /// the parts before and behind it count the same together and apart.
    fn fold_words(&mut self) {
        let bytes = self.pending.as_bytes();
        let boundary = memchr::memrchr_iter(b' ', bytes)
            .find(|at| *at > 0 && !ends_in_white(&self.pending[..*at]))
            .unwrap_or(0);
        if self.pending.len() - boundary > LONG_WORD {
            return self.fold_all();
        }
        self.folded += count(&self.pending[..boundary]);
        self.pending.drain(..boundary);
    }

    fn add_text(&mut self, lane: u64, kind: OutputKind, json: &str) {
        let text = json::text_in(json);
        self.quarters += text.chars().map(quarters).sum::<u64>();
        let lane = Some((lane, kind));
        if self.lane != lane {
            self.fold_all();
            self.lane = lane;
        }
        let mut rest = &*text;
        while !rest.is_empty() {
            let room = FOLD_AT.saturating_sub(self.pending.len());
            let (now, later) = rest.split_at(rest.floor_char_boundary(room));
            self.pending.push_str(now);
            if !later.is_empty() {
                self.fold_words();
            }
            rest = later;
        }
    }

    fn fold_all(&mut self) {
        self.folded += count(&self.pending);
        self.pending.clear();
    }
}

impl UsageSink for Meter {
    fn on_output(&mut self, lane: u64, piece: OutputPiece<'_>) {
        self.deltas += 1;
        match piece {
            OutputPiece::Text(kind, json) => self.add_text(lane, kind, json),
            OutputPiece::Image => self.pictures += 1,
            OutputPiece::Media(bytes) => self.media_bytes = self.media_bytes.saturating_add(bytes),
            OutputPiece::Sealed(bytes) => {
                self.sealed_bytes = self.sealed_bytes.saturating_add(bytes);
            }
        }
    }

    /// Counts only grow: a later usage object that has less, as some upstreams end with, is passed over.
    fn on_usage(&mut self, usage: Usage) {
        self.usage = Usage::larger(self.usage, Some(usage));
        self.covered = self.deltas;
    }

    fn on_unreadable(&mut self) {
        self.deltas += 1;
    }

    fn on_finish(&mut self) {
        self.finished = true;
    }

    fn on_image(&mut self) {
        self.images += 1;
    }
}

/// The most that one character costs in usual text, in quarters of an o200k token.
fn quarters(c: char) -> u64 {
    match c {
        'a'..='z' | 'A'..='Z' | ' ' => 2,
        // Tibetan and Ethiopic, which o200k hardly knows.
        '\u{F00}'..='\u{FFF}' | '\u{1200}'..='\u{139F}' => 10,
        // Digits, signs, Latin letters with marks; Burmese, Georgian, Khmer.
        '\0'..='\u{2FF}' | '\u{1000}'..='\u{1FFF}' => 4,
        // Greek, Cyrillic, Hebrew, Arabic, the scripts of India, Thai.
        '\u{300}'..='\u{EFF}' => 3,
        // Chinese, Japanese, Korean.
        '\u{3000}'..='\u{D7FF}' => 8,
        // Mathematics, emoji, the rest.
        _ => 12,
    }
}

fn ends_in_white(text: &str) -> bool {
    text.ends_with(char::is_whitespace)
}

#[cfg(test)]
mod tests;
