//! The words and the program agree: links lead somewhere, and every name in one is in the other.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The pages beside the README and everything in `docs/`.
pub fn pages() -> Vec<PathBuf> {
    let is_page = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "md");
    let folders = [root().to_owned(), root().join("docs")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    entries.map(|entry| entry.unwrap().path()).filter(is_page).collect()
}

/// Every stretch of `text` that begins with `start` and goes on with characters that `goes_on` takes.
fn names<'a>(text: &'a str, start: &str, goes_on: impl Fn(char) -> bool) -> BTreeSet<&'a str> {
    let end = |rest: &str| rest.find(|c| !goes_on(c)).unwrap_or(rest.len());
    text.match_indices(start).map(|(at, _)| &text[at..at + end(&text[at..])]).collect()
}

/// What stands in backticks in the first cell of each row of a table.
fn first_cells(text: &str) -> Vec<&str> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row[2..].split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target} is not there", page.display());
            if !heading.is_empty() {
                let anchors = anchors(&fs::read_to_string(&file).unwrap());
                assert!(anchors.contains(heading), "{}: {target} has no heading", page.display());
            }
        }
    }
}

/// The headings of a page as GitHub names them in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let kept = |c: &char| c.is_alphanumeric() || *c == '-' || *c == ' ' || *c == '_';
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        heading.chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let readme = text("README.md");
    for page in pages().iter().filter(|page| !page.ends_with("README.md")) {
        let name = page.strip_prefix(root()).unwrap().display();
        assert!(readme.contains(&format!("]({name})")), "{name} is not linked");
    }
}

#[test]
fn every_series_is_described_and_every_described_series_exists() {
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let source = text("crates/telemetry/src/metrics/mod.rs");
    let page = text("docs/metrics.md");
    let exist = names(&source, "knockx_", word);
    let tabled: BTreeSet<&str> =
        first_cells(&page).into_iter().filter(|name| name.starts_with("knockx_")).collect();
    assert_eq!(exist, tabled);
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let unknown: Vec<_> = names(&text, "knockx_", word).difference(&exist).copied().collect();
        assert!(unknown.is_empty(), "{}: no such series: {unknown:?}", page.display());
    }
}

/// Routes and outcomes have a row each; the values of other labels stand in the row of their series.
#[test]
fn every_label_value_is_described() {
    use telemetry::labels::{
        AccountProblem, MailKind, MailOutcome, Outcome, RedisOp, Route, StoreOp, TokenKind,
        WaitOutcome,
    };
    let page = text("docs/metrics.md");
    let rows = [Route::ALL.map(Route::as_str).to_vec(), Outcome::ALL.map(Outcome::as_str).to_vec()]
        .concat();
    for value in rows {
        assert!(page.contains(&format!("\n| `{value}` | ")), "{value} has no row");
    }
    let rest = [
        StoreOp::ALL.map(StoreOp::as_str).to_vec(),
        RedisOp::ALL.map(RedisOp::as_str).to_vec(),
        TokenKind::ALL.map(TokenKind::as_str).to_vec(),
        WaitOutcome::ALL.map(WaitOutcome::as_str).to_vec(),
        AccountProblem::ALL.map(AccountProblem::as_str).to_vec(),
        MailKind::ALL.map(MailKind::as_str).to_vec(),
        MailOutcome::ALL.map(MailOutcome::as_str).to_vec(),
    ];
    for value in rest.concat() {
        let is_in_row =
            |row: &str| row.starts_with("| `knockx_") && row.contains(&format!("`{value}`"));
        assert!(page.lines().any(is_in_row), "{value} is not described");
    }
}

/// Names that refusals give as `param`: no codes.
const FIELDS: [&str; 1] = ["plan_id"];

#[test]
fn every_code_of_a_refusal_is_explained() {
    let page = text("docs/errors.md");
    let sources = [
        "src/gateway/response/refusal/mod.rs",
        "src/gateway/call/relay_stream.rs",
        "crates/wire/src/error/mod.rs",
        "src/control/api_error.rs",
    ];
    for source in sources {
        let program = text(source);
        let is_code = |word: &&str| {
            word.contains('_')
                && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && !FIELDS.contains(word)
        };
        for code in program.split('"').skip(1).step_by(2).filter(is_code) {
            assert!(
                page.contains(&format!("`{code}`")),
                "{source}: {code} is not in docs/errors.md"
            );
        }
    }
}

#[test]
fn every_described_variable_is_one_and_none_is_missing() {
    let page = text("docs/configuration.md");
    let known = text("src/config/layers.rs")
        + &text("src/config/catalog.rs")
        + &text("config/default.toml");
    let is_variable = |word: &&str| word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let tabled: BTreeSet<&str> = first_cells(&page).into_iter().filter(is_variable).collect();
    for name in &tabled {
        assert!(known.contains(&format!("\"{name}\"")), "{name} is not a variable of the config");
    }
    let layers = text("src/config/layers.rs");
    let (_, list) = layers.split_once("const SHORT_NAMES").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    for name in list.split('"').skip(1).step_by(4) {
        assert!(tabled.contains(name), "{name} is not described");
    }
}

#[test]
fn every_section_of_the_defaults_is_described() {
    let page = text("docs/configuration.md");
    for header in text("config/default.toml").lines().filter(|line| line.starts_with('[')) {
        assert!(page.contains(&format!("`{header}`")), "{header} is not described");
    }
}

#[test]
fn every_shipped_configuration_loads() {
    for entry in fs::read_dir(root().join("config")).unwrap() {
        let path = entry.unwrap().path();
        let file = fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        let config = knockx::config::load_from(Some((&name, &file)), &BTreeMap::new());
        config.unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn every_command_is_described_and_every_described_command_exists() {
    let page = text("docs/commands.md");
    let mut tabled = BTreeSet::new();
    for cell in first_cells(&page).into_iter().filter_map(|cell| cell.strip_prefix("knockx ")) {
        match cell.split_once(' ') {
            None => drop(tabled.insert(cell.to_owned())),
            Some((noun, verbs)) => {
                tabled.extend(verbs.split("\\|").map(|verb| format!("{noun} {verb}")));
            }
        }
    }
    assert_eq!(tabled, commands());
}

/// The program's commands, `noun verb` where they have verbs.
fn commands() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for command in listed(&[]) {
        let verbs = listed(&[&command]);
        if verbs.is_empty() {
            all.insert(command);
        } else {
            all.extend(verbs.iter().map(|verb| format!("{command} {verb}")));
        }
    }
    all
}

/// What `--help` lists under "Commands:".
fn listed(command: &[&str]) -> Vec<String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_knockx")).args(command).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let rows = list.lines().take_while(|line| !line.is_empty());
    let names = rows.filter_map(|row| row.split_whitespace().next().map(str::to_owned));
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_flag_and_fault_of_the_simulator_is_described() {
    let page = text("docs/simulator.md");
    let output = Command::new(env!("CARGO_BIN_EXE_knockx")).args(["simulate", "--help"]).output();
    let help = String::from_utf8(output.unwrap().stdout).unwrap();
    for flag in names(&help, "--", |c| c.is_ascii_lowercase() || c == '-') {
        assert!(flag == "--help" || page.contains(&format!("`{flag} ")), "{flag} is not described");
    }
    for fault in mock_xai::fault::NAMES.split_whitespace() {
        let name = fault.split(['=', '[']).next().unwrap();
        let described = [format!("`{name}`"), format!("`{name}=")];
        assert!(described.iter().any(|d| page.contains(d.as_str())), "{name} is not described");
    }
}

/// A store that has run a migration refuses to start with another one of the same name: its comments must not
/// change either. After adding one: `sha256sum migrations/*/*.sql > migrations/SHA256SUMS`.
#[test]
fn migrations_that_stores_have_run_do_not_change() {
    let sums = text("migrations/SHA256SUMS");
    let sums = sums.lines().filter_map(|line| line.split_once("  "));
    let mut known: BTreeMap<&str, &str> = sums.map(|(sum, path)| (path, sum)).collect();
    for dialect in ["postgres", "sqlite"] {
        for file in fs::read_dir(root().join("migrations").join(dialect)).unwrap() {
            let name = file.unwrap().file_name();
            let name = format!("migrations/{dialect}/{}", name.display());
            let digest = Sha256::digest(text(&name));
            let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(known.remove(name.as_str()), Some(sum.as_str()), "{name}");
        }
    }
    assert!(known.is_empty(), "no longer there: {known:?}");
}
