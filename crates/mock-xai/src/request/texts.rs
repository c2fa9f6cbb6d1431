//! Prompts given as texts or as token ids, in completions and embeddings.

use super::PromptReader;
use serde::Deserialize;

/// One or several prompts, as texts or as token ids.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Texts {
    One(String),
    Several(Vec<String>),
    Tokens(Vec<u32>),
    SeveralTokens(Vec<Vec<u32>>),
}

impl Texts {
    /// The number of prompts in the body.
    pub fn count(&self) -> u32 {
        let count = match self {
            Self::One(_) | Self::Tokens(_) => 1,
            Self::Several(texts) => texts.len(),
            Self::SeveralTokens(texts) => texts.len(),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Adds the prompts to `reader`.
    pub fn read_into(&self, reader: &mut PromptReader) {
        match self {
            Self::One(text) => reader.add_prompt(text),
            Self::Several(texts) => texts.iter().for_each(|text| reader.add_prompt(text)),
            Self::Tokens(tokens) => reader.tokens += tokens.len() as u64,
            Self::SeveralTokens(texts) => {
                reader.tokens += texts.iter().map(|tokens| tokens.len() as u64).sum::<u64>();
            }
        }
    }
}
