//! The text of answers: words drawn from the seed, or a given text in pieces.

use std::borrow::Cow;
use std::sync::Arc;

/// The pieces of a text, one o200k token each.
#[derive(Debug, Clone)]
pub struct Words(Source);

#[derive(Debug, Clone)]
enum Source {
    /// An endless row of words, drawn by splitmix64.
    Drawn(Draws),
    /// A text, and the next piece of it.
    Given(Pieces, usize),
}

/// A text as pieces of one o200k token each. A piece is empty where its token is only a part of a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces(Arc<[Box<str>]>);

/// Numbers drawn by splitmix64.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Words {
    /// Words without end that follow from `seed`.
    pub fn drawn(seed: u64) -> Self {
        Self(Source::Drawn(Draws::new(seed)))
    }

    pub fn given(pieces: Pieces) -> Self {
        Self(Source::Given(pieces, 0))
    }
}

impl Iterator for Words {
    type Item = Cow<'static, str>;

    fn next(&mut self) -> Option<Cow<'static, str>> {
        match &mut self.0 {
            Source::Drawn(draws) => {
                let index = draws.draw() % VOCABULARY.len() as u64;
                VOCABULARY.get(usize::try_from(index).ok()?).copied().map(Cow::Borrowed)
            }
            Source::Given(pieces, next) => {
                let piece = pieces.0.get(*next)?;
                *next += 1;
                Some(Cow::Owned(piece.to_string()))
            }
        }
    }
}

impl Pieces {
    pub fn of(text: &str) -> Self {
        let mut pending = Vec::new();
        let pieces = o200k::encode(text).into_iter().map(|(_, bytes)| {
            pending.extend_from_slice(bytes);
            let piece = std::str::from_utf8(&pending).ok().map(Box::from);
            if piece.is_some() {
                pending.clear();
            }
            piece.unwrap_or_default()
        });
        Self(pieces.collect())
    }

    /// The number of tokens.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

/// A text as the inside of a JSON string.
pub fn escaped(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let json = serde_json::Value::from(text).to_string();
    Cow::Owned(json.get(1..json.len() - 1).unwrap_or_default().to_owned())
}

/// One o200k token each, also in a row; some with letters of more than one byte. None needs
/// escaping in JSON.
const VOCABULARY: [&str; 96] = [
    " the",
    " of",
    " and",
    " to",
    " in",
    " is",
    " that",
    " for",
    " it",
    " with",
    " as",
    " was",
    " on",
    " are",
    " by",
    " this",
    " from",
    " at",
    " or",
    " an",
    " be",
    " not",
    " have",
    " one",
    " all",
    " new",
    " more",
    " time",
    " people",
    " water",
    " house",
    " light",
    " small",
    " large",
    " river",
    " stone",
    " green",
    " blue",
    " white",
    " black",
    " morning",
    " evening",
    " night",
    " summer",
    " winter",
    " garden",
    " window",
    " door",
    " table",
    " letter",
    " number",
    " question",
    " answer",
    " story",
    " music",
    " colour",
    " paper",
    " city",
    " road",
    " train",
    " ship",
    " island",
    " mountain",
    " forest",
    " field",
    " animal",
    " bird",
    " fish",
    " horse",
    " tree",
    " flower",
    " apple",
    " bread",
    " sugar",
    " coffee",
    " dinner",
    " friend",
    " mother",
    " father",
    " child",
    " teacher",
    " doctor",
    " worker",
    " market",
    " money",
    " price",
    " book",
    " page",
    " word",
    " line",
    " point",
    " circle",
    " café",
    " était",
    " más",
    " für",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_one_token_alone() {
        let wrong: Vec<_> = VOCABULARY.iter().filter(|word| o200k::count(word) != 1).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn pieces_join_to_their_text_and_are_one_token_each() {
        for text in [r#"{"city":"Paris","days":1}"#, "añö 汉字 🧑‍🚀 \u{1f9ff}", ""] {
            let pieces = Pieces::of(text);
            assert_eq!(pieces.len(), o200k::count(text) as u64);
            assert_eq!(Words::given(pieces).collect::<String>(), text);
        }
        assert_eq!(escaped("a\"b\n"), "a\\\"b\\n");
        assert!(matches!(escaped(" café"), Cow::Borrowed(_)));
    }
}
