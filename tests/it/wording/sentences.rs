//! The sentences in the program's source, by the file that they are in.

use super::lexer::{Token, close, tokens};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The sentences of one kind, by path.
pub type ByFile = BTreeMap<String, Vec<String>>;

#[derive(Default)]
pub struct Sentences {
    /// `level message {fields}`.
    pub logs: ByFile,
    /// Errors, replies, output of commands.
    pub texts: ByFile,
}

/// Log macros of `tracing`.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Calls with a text that is for people whatever it looks like.
const MESSAGES: [&str; 5] = ["context", "bail", "anyhow", "ensure", "with_context"];

/// Calls with a text that only a bug brings to light.
const PANICS: [&str; 4] = ["expect", "unreachable", "debug_assert", "assert"];

/// Files whose texts are compared with what upstreams say.
const PATTERNS: [&str; 2] =
    ["crates/wire/src/upstream_error_body.rs", "crates/wire/src/error_phrases.rs"];

/// All of the product and its crates, without their tests.
pub fn of_source() -> Sentences {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "crates"] {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    let mut found = Sentences::default();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if PATTERNS.contains(&name.as_str()) {
            continue;
        }
        let tokens = tokens(&fs::read_to_string(&path).unwrap());
        let mut file = File {
            tokens: &tokens,
            is_sql: name.starts_with("crates/store/src/"),
            logs: Vec::new(),
            texts: Vec::new(),
        };
        file.scan(0, tokens.len());
        let (logs, texts) = (file.logs, file.texts);
        let add = |to: &mut ByFile, all: Vec<String>| {
            if !all.is_empty() {
                to.insert(name.clone(), all);
            }
        };
        add(&mut found.logs, logs);
        add(&mut found.texts, texts);
    }
    found
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let is_test = stem == "tests" || stem.ends_with("_tests") || stem == "fake";
        if path.is_dir() && !is_test {
            collect(&path, paths);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !is_test {
            paths.push(path);
        }
    }
}

struct File<'a> {
    tokens: &'a [Token],
    /// Texts may be SQL.
    is_sql: bool,
    logs: Vec<String>,
    texts: Vec<String>,
}

impl File<'_> {
    fn scan(&mut self, mut at: usize, end: usize) {
        while at < end {
            let opens = self.opening(at);
            match &self.tokens[at] {
                Token::Punct('#') if opens.is_some_and(|open| self.tokens[open].is('[')) => {
                    at = self.attribute(opens.unwrap_or(at));
                }
                Token::Ident(name) if opens.is_some() => {
                    let open = opens.unwrap_or(at);
                    at = self.call(name, open);
                }
                Token::Text(text) => {
                    if is_sentence(text) && !(self.is_sql && is_sql(text)) {
                        self.texts.push(text.clone());
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Where the arguments of a call or macro, or the inside of an attribute, begin.
    fn opening(&self, at: usize) -> Option<usize> {
        let next = if self.is_at(at + 1, '!') { at + 2 } else { at + 1 };
        let open = ['(', '[', '{'].iter().any(|c| self.is_at(next, *c));
        (open && (next == at + 2 || !self.is_at(next, '{'))).then_some(next)
    }

    fn is_at(&self, at: usize, punct: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(punct))
    }

    /// Attributes speak to the compiler, but for `#[error(…)]`. What clap and utoipa are told here is in
    /// `--help` and in the API's description.
    fn attribute(&mut self, open: usize) -> usize {
        let end = close(self.tokens, open);
        if self.tokens.get(open + 1).and_then(Token::ident) == Some("error") {
            self.messages(open, end);
        }
        end
    }

    fn call(&mut self, name: &str, open: usize) -> usize {
        let end = close(self.tokens, open);
        let is_macro = self.is_at(open - 1, '!');
        if is_macro && LEVELS.contains(&name) {
            let log = log(name, &self.tokens[open + 1..end - 1]);
            self.logs.push(log);
            return end;
        }
        if PANICS.contains(&name) {
            return end;
        }
        if MESSAGES.contains(&name) && !self.is_at(open, '{') {
            self.messages(open, end);
            return end;
        }
        open + 1
    }

    /// Every text, of one word too.
    fn messages(&mut self, open: usize, end: usize) {
        for token in &self.tokens[open..end] {
            if let Token::Text(text) = token
                && text.chars().any(char::is_alphabetic)
            {
                self.texts.push(text.clone());
            }
        }
    }
}

/// `level message {fields}`, from what is between the brackets of a log macro.
fn log(level: &str, tokens: &[Token]) -> String {
    let mut fields = Vec::new();
    let mut at = 0;
    let mut message = String::new();
    while at < tokens.len() {
        let mut end = at;
        while end < tokens.len() && !tokens[end].is(',') {
            let opens = matches!(tokens[end], Token::Punct('(' | '[' | '{'));
            end = if opens { close(tokens, end) } else { end + 1 };
        }
        match &tokens[at..end] {
            [Token::Text(text), ..] => {
                message.clone_from(text);
                break;
            }
            [Token::Ident(_), Token::Punct(':'), ..] => {}
            argument => fields.extend(field(argument)),
        }
        at = end + 1;
    }
    let fields =
        if fields.is_empty() { String::new() } else { format!(" {{{}}}", fields.join(", ")) };
    format!("{level}: {message}{fields}")
}

/// The field's name: `name = value`, `%name`, `?name` or `name`.
fn field(argument: &[Token]) -> Option<String> {
    let named = argument.iter().position(|token| token.is('=')).unwrap_or(argument.len());
    argument[..named].iter().filter_map(Token::ident).next_back().map(str::to_owned)
}

/// True if two words follow each other and the text is no JSON, HTTP, event of a stream or list of headers.
fn is_sentence(text: &str) -> bool {
    const CODE: [&str; 9] = [
        "{\"",
        "{{\"",
        "data: ",
        "event: ",
        "GET ",
        "PRI ",
        "#!lua",
        "default-src",
        "x-request-id,",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_json = words.len() < 12 && text.contains("\":");
    if is_json || CODE.iter().any(|start| text.starts_with(start)) {
        return false;
    }
    let is_word = |word: &&str| {
        let word = word.trim_matches(|c: char| c.is_ascii_punctuation());
        word.len() > 1 && word.chars().all(|c| c.is_alphabetic() || c == '-' || c == '\'')
    };
    words.len() > 1 && words.iter().any(is_word)
}

/// True of a text in the store that begins as a statement or clause does.
fn is_sql(text: &str) -> bool {
    const WORDS: [&str; 29] = [
        "select", "insert", "update", "delete", "with", "create", "alter", "drop", "pragma", "set",
        "begin", "and", "or", "where", "order", "group", "on", "lock", "truncate", "values",
        "from", "show", "escape", "for", "in", "id", "=", ",", ")",
    ];
    const STARTS: [&str; 2] = ["cast(", "request,"];
    let first = text.split_whitespace().next().unwrap_or_default();
    WORDS.contains(&first) || STARTS.iter().any(|start| first.starts_with(start))
}
