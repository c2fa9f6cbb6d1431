//! The surfaces that the simulated upstream offers.

use std::str::FromStr;

/// An API of the upstream, as options name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Chat,
    Responses,
    Completions,
    Messages,
    Embeddings,
    Images,
}

/// The surfaces that are offered; all by default. The others are unknown paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surfaces(Vec<Surface>);

/// A name that is not the name of a surface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a surface; valid surfaces: {NAMES}")]
pub struct UnknownSurface(String);

/// All surfaces by name, for help texts.
pub const NAMES: &str = "chat responses completions messages embeddings images";

const ALL: [Surface; 6] = [
    Surface::Chat,
    Surface::Responses,
    Surface::Completions,
    Surface::Messages,
    Surface::Embeddings,
    Surface::Images,
];

impl Surface {
    /// The name in options and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Messages => "messages",
            Self::Embeddings => "embeddings",
            Self::Images => "images",
        }
    }
}

impl Surfaces {
    pub fn offers(&self, surface: Surface) -> bool {
        self.0.contains(&surface)
    }
}

impl Default for Surfaces {
    fn default() -> Self {
        Self(ALL.to_vec())
    }
}

impl FromStr for Surfaces {
    type Err = UnknownSurface;

    /// Reads names separated by commas.
    fn from_str(text: &str) -> Result<Self, UnknownSurface> {
        let surface = |name: &str| {
            let known = ALL.into_iter().find(|surface| surface.name() == name);
            known.ok_or_else(|| UnknownSurface(name.to_owned()))
        };
        text.split(',').map(|name| surface(name.trim())).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surfaces_are_read_by_name() {
        let chat: Surfaces = "chat, messages".parse().expect("known names");
        assert!(chat.offers(Surface::Messages) && !chat.offers(Surface::Responses));
        assert!("chat,x".parse::<Surfaces>().is_err() && "".parse::<Surfaces>().is_err());
        assert_eq!(NAMES.replace(' ', ",").parse(), Ok(Surfaces::default()));
    }
}
