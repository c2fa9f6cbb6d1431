//! The rules that keep the map in `src/lib.rs` true: arrows point down, and each thing that must
//! exist once has one owner. Comments and tests do not count. Arrows between the crates are Cargo's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One source file without its comments and tests, by its path: `gateway/mod.rs` is in `src`, and
/// `store/keys.rs` in `crates/store/src`.
struct Source {
    path: String,
    code: String,
}

impl Source {
    /// The module of the crate it belongs to.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.code.lines()
    }
}

/// The sources of the product, and of its library crates.
fn sources() -> Vec<Source> {
    product().into_iter().chain(libraries().iter().flat_map(|name| library(name))).collect()
}

fn product() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources_in(&root, Path::new(""))
}

fn library(name: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates").join(name).join("src");
    sources_in(&root, Path::new(name))
}

fn libraries() -> Vec<String> {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let entries = std::fs::read_dir(folders).unwrap().map(Result::unwrap);
    let is_crate = |entry: &std::fs::DirEntry| entry.path().join("Cargo.toml").exists();
    entries.filter(is_crate).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn sources_in(root: &Path, below: &Path) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(root, &mut paths);
    let source = |path: &PathBuf| Source {
        path: below.join(path.strip_prefix(root).unwrap()).to_str().unwrap().to_owned(),
        code: code(&std::fs::read_to_string(path).unwrap()),
    };
    paths.iter().map(source).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_test =
            name == "tests" || name.ends_with("_tests") || name == "fake" || name == "testing";
        if path.is_dir() && !is_test {
            collect(&path, paths);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !is_test {
            paths.push(path);
        }
    }
}

/// The part before the tests, comments blanked; a `//` inside a string keeps what is before it.
fn code(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let line = |line: &str| match line.trim_start() {
        comment if comment.starts_with("//") => String::new(),
        _ => line.split(" // ").next().unwrap_or_default().to_owned(),
    };
    text[..end].lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Modules as `lib.rs` lists them, from the top down.
fn map() -> Vec<String> {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let lib = lib.unwrap();
    let name = |line: &str| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned);
    lib.lines().filter_map(name).collect()
}

/// The crate's modules that a line names.
fn named(line: &str) -> Vec<&str> {
    let name = |rest: &'_ str| rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    line.split("crate::")
        .skip(1)
        .map(|rest| &rest[..name(rest).unwrap_or(rest.len())])
        .filter(|name| !name.is_empty())
        .collect()
}

/// The line has a path that begins with the crate or module.
fn is_named(line: &str, name: &str) -> bool {
    let starts =
        line.match_indices(name).filter(|(at, _)| line[at + name.len()..].starts_with("::"));
    let is_start = |before: &str| {
        let before = before.strip_suffix("crate::").unwrap_or(before);
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    };
    starts.into_iter().any(|(at, _)| is_start(&line[..at]))
}

#[test]
fn arrows_point_down() {
    let map = map();
    let place: BTreeMap<&str, usize> =
        map.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    assert!(place.len() > 10, "lib.rs lists the modules: {map:?}");
    for source in product() {
        let Some(from) = place.get(source.module()) else {
            assert!(["lib.rs", "main.rs"].contains(&source.path.as_str()), "{}", source.path);
            continue;
        };
        for line in source.lines() {
            for name in named(line) {
                let to = place.get(name).unwrap_or_else(|| panic!("{}: {line}", source.path));
                assert!(from <= to, "{} names {name}, which is above it: {line}", source.path);
            }
        }
    }
}

/// A call works while the store sleeps and the control plane is down, and the other way round.
#[test]
fn the_planes_do_not_name_each_other() {
    const PLANES: [(&str, &[&str]); 3] = [
        ("gateway", &["control", "store", "journal"]),
        ("control", &["gateway", "upstream", "mock_xai"]),
        ("console", &["gateway", "upstream", "mock_xai"]),
    ];
    const EXCEPTIONS: [(&str, &str, &str); 4] = [
        ("control/state.rs", "upstream", "holds what the health route shows"),
        ("control/routes/admin/system.rs", "upstream", "shows how upstreams do, from memory"),
        (
            "control/routes/admin/upstreams.rs",
            "upstream",
            "shows the same, and tests one for an admin",
        ),
        ("control/routes/usage/receipt.rs", "upstream", "shows the price list of the catalog"),
    ];
    for (module, others) in PLANES {
        for source in product().iter().filter(|source| source.module() == module) {
            let path = source.path.as_str();
            let is_excused = |name: &&str| {
                EXCEPTIONS.iter().any(|(file, other, _)| (*file, other) == (path, name))
            };
            for line in source.lines() {
                let mut names = others.iter().filter(|name| is_named(line, name));
                let other = names.find(|name| !is_excused(name));
                assert_eq!(other, None, "{path}: {line}");
            }
        }
    }
}

/// What only some files may say: the words, the files (or folders, with a slash), and why a file
/// that is not the owner may say it too.
struct Rule {
    what: &'static str,
    words: &'static [&'static str],
    owners: &'static [&'static str],
    exceptions: &'static [(&'static str, &'static str)],
}

const RULES: &[Rule] = &[
    Rule { what: "SQL", words: &["sqlx"], owners: &["store/"], exceptions: &[] },
    Rule {
        what: "Redis",
        words: &["redis::cmd", "use redis::"],
        owners: &["quota/redis/"],
        exceptions: &[],
    },
    Rule {
        what: "the environment",
        words: &["std::env", "env::var"],
        owners: &["config/"],
        exceptions: &[("cli/demo/mod.rs", "asks for the folder of temporary files only")],
    },
    Rule {
        what: "the clock",
        words: &["Timestamp::now", "SystemTime", "Instant::now", "now_v7", "Zoned::now"],
        owners: &["system/clock.rs"],
        exceptions: &[
            ("domain/id.rs", "ids sort by the time they were made at; no rule reads it back"),
            ("mock-xai/lib.rs", "ids of one run are told from those of another"),
            ("gateway/call/relay_stream.rs", "tokio's instants, which its timers wait for"),
            ("gateway/call/stream_quota.rs", "tokio's instants, which its timers wait for"),
        ],
    },
    Rule {
        what: "tasks that belong to nobody",
        words: &["tokio::spawn", "thread::spawn", "tokio::task::spawn("],
        owners: &[],
        exceptions: &[],
    },
    Rule {
        what: "names of metrics",
        words: &["\"knockx_"],
        owners: &["telemetry/metrics/"],
        exceptions: &[],
    },
    Rule {
        what: "pingora's client side",
        words: &["pingora_core::connectors", "pingora_core::upstreams", "v1::client"],
        owners: &["upstream/client.rs"],
        exceptions: &[("oidc/http.rs", "connects to the sign-in provider, which is no upstream")],
    },
    Rule {
        what: "the sockets of callers",
        words: &["pingora_core::listeners", "pingora_core::tls", "protocols::l4"],
        owners: &["gateway/listener/connection.rs", "gateway/listener/tls.rs"],
        exceptions: &[("app/sockets.rs", "hands over the socket that it has bound")],
    },
    Rule {
        what: "the codec of upstreams",
        words: &["hyper::client", "hyper::ext"],
        owners: &["upstream/exchange.rs"],
        exceptions: &[("oidc/http.rs", "asks the sign-in provider, which is no upstream")],
    },
    Rule {
        what: "the codec of callers",
        words: &["hyper::server", "hyper::service", "h2::"],
        owners: &[
            "gateway/listener/http1.rs",
            "gateway/listener/http2.rs",
            "gateway/listener/session.rs",
        ],
        exceptions: &[("mock-xai/connections.rs", "is an upstream, and speaks as one")],
    },
    Rule {
        what: "raw keys",
        words: &[".reveal()"],
        owners: &["cli/", "console/", "control/"],
        exceptions: &[("links.rs", "puts the token of a link into its address")],
    },
];

#[test]
fn each_thing_has_its_owner() {
    for rule in RULES {
        for source in sources() {
            let path = source.path.as_str();
            let is_owner = rule.owners.iter().any(|owner| path.starts_with(owner));
            let is_excused = rule.exceptions.iter().any(|(file, _)| *file == path);
            let said = source.lines().find(|line| rule.words.iter().any(|w| line.contains(w)));
            if is_excused {
                assert!(said.is_some(), "{path} needs no exception for {} any more", rule.what);
            } else if !is_owner {
                assert_eq!(said, None, "{path} is not the owner of {}", rule.what);
            }
        }
    }
}

/// Statuses with which the data plane refuses stand in `refusal.rs`, beside text and code.
#[test]
fn refusals_have_one_table() {
    const EXCEPTIONS: [(&str, &[u16], &str); 1] = [(
        "gateway/call/end.rs",
        &[400, 499, 500],
        "sorts statuses for metrics; 499 is never sent",
    )];
    for source in sources().iter().filter(|source| source.module() == "gateway") {
        let path = source.path.as_str();
        if path.starts_with("gateway/response/refusal/") {
            continue;
        }
        let excused = EXCEPTIONS.iter().find(|(file, ..)| *file == path);
        let excused = excused.map_or(&[][..], |(_, statuses, _)| statuses);
        for line in source.lines() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            for status in words.filter_map(|word| word.parse::<u16>().ok()) {
                let is_refusal = (400..600).contains(&status) && !excused.contains(&status);
                assert!(!is_refusal, "{path}: {line}");
            }
        }
    }
}

/// Data, wire format, counting and policy: no waiting, no I/O.
#[test]
fn pure_modules_do_no_io() {
    const PURE: [&str; 4] = ["domain/", "wire/", "quota/rules/", "quota/model/"];
    const IMPURE: [&str; 9] = [
        "async ",
        ".await",
        "tokio",
        "std::fs",
        "std::net",
        "std::io",
        "std::process",
        "tracing::",
        "Mutex",
    ];
    let sources = sources();
    for pure in PURE {
        assert!(sources.iter().any(|source| source.path.starts_with(pure)), "{pure} has no file");
    }
    for source in sources {
        if PURE.iter().any(|pure| source.path.starts_with(pure)) {
            let impure = source.lines().find(|line| IMPURE.iter().any(|word| line.contains(word)));
            assert_eq!(impure, None, "{}", source.path);
        }
    }
}

#[test]
fn comments_and_tests_do_not_count() {
    let text = "//! crate::a\nuse crate::b; // crate::c\n/// crate::d\nfn f() {}\n#[cfg(test)]\nmod tests {\ncrate::e\n}";
    let code = code(text);
    assert_eq!(code.lines().flat_map(named).collect::<Vec<_>>(), ["b"]);
    assert_eq!(named("a(crate::x::Y, crate::z_w)"), ["x", "z_w"]);
    assert!(is_named("use store::Store;", "store") && is_named("a(crate::store::B)", "store"));
    assert!(!is_named("use a::store::B;", "store") && !is_named("restore::B, store.c", "store"));
}
