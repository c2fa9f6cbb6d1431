//! Ends a text at a stop sequence, for upstreams that take none.

/// The most sequences of a request, and the most bytes of one.
pub(super) const MAX_SEQUENCES: usize = 16;
pub(super) const MAX_SEQUENCE_BYTES: usize = 512;

/// Looks for sequences in a text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct StopSequences {
    sequences: Vec<String>,
    /// The end of the text that may be the beginning of a sequence.
    held: String,
    found: Option<String>,
}

impl StopSequences {
    pub fn new(sequences: Vec<String>) -> Self {
        let sequences = sequences.into_iter().filter(|sequence| !sequence.is_empty()).collect();
        Self { sequences, ..Self::default() }
    }

    /// True if there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The sequence that has ended the text.
    pub fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// Takes the next piece; returns the text that can be shown.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let first = self
            .sequences
            .iter()
            .filter_map(|sequence| self.held.find(sequence.as_str()).map(|at| (at, sequence)));
        if let Some((at, sequence)) = first.min_by_key(|(at, _)| *at) {
            self.found = Some(sequence.clone());
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let held = self.held.len();
        let is_beginning = |at: &usize| {
            let end = self.held.get(*at..);
            end.is_some_and(|end| self.sequences.iter().any(|one| one.starts_with(end)))
        };
        let longest = self.sequences.iter().map(String::len).max().unwrap_or(0);
        let keep = (held.saturating_sub(longest)..held).find(is_beginning).unwrap_or(held);
        let end = self.held.split_off(keep);
        std::mem::replace(&mut self.held, end)
    }

    /// The text that was held back, once it has ended.
    pub fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sequences: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut stops = StopSequences::new(sequences.iter().map(|one| (*one).to_owned()).collect());
        let mut text = String::new();
        for piece in pieces {
            text += &stops.push(piece);
            if stops.found().is_some() {
                break;
            }
        }
        (text + &stops.rest(), stops.found().map(str::to_owned))
    }

    #[test]
    fn a_sequence_is_found_however_it_is_torn() {
        let text = "yes</block> and more";
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            let (before, behind) = text.split_at(at);
            let (shown, found) = shown(&["</block>", "\n\n"], &[before, behind]);
            assert_eq!((shown.as_str(), found.as_deref()), ("yes", Some("</block>")), "{at}");
        }
    }

    #[test]
    fn what_only_looks_like_a_beginning_is_shown() {
        assert_eq!(shown(&["</b>"], &["a <", "/c> é<", "/"]), ("a </c> é</".to_owned(), None));
        assert_eq!(shown(&[], &["a", "b"]), ("ab".to_owned(), None));
    }
}
