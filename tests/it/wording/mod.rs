//! What people read: every sentence is in one file that can be read from top to bottom, and is written in the
//! words of the field.

mod lexer;
mod old_words;
mod sentences;

use crate::support::gateway;
use crate::support::http_client::Call;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

const GOLDEN: &str = "tests/golden/messages.txt";
const HEAD: &str = "\
Every sentence of KnockXPrime that a person reads outside of docs/. A test compares this file with the program.
After a change: UPDATE_GOLDEN=1 cargo test --test it every_sentence_is_in_the_golden_file
";

#[tokio::test]
async fn every_sentence_is_in_the_golden_file() {
    let mut now = String::from(HEAD);
    let found = sentences::of_source();
    section(&mut now, "Errors, responses and output of commands");
    files(&mut now, &found.texts);
    section(&mut now, "Logs: level, message, fields");
    files(&mut now, &found.logs);
    section(&mut now, "Command line");
    help(&mut now, &[]);
    section(&mut now, "Configuration: the comments of config/default.toml");
    comments(&mut now);
    section(&mut now, "API description (OpenAPI)");
    descriptions(&mut now).await;
    compare(&now);
}

fn section(text: &mut String, name: &str) {
    let line = "=".repeat(name.len());
    write!(text, "\n\n{name}\n{line}\n").unwrap();
}

fn files(text: &mut String, files: &sentences::ByFile) {
    for (path, sentences) in files {
        write!(text, "\n{path}\n").unwrap();
        for sentence in sentences {
            for (at, line) in sentence.trim().lines().enumerate() {
                let indent = if at == 0 { "  " } else { "    " };
                writeln!(text, "{}", format!("{indent}{line}").trim_end()).unwrap();
            }
        }
    }
}

/// `--help` of a command and of those below it.
fn help(text: &mut String, command: &[&str]) {
    let binary = env!("CARGO_BIN_EXE_knockx");
    let output = Command::new(binary).args(command).arg("--help").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let name = command.iter().fold(String::from("knockx"), |name, word| name + " " + word);
    write!(text, "\n$ {name} --help\n").unwrap();
    for line in shown.lines() {
        writeln!(text, "{}", format!("  {line}").trim_end()).unwrap();
    }
    let Some((_, list)) = shown.split_once("\nCommands:\n") else { return };
    let rows = list.lines().take_while(|line| !line.is_empty());
    for verb in rows.filter_map(|row| row.split_whitespace().next()).filter(|name| *name != "help")
    {
        let below: Vec<&str> = command.iter().copied().chain([verb]).collect();
        help(text, &below);
    }
}

/// The comments, each with the key or section that it is about.
fn comments(text: &mut String) {
    let defaults = fs::read_to_string(root().join("config/default.toml")).unwrap();
    for line in defaults.lines() {
        let is_name = !line.starts_with('#') && !line.trim().is_empty();
        let name = line.split(" = ").next().unwrap();
        if line.starts_with('#') {
            writeln!(text, "  {line}").unwrap();
        } else if is_name && !line.starts_with([' ', ']']) {
            writeln!(text, "  {name}").unwrap();
        } else if line.is_empty() {
            text.push('\n');
        }
    }
}

/// Summaries and descriptions of the generated document, each at the first place that has it. Examples of errors
/// are among the errors.
async fn descriptions(text: &mut String) {
    let gw = gateway().start().await;
    let reply = Call::get(gw.addr(), "/api/openapi.json").send().await;
    let document: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let mut found = BTreeMap::new();
    walk(&document, &mut Vec::new(), &mut found);
    let mut listed = BTreeSet::new();
    for (place, mut sentences) in found {
        sentences.retain(|sentence| listed.insert(sentence.clone()));
        if sentences.is_empty() {
            continue;
        }
        write!(text, "\n{place}\n").unwrap();
        for sentence in sentences {
            writeln!(text, "  {}", sentence.replace('\n', " ")).unwrap();
        }
    }
}

/// A place is the first three steps of the way to a text: a route and its method, or a schema.
fn walk<'a>(
    value: &'a serde_json::Value,
    way: &mut Vec<&'a str>,
    found: &mut BTreeMap<String, BTreeSet<String>>,
) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                if let (true, Some(text)) = (is_text(name), value.as_str()) {
                    let place = way.iter().take(3).copied().collect::<Vec<_>>().join(" ");
                    let of = way.iter().skip(3).filter(|step| !is_structure(step));
                    let of = of.copied().collect::<Vec<_>>().join(".");
                    let of = if of.is_empty() { name } else { &of };
                    found.entry(place).or_default().insert(format!("{of}: {text}"));
                }
                way.push(name);
                walk(value, way, found);
                way.pop();
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, way, found)),
        _ => {}
    }
}

fn is_text(name: &str) -> bool {
    matches!(name, "description" | "summary")
}

fn is_structure(step: &str) -> bool {
    matches!(step, "properties" | "content" | "application/json" | "schema" | "value" | "items")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compare(now: &str) {
    let path = root().join(GOLDEN);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, now).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let (was, is): (BTreeSet<&str>, BTreeSet<&str>) =
        (golden.lines().collect(), now.lines().collect());
    let new: Vec<_> = is.difference(&was).collect();
    let gone: Vec<_> = was.difference(&is).collect();
    assert!(
        golden == now,
        "{GOLDEN} differs from the program; its first lines say how to update it.\nnew: {new:#?}\ngone: {gone:#?}"
    );
}
