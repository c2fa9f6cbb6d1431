//! The program of a session, in a few words that its owner recognises: `Firefox on Windows`, `curl/8.5.0`.

/// Maximum length of a name that is not a browser's, in characters.
const LONGEST_NAME: usize = 40;

/// Marks of browsers in a user agent, and their names. Browsers name those they descend from, so the most
/// specific mark comes first.
const BROWSERS: [(&str, &str); 11] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Marks of operating systems in a user agent, and their names; the most specific mark comes first.
const SYSTEMS: [(&str, &str); 7] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// A program, with the system it runs on where that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Empty if the client did not say.
    pub name: String,
    pub system: Option<&'static str>,
}

impl Program {
    /// The program of a `User-Agent`, which may say anything.
    #[must_use]
    pub fn of(user_agent: &str) -> Self {
        let name_in = |marks: &[(&'static str, &'static str)]| {
            marks.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name)
        };
        match name_in(&BROWSERS).filter(|_| user_agent.starts_with("Mozilla/")) {
            Some(browser) => Self { name: browser.to_owned(), system: name_in(&SYSTEMS) },
            None => {
                let product = user_agent.split_whitespace().next().unwrap_or_default();
                Self { name: product.chars().take(LONGEST_NAME).collect(), system: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_and_other_programs_are_named() {
        let mozilla = "Mozilla/5.0";
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        for (user_agent, name, system) in [
            (
                format!(
                    "{mozilla} (Windows NT 10.0; Win64; x64; rv:142.0) Gecko/20100101 Firefox/142.0"
                ),
                "Firefox",
                Some("Windows"),
            ),
            (
                format!(
                    "{mozilla} (Windows NT 10.0; Win64; x64) {webkit} Chrome/140.0.0.0 Safari/537.36 Edg/140.0"
                ),
                "Edge",
                Some("Windows"),
            ),
            (
                format!(
                    "{mozilla} (Linux; Android 10; K) {webkit} Chrome/140.0.0.0 Mobile Safari/537.36"
                ),
                "Chrome",
                Some("Android"),
            ),
            (
                format!("{mozilla} (X11; Linux x86_64) {webkit} Chrome/140.0.0.0 Safari/537.36"),
                "Chrome",
                Some("Linux"),
            ),
            (
                format!(
                    "{mozilla} (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
                ),
                "Safari",
                Some("iPhone"),
            ),
            (
                format!(
                    "{mozilla} (Macintosh; Intel Mac OS X 10_15_7) {webkit} Version/18.0 Safari/605.1.15"
                ),
                "Safari",
                Some("macOS"),
            ),
            ("curl/8.5.0".to_owned(), "curl/8.5.0", None),
            ("python-requests/2.32 Firefox/1".to_owned(), "python-requests/2.32", None),
            (String::new(), "", None),
            ("  ".to_owned(), "", None),
            ("<script>".to_owned(), "<script>", None),
        ] {
            let program = Program { name: name.to_owned(), system };
            assert_eq!(Program::of(&user_agent), program, "{user_agent}");
        }
        assert_eq!(Program::of(&"x".repeat(200)).name.len(), LONGEST_NAME);
    }
}
