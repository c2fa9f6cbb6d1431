//! Redacts the operator's keys, ids, hosts and addresses from upstream messages.
//!
//! Works word by word and errs towards taking out too much; what is configured is known to a
//! [`Redactor`], which finds it anywhere. Invariants: what comes out has no more than [`MAX_CHARS`]
//! characters, none of them a control character, and no [`WINDOW`] characters in a row of a
//! configured key in any usual encoding.

use serde_json::Value;
use std::collections::HashSet;
use std::fmt::Write as _;

/// The most characters of a redacted message.
pub const MAX_CHARS: usize = 1000;
/// Length of a part of a key that is long enough to be removed.
pub(super) const WINDOW: usize = 8;

/// Beginnings of words that name an account, a key or a project.
const PREFIXES: [&str; 22] = [
    "xai-",
    "sk-",
    "pk-",
    "rk-",
    "gsk_",
    "aiza",
    "hf_",
    "ghp_",
    "akia",
    "ltai",
    "nvapi-",
    "csk-",
    "pplx-",
    "eyj",
    "org-",
    "org_",
    "proj-",
    "proj_",
    "team-",
    "team_",
    "acct_",
    "workspace_",
];
/// Prefixes of ids that the caller has received, and may search for.
const CALLERS_IDS: [&str; 10] =
    ["call_", "toolu_", "resp_", "msg_", "fc_", "rs_", "ws_", "item_", "chatcmpl-", "gen-"];
/// Last parts of names of hosts.
const TOP_DOMAINS: [&str; 26] = [
    "com",
    "net",
    "org",
    "io",
    "ai",
    "dev",
    "app",
    "cloud",
    "local",
    "internal",
    "lan",
    "intranet",
    "corp",
    "home",
    "localdomain",
    "svc",
    "co",
    "uk",
    "de",
    "fr",
    "eu",
    "cn",
    "jp",
    "example",
    "invalid",
    "xyz",
];
/// Names of one part that are hosts where a port follows.
const SERVICES: [&str; 22] = [
    "localhost",
    "backend",
    "upstream",
    "gateway",
    "proxy",
    "redis",
    "postgres",
    "database",
    "db",
    "vllm",
    "ollama",
    "litellm",
    "server",
    "host",
    "model",
    "models",
    "llm",
    "inference",
    "nginx",
    "envoy",
    "api",
    "router",
];

/// Removes what is configured for one upstream, and everything that looks secret.
#[derive(Default)]
pub struct Redactor {
    /// Every [`WINDOW`] characters of its key, however the key is encoded, in lower case.
    windows: HashSet<[u8; WINDOW]>,
    /// A key too short for that.
    short_key: Option<String>,
    host: Option<String>,
}

impl Redactor {
    /// For an upstream with this key at this host.
    #[must_use]
    pub fn new(key: Option<&str>, host: &str) -> Self {
        let mut windows = HashSet::new();
        for form in key.map(encodings).unwrap_or_default() {
            let form = form.to_ascii_lowercase();
            let all = form.as_bytes().windows(WINDOW);
            windows.extend(all.filter_map(|window| <[u8; WINDOW]>::try_from(window).ok()));
        }
        let short_key = key.filter(|key| (4..WINDOW).contains(&key.len())).map(str::to_lowercase);
        let host = (host.len() >= 4).then(|| host.to_ascii_lowercase());
        Self { windows, short_key, host }
    }

    /// The message with everything secret replaced by a word in brackets.
    #[must_use]
    pub fn redact(&self, message: &str) -> String {
        let clean: String =
            message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect();
        let mut text = self.without_key(&clean);
        for (secret, word) in [(&self.short_key, "[key]"), (&self.host, "[host]")] {
            if let Some(secret) = secret {
                text = without_word(&text, secret, word);
            }
        }
        let mut out = String::with_capacity(text.len());
        let mut after_bearer = false;
        for word in text.split_inclusive(is_between_words) {
            let bare = word.trim_end_matches(is_between_words);
            let replaced =
                if after_bearer && is_token(bare) { Some("[key]") } else { replacement(bare) };
            out.push_str(replaced.unwrap_or(bare));
            out.push_str(&word[bare.len()..]);
            if !bare.is_empty() {
                after_bearer =
                    bare.eq_ignore_ascii_case("bearer") || bare.eq_ignore_ascii_case("basic");
            }
        }
        // What took the place of something shorter may have made it longer.
        match out.char_indices().nth(MAX_CHARS) {
            Some((end, _)) => out[..end].to_owned(),
            None => out,
        }
    }

    /// The same for each string of a JSON value; one that has nothing secret stays as it was written.
    #[must_use]
    pub fn redact_json(&self, json: &str) -> String {
        let Ok(mut value) = serde_json::from_str::<Value>(json) else { return "null".to_owned() };
        if self.redact_value(&mut value) { value.to_string() } else { json.to_owned() }
    }

    fn redact_value(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => {
                let redacted = self.redact(text);
                let is_changed = redacted != *text;
                *text = redacted;
                is_changed
            }
            Value::Array(values) => {
                values.iter_mut().fold(false, |any, v| self.redact_value(v) | any)
            }
            Value::Object(members) => {
                members.values_mut().fold(false, |any, v| self.redact_value(v) | any)
            }
            _ => false,
        }
    }

    fn without_key(&self, text: &str) -> String {
        if self.windows.is_empty() {
            return text.to_owned();
        }
        let lower = text.to_ascii_lowercase();
        let mut is_key = vec![false; text.len()];
        for (start, window) in lower.as_bytes().windows(WINDOW).enumerate() {
            if <[u8; WINDOW]>::try_from(window).is_ok_and(|window| self.windows.contains(&window)) {
                is_key[start..start + WINDOW].fill(true);
            }
        }
        let mut out = String::with_capacity(text.len());
        let mut is_inside = false;
        for (at, c) in text.char_indices() {
            if !is_key[at] {
                out.push(c);
            } else if !is_inside {
                out.push_str("[key]");
            }
            is_inside = is_key[at];
        }
        out
    }
}

/// The message without what looks secret.
pub fn redact(message: &str) -> String {
    Redactor::default().redact(message)
}

/// The forms in which a key may occur in a message: as it is, for a URL with few or all of its characters escaped, in
/// hexadecimal, and in base64 behind anything.
fn encodings(key: &str) -> Vec<String> {
    let mut forms = vec![key.to_owned()];
    let (mut escaped, mut percent, mut hex) = (String::new(), String::new(), String::new());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        let _ = write!(percent, "%{byte:02X}");
        let _ = write!(hex, "{byte:02x}");
    }
    forms.extend([escaped, percent, hex]);
    for before in 0..3 {
        let standard = base64(key.as_bytes(), before);
        forms.push(standard.replace('+', "-").replace('/', "_"));
        forms.push(standard);
    }
    forms
}

/// The characters of base64 that are the key's alone, with so many bytes before it in its group.
fn base64(key: &[u8], before: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let first = (before * 8).div_ceil(6);
    let last = (before + key.len()) * 8 / 6;
    let bit = |at: usize| {
        let byte = (at / 8).checked_sub(before).and_then(|at| key.get(at)).copied().unwrap_or(0);
        usize::from(byte >> (7 - at % 8) & 1)
    };
    let character = |at: usize| {
        let value = (at * 6..at * 6 + 6).fold(0, |value, at| value << 1 | bit(at));
        char::from(ALPHABET[value])
    };
    (first..last).map(character).collect()
}

/// `text` with every `secret`, given in lower case, replaced where it is no part of a longer word.
fn without_word(text: &str, secret: &str, word: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in lower.match_indices(secret) {
        let end = at + secret.len();
        if at < done || lower[..at].ends_with(is_inner) || lower[end..].starts_with(is_inner) {
            continue;
        }
        out.push_str(&text[done..at]);
        out.push_str(word);
        done = end;
    }
    out.push_str(&text[done..]);
    out
}

fn is_between_words(c: char) -> bool {
    c.is_whitespace() || "\"'`()[]{}<>,;=|".contains(c)
}

fn replacement(original: &str) -> Option<&'static str> {
    let word = original.to_ascii_lowercase();
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '*');
    if core.contains("://") || core.starts_with("www.") {
        return Some("[link]");
    }
    if core.contains("***") || core.contains("...") || core.contains('…') {
        return Some("[key]");
    }
    if CALLERS_IDS.iter().any(|prefix| core.starts_with(prefix)) {
        return None;
    }
    if PREFIXES.iter().any(|prefix| has_secret(core, prefix)) || is_random(original) {
        return Some("[key]");
    }
    if is_email(core) {
        return Some("[email]");
    }
    if has_ipv4(core) || is_ipv6(&word) {
        return Some("[address]");
    }
    if core.split(['/', '@']).any(is_host) {
        return Some("[host]");
    }
    let is_account = core.starts_with("arn:") || core.starts_with("projects/");
    (is_account || has_uuid(core) || is_long_hex(core)).then_some("[id]")
}

/// True if `prefix` is in the word with something long enough behind it to be a secret's part.
fn has_secret(word: &str, prefix: &str) -> bool {
    let starts_there = |at: usize| !word[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
    word.match_indices(prefix).any(|(at, _)| {
        let tail = &word[at + prefix.len()..];
        starts_there(at) && tail.len() >= 4 && !is_plain_word(tail)
    }) || (word.starts_with(prefix) && word.len() > prefix.len() + 24)
}

/// Only letters and few of them: "team-wide" is a word, not an id.
fn is_plain_word(tail: &str) -> bool {
    let is_letters = |part: &str| part.len() <= 12 && part.bytes().all(|b| b.is_ascii_lowercase());
    tail.split(['-', '_']).all(is_letters)
}

/// True if the word after "Bearer" can be a token rather than an ordinary word.
fn is_token(word: &str) -> bool {
    word.len() >= 8 && !word.bytes().all(|b| b.is_ascii_lowercase())
}

/// A run of letters and digits as no language or name has it: base64 and the like.
fn is_random(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        let class = |b: u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
        let count = |is: fn(&u8) -> bool| run.as_bytes().iter().filter(|b| is(b)).count();
        let changes =
            run.as_bytes().windows(2).filter(|two| class(two[0]) != class(two[1])).count();
        run.len() >= 20
            && count(u8::is_ascii_digit) >= 3
            && count(u8::is_ascii_uppercase) >= 3
            && count(u8::is_ascii_lowercase) >= 3
            && changes * 3 >= run.len()
    })
}

fn is_email(word: &str) -> bool {
    word.split_once('@').is_some_and(|(name, domain)| {
        let last = domain.rsplit('.').next().unwrap_or_default();
        let has_end = last.len() >= 2 && last.bytes().all(|b| b.is_ascii_alphabetic());
        name.ends_with(|c: char| c.is_ascii_alphanumeric())
            && (domain == "localhost" || (domain.contains('.') && has_end))
    })
}

/// Four numbers of an address, with a port or anything else around them but more of such a number.
fn has_ipv4(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').any(|part| {
        let numbers: Vec<&str> = part.trim_matches('.').split('.').collect();
        let is_byte = |number: &&str| number.len() <= 3 && number.parse::<u8>().is_ok();
        numbers.len() == 4 && numbers.iter().all(is_byte)
    })
}

fn is_ipv6(word: &str) -> bool {
    let word = word.split(['/', '%']).next().unwrap_or_default();
    let word = word.trim_matches(['.', '!', '?']);
    let is_group = |group: &str| group.len() <= 4 && group.bytes().all(|b| b.is_ascii_hexdigit());
    let is_address = |text: &str| {
        let gaps = text.matches("::").count();
        let groups = text.split(':').filter(|group| !group.is_empty()).count();
        text.len() > 2
            && text.split(':').all(is_group)
            && !text.contains(":::")
            && (groups == 8 && gaps == 0 || (1..8).contains(&groups) && gaps == 1)
    };
    is_address(word) || word.strip_suffix(':').is_some_and(is_address)
}

/// `name.of.a.host`, or a name with a port behind it.
fn is_host(word: &str) -> bool {
    let (name, port) = word.split_once(':').unwrap_or((word, ""));
    let labels: Vec<&str> = name.split('.').collect();
    let is_label = |label: &&str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !labels.iter().all(is_label) || name == "x.ai" {
        return false;
    }
    let has_port = (2..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    let last = labels.last().copied().unwrap_or_default();
    match labels.len() {
        1 if has_port => SERVICES.contains(&name) || (name.contains('-') && port.len() >= 4),
        1 => name == "localhost",
        _ if has_port => last.bytes().any(|b| b.is_ascii_alphabetic()),
        _ => TOP_DOMAINS.contains(&last),
    }
}

fn has_uuid(word: &str) -> bool {
    word.as_bytes().windows(36).any(|window| {
        window.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

fn is_long_hex(word: &str) -> bool {
    word.as_bytes()
        .chunk_by(|a, b| a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
        .any(|run| run.len() >= 24 && run[0].is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
