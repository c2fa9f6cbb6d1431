//! Display names of keys and plans.
//!
//! A name with invisible or reordering characters can impersonate another one on a screen or in a log.

/// Maximum length of a name, in characters.
pub const LONGEST: usize = 64;

/// Characters that are invisible or change how their neighbors are displayed: controls, format
/// characters (bidirectional marks, zero-width characters, tags), separators of lines, spaces that are
/// not the plain or the ideographic one, fillers, variation selectors, private use. In order.
const UNSEEN: [(char, char); 37] = [
    ('\0', '\u{1f}'),
    ('\u{7f}', '\u{a0}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{2000}', '\u{200f}'),
    ('\u{2028}', '\u{202f}'),
    ('\u{205f}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{e000}', '\u{f8ff}'),
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{fffe}', '\u{ffff}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1345f}'),
    ('\u{16fe4}', '\u{16fe4}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d159}', '\u{1d159}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{1fffe}', '\u{1ffff}'),
    ('\u{2fffe}', '\u{2ffff}'),
    ('\u{3fffe}', '\u{3ffff}'),
    ('\u{dfffe}', '\u{10ffff}'),
];

/// The reason a text is not a valid name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadLabel {
    #[error("a name must have 1 to {LONGEST} characters")]
    Length,
    #[error(
        "a name must not contain invisible or bidirectional characters: remove U+{code:04X} at \
         position {place}"
    )]
    Unseen {
        /// The code point of the refused character.
        code: u32,
        /// Counted from 1, in characters.
        place: usize,
    },
}

/// The name without white space around it.
///
/// # Errors
/// Unless it has 1 to 64 characters, all of which are seen. Emoji may have the joiners and selectors
/// that belong to them.
pub fn label(text: &str) -> Result<String, BadLabel> {
    let text = text.trim_matches(' ');
    if text.trim().is_empty() || text.chars().count() > LONGEST {
        return Err(BadLabel::Length);
    }
    check_seen(text, |_| false).map_err(|(code, place)| BadLabel::Unseen { code, place })?;
    Ok(text.to_owned())
}

/// A text has a character that is not seen, or changes how others are shown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "must not contain invisible or bidirectional characters: remove U+{code:04X} at position {place}"
)]
pub struct UnseenCharacter {
    /// The code point of the refused character.
    pub code: u32,
    /// Counted from 1, in characters.
    pub place: usize,
}

/// Checks a text of several lines.
///
/// # Errors
/// A character is not seen, and neither a line break nor part of an emoji.
pub fn has_only_seen_characters(text: &str) -> Result<(), UnseenCharacter> {
    let checked = check_seen(text, |character| character == '\n');
    checked.map_err(|(code, place)| UnseenCharacter { code, place })
}

/// Code point and position, from 1, of the first character that is not seen, unless it `is_allowed`.
fn check_seen(text: &str, is_allowed: fn(char) -> bool) -> Result<(), (u32, usize)> {
    let mut before = None;
    let mut characters = text.chars().enumerate().peekable();
    while let Some((at, character)) = characters.next() {
        let after = characters.peek().map(|(_, after)| *after);
        let is_refused = is_unseen(character) && !is_allowed(character);
        if is_refused && !is_part_of_emoji(before, character, after) {
            return Err((character.into(), at + 1));
        }
        before = Some(character);
    }
    Ok(())
}

/// True if a character is not seen, or changes how others are shown.
#[must_use]
pub fn is_unseen(character: char) -> bool {
    let is_tag = ('\u{e0000}'..='\u{e0fff}').contains(&character);
    is_tag || UNSEEN.iter().any(|(first, last)| (first..=last).contains(&&character))
}

/// The selector that makes a pictograph coloured, behind one; the joiner between two.
fn is_part_of_emoji(before: Option<char>, character: char, after: Option<char>) -> bool {
    const SELECTOR: char = '\u{fe0f}';
    let follows = before.is_some_and(is_pictograph);
    match character {
        SELECTOR => follows,
        '\u{200d}' => (follows || before == Some(SELECTOR)) && after.is_some_and(is_pictograph),
        _ => false,
    }
}

fn is_pictograph(character: char) -> bool {
    matches!(character, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
        && !is_unseen(character)
}

#[cfg(test)]
mod tests;
