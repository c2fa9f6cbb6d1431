//! The languages of the console. The English text is the key; `locales/zh.toml` has the Chinese one.

use crate::mail::message::Language;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::LazyLock;

/// Texts in Simplified Chinese, by their English text.
static CHINESE: LazyLock<HashMap<String, String>> =
    LazyLock::new(|| toml::from_str(include_str!("locales/zh.toml")).unwrap_or_default());

impl Language {
    /// The value of the attribute `lang`.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }

    /// The text in this language. A text without a translation stays English; a test finds such texts.
    #[must_use]
    pub fn t(self, english: &str) -> &str {
        match self {
            Self::English => english,
            Self::Chinese => translated(english).unwrap_or(english),
        }
    }

    /// The text in this language, with each `{}` replaced by the next value.
    #[must_use]
    pub fn fill(self, english: &str, values: &[&dyn Display]) -> String {
        let mut parts = self.t(english).split("{}");
        let mut text = parts.next().unwrap_or_default().to_owned();
        for (part, value) in parts.zip(values) {
            text.push_str(&value.to_string());
            text.push_str(part);
        }
        text
    }
}

fn translated(english: &str) -> Option<&'static str> {
    CHINESE.get(english).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Texts in `t("...")` and `fill("...")` of templates and pages.
    fn used() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut texts = BTreeSet::new();
        for folder in ["templates/console", "src/console"] {
            collect(&root.join(folder), &mut texts);
        }
        texts
    }

    fn collect(folder: &Path, texts: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, texts);
            } else if path.extension().is_some_and(|kind| kind == "html" || kind == "rs")
                && path.file_name().is_some_and(|name| name != "texts.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                // A long text stands on a line of its own.
                let text: String =
                    text.split('(').map(str::trim_start).collect::<Vec<_>>().join("(");
                for start in [".t(\"", "fill(\"", "text(\""] {
                    let found = text.split(start).skip(1);
                    texts
                        .extend(found.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
                }
            }
        }
    }

    #[test]
    fn every_text_is_translated_and_no_translation_is_left_over() {
        let used = used();
        assert!(used.len() > 20, "{used:?}");
        let known: BTreeSet<String> = CHINESE.keys().cloned().collect();
        assert_eq!(
            used.difference(&known).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "untranslated"
        );
        assert_eq!(known.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new(), "unused");
        for (english, chinese) in CHINESE.iter() {
            let places = |text: &str| text.matches("{}").count();
            assert_eq!(places(english), places(chinese), "{english}");
        }
    }

    #[test]
    fn a_language_is_named_by_its_tag() {
        for (tag, expected) in [
            ("en-GB", Some(Language::English)),
            ("zh_TW", Some(Language::Chinese)),
            ("ZH", Some(Language::Chinese)),
            ("english", None),
            ("", None),
        ] {
            assert_eq!(Language::of_tag(tag), expected, "{tag}");
        }
    }

    #[test]
    fn values_fill_places_in_order() {
        assert_eq!(Language::English.fill("{} of {} left", &[&1, &"two"]), "1 of two left");
        assert_eq!(Language::English.fill("none", &[&1]), "none");
    }
}
