//! Just enough of Rust's grammar to find string literals and what surrounds them.

/// A token of a source file. Numbers and characters are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Ident(String),
    /// The value of a string literal.
    Text(String),
    Punct(char),
}

impl Token {
    pub fn is(&self, punct: char) -> bool {
        *self == Self::Punct(punct)
    }

    pub fn ident(&self) -> Option<&str> {
        if let Self::Ident(name) = self { Some(name) } else { None }
    }
}

/// The tokens of `source` without comments, and without items under `#[cfg(test)]`.
pub fn tokens(source: &str) -> Vec<Token> {
    without_tests(&Lexer { chars: source.chars().collect(), at: 0 }.all())
}

/// The index behind the bracket that closes the one at `open`.
pub fn close(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Punct('(' | '[' | '{') => depth += 1,
            Token::Punct(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = end_of_item(tokens, close(tokens, at + 1));
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// True at `#[cfg(test)]`.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let idents = |at: usize| tokens.get(at).and_then(Token::ident);
    tokens[0].is('#')
        && idents(2) == Some("cfg")
        && idents(4) == Some("test")
        && tokens.get(5).is_some_and(|token| token.is(')'))
}

/// The index behind the item that begins at `at`, its other attributes included.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match &tokens[at] {
            Token::Punct('{') => return close(tokens, at),
            Token::Punct('(' | '[') => at = close(tokens, at),
            Token::Punct(';' | ',') => return at + 1,
            _ => at += 1,
        }
    }
    at
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn all(mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        while let Some(next) = self.peek(0) {
            if next == '/' && self.peek(1) == Some('/') {
                self.skip_while(|c| c != '\n');
            } else if next == '/' && self.peek(1) == Some('*') {
                self.block_comment();
            } else if next == '"' {
                tokens.push(self.text());
            } else if next == '\'' {
                self.char_or_lifetime();
            } else if next.is_alphabetic() || next == '_' {
                tokens.push(self.word());
            } else if next.is_ascii_digit() {
                self.skip_while(|c| c.is_alphanumeric() || c == '_');
            } else {
                if !next.is_whitespace() {
                    tokens.push(Token::Punct(next));
                }
                self.at += 1;
            }
        }
        tokens
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, goes_on: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&goes_on) {
            self.at += 1;
        }
    }

    fn block_comment(&mut self) {
        while self.at < self.chars.len() && (self.peek(0), self.peek(1)) != (Some('*'), Some('/')) {
            self.at += 1;
        }
        self.at += 2;
    }

    fn char_or_lifetime(&mut self) {
        self.at += 1;
        if self.peek(0) == Some('\\') {
            self.at += 2;
            self.skip_while(|c| c != '\'');
            self.at += 1;
        } else if self.peek(1) == Some('\'') {
            self.at += 2;
        }
    }

    /// An identifier, or the literal that begins like one: `r"…"`, `b"…"`, `r#"…"#`.
    fn word(&mut self) -> Token {
        let from = self.at;
        self.skip_while(|c| c.is_alphanumeric() || c == '_');
        let word: String = self.chars[from..self.at].iter().collect();
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        let is_text = self.peek(hashes) == Some('"');
        match word.as_str() {
            "r" | "br" if is_text => self.raw_text(hashes),
            "b" | "c" if hashes == 0 && is_text => self.text(),
            _ => Token::Ident(word),
        }
    }

    fn raw_text(&mut self, hashes: usize) -> Token {
        self.at += hashes + 1;
        let from = self.at;
        let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        while self.at < self.chars.len() && !self.chars[self.at..].starts_with(&end) {
            self.at += 1;
        }
        let text = self.chars[from..self.at].iter().collect();
        self.at += end.len();
        Token::Text(text)
    }

    fn text(&mut self) -> Token {
        let mut text = String::new();
        self.at += 1;
        while let Some(next) = self.peek(0) {
            self.at += 1;
            match next {
                '"' => break,
                '\\' => self.escape(&mut text),
                _ => text.push(next),
            }
        }
        Token::Text(text)
    }

    fn escape(&mut self, text: &mut String) {
        let escaped = self.peek(0);
        self.at += 1;
        match escaped {
            Some('\n') => self.skip_while(char::is_whitespace),
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(other) => text.push(other),
            None => {}
        }
    }
}

#[test]
fn texts_are_found_and_tests_and_comments_are_not() {
    let source = r##"
        // "no"
        fn f<'a>(c: char) -> &'a str { let x = '"'; /* "no" */ g("one \
            line", r#"a "raw" one"#, 'x', b"bytes") }
        #[cfg(test)]
        #[path = "no.rs"]
        mod tests { const A: &str = "no"; }
        const B: &str = "last";
    "##;
    let texts = tokens(source).into_iter().filter_map(|token| match token {
        Token::Text(text) => Some(text),
        _ => None,
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["one line", "a \"raw\" one", "bytes", "last"]);
}
