//! Words that an earlier version of the code used in a sense of its own. Readers should not have to learn a
//! language: each has a word of the field in its place.

use super::root;
use crate::docs::pages;
use std::fs;
use std::path::{Path, PathBuf};

/// A word or phrase, in small letters; the reason and what to write in its place.
struct OldWord {
    phrase: &'static str,
    reason: &'static str,
}

const fn old(phrase: &'static str, reason: &'static str) -> OldWord {
    OldWord { phrase, reason }
}

/// Not in documentation, configuration, messages, logs and help texts.
const IN_SENTENCES: [OldWord; 30] = [
    old("nobody", "name the actor: no user, no request, no gateway"),
    old("somebody", "name the actor: a user, another process"),
    old("is told", "the verb that says which: is notified, receives, is reported to"),
    old("are told", "the verb that says which: are notified, receive"),
    old("tells about", "describes"),
    old("tell what", "return, report"),
    old("does not answer", "does not respond"),
    old("as good as", "say what it is treated as"),
    old("left alone", "cooling down, or an open circuit breaker"),
    old("taken for dead", "presumed dead"),
    old("begin anew", "reset, restart"),
    old("begins anew", "is reset, restarts"),
    old("brought back", "restored"),
    old("brings back", "restores"),
    old("put off", "renewed"),
    old("hang up", "disconnect"),
    old("hung up", "disconnected"),
    old("hangs up", "disconnects"),
    old("fell silent", "stopped sending, timed out"),
    old("falls silent", "stops sending, times out"),
    old("for as long as", "while"),
    old("goes on", "continues"),
    old("by itself", "automatically, or leave it out"),
    old("at the most", "at most"),
    old("at the least", "at least, or: at minimum"),
    old("in doubt", "unconfirmed"),
    old("buried", "dead-lettered"),
    old("of ours", "of the gateway"),
    old("overlook", "ignore"),
    old("well below", "say by how much"),
];

/// Not in code either, its comments included.
const IN_CODE: [OldWord; 31] = [
    old("nobody", "name the actor: no user, no call, the client has gone"),
    old("anybody", "name the actor"),
    old("in doubt", "unconfirmed"),
    old("set right", "corrected, repaired"),
    old("at its word", "say what is trusted"),
    old("brings back", "restores"),
    old("tells of", "publishes, reports"),
    old("begins anew", "is reset, restarts"),
    old("came of", "result, outcome"),
    old("leash", "cancellation"),
    old("replier", "response writer"),
    old("wish", "request, demand"),
    old("is told", "receives, is notified; of a task: is stopped"),
    old("are told", "receive, are notified"),
    old("was told", "received, was reported"),
    old("were told", "received, were reported"),
    old("anew", "again, or the verb with re-: reset, rebuilt"),
    old("hang up", "disconnect"),
    old("hangs up", "disconnects"),
    old("none of ours", "not valid, unknown"),
    old("no matter of", "say what happens instead"),
    old("as good as", "say what it is treated as"),
    old("left alone", "cooling down, or an open circuit breaker"),
    old("taken for dead", "presumed dead"),
    old("hung up", "disconnected"),
    old("told apart", "distinguished"),
    old("brought back", "restored"),
    old("put off", "renewed"),
    old("sees to", "the verb that says what it does"),
    old("somebody", "name the actor"),
    old("wished for", "requested"),
];

/// Lines in which a word is right, as they stand in the file (or a part of them).
const RIGHT: [&str; 6] = [
    // A text to count.
    "The lighthouse keeper wrote letters all winter",
    // The table of words in CONTRIBUTING.md.
    "| proof that a call is in flight | lease: renew, restore, reap |",
    "| who calls the gateway, and its record; whose key is used upstream | client or user, caller; operator |",
    "| an entry that can never be written | dead-lettered |",
    "| an upstream that is not used for now | breaker open, cooling down |",
    "| a write that may not have happened | unconfirmed |",
];

/// A page of measurements that is written with them.
const LATER_PAGE: &str = "docs/benchmarks.md";

#[test]
fn documentation_and_configuration_use_the_words_of_the_field() {
    let config = fs::read_dir(root().join("config")).unwrap().map(|entry| entry.unwrap().path());
    let mut files = pages();
    files.retain(|page| !page.ends_with(LATER_PAGE));
    files.extend(config);
    check(&files, &IN_SENTENCES);
}

/// The golden file has all of them: see [`super::every_sentence_is_in_the_golden_file`].
#[test]
fn sentences_use_the_words_of_the_field() {
    let golden = fs::read_to_string(root().join(super::GOLDEN)).unwrap();
    let mut section = "";
    let mut found = Vec::new();
    for line in golden.lines() {
        if !line.starts_with(' ') {
            section = line;
        }
        found.extend(old_word(line, &IN_SENTENCES).map(|word| report(section, line, word)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn code_uses_the_words_of_the_field() {
    let mut files = Vec::new();
    for folder in ["src", "crates"] {
        collect(&root().join(folder), &mut files);
    }
    check(&files, &IN_CODE);
}

fn check(files: &[PathBuf], words: &'static [OldWord]) {
    let mut found = Vec::new();
    for path in files {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for (at, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            let place = format!("{name}:{}", at + 1);
            found.extend(old_word(line, words).map(|word| report(&place, line, word)));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn report(place: &str, line: &str, word: &OldWord) -> String {
    format!("{place}: \"{}\" ({}): {}", word.phrase, word.reason, line.trim())
}

/// The first word of the list in `line`, as a whole word.
fn old_word(line: &str, words: &'static [OldWord]) -> Option<&'static OldWord> {
    if RIGHT.iter().any(|right| line.contains(right)) {
        return None;
    }
    let line = line.to_lowercase();
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    words.iter().find(|word| {
        line.match_indices(word.phrase).any(|(at, phrase)| {
            !is_letter(line[..at].chars().next_back())
                && !is_letter(line[at + phrase.len()..].chars().next())
        })
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "lua") {
            files.push(path);
        }
    }
}

#[test]
fn a_word_is_found_as_a_whole_and_in_any_case() {
    let found = |line| old_word(line, &IN_SENTENCES).map(|word| word.phrase);
    assert_eq!(found("Nobody may."), Some("nobody"));
    assert_eq!(found("a callback for the buried_count"), None);
    assert_eq!(found("it was buried."), Some("buried"));
    assert_eq!(found("the limits apply"), None);
}
