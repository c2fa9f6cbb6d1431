//! Data-driven checks of loading, and of the shipped files against the code.

mod dialects;

use super::layers::DEFAULTS;
use super::*;
use domain::plan::{RequestPolicy, ServerTools};
use std::collections::{BTreeMap, BTreeSet};
use wire::request::LimitField;

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn loaded(file: &str, variables: &[(&str, &str)]) -> Config {
    load_from(Some(("my.toml", file)), &vars(variables)).unwrap()
}

/// The sentence that refuses `file`.
fn refused(file: &str, variables: &[(&str, &str)]) -> String {
    load_from(Some(("my.toml", file)), &vars(variables)).unwrap_err().to_string()
}

const CA_FILE: &str = r#"
[[upstreams]]
name = "own"
base_url = "https://models.example.com/v1"
api_key = ""
ca_file = "FILE"
"#;

/// The TLS library takes the file for granted, so it is looked at here.
#[test]
fn a_file_of_certificates_must_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let config = CA_FILE.replace("FILE", file.to_str().unwrap());
    let problem = || refused(&config, &[]);
    assert!(problem().contains("line 6") && problem().contains("PEM file with certificates"));
    std::fs::write(&file, b"\x00\x01 no certificate").unwrap();
    assert!(problem().contains("PEM file with certificates"));
}

#[test]
fn a_key_that_no_header_can_carry_is_refused() {
    for key in ["a\nb", "schl\u{fc}ssel", "two words"] {
        let problem = refused("", &[("GROK_API_KEY", key)]);
        assert!(problem.contains("GROK_API_KEY") && !problem.contains(key), "{problem}");
    }
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = load_from(None, &vars(&[("XAI_API_KEY", "xai-1")])).unwrap();
    assert_eq!(config.listener.addr.to_string(), "127.0.0.1:8000");
    assert_eq!(config.admin_addr.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!(config.database.folder(), Some(Path::new("data")));
    assert_eq!(config.cors, Cors::SameOrigin);
    assert_eq!(config.limits.window, Window { capacity: 100, refill_seconds: 60 });
    assert_eq!(config.listener.data_cors, None);
    let shown = config.sections();
    assert!(shown.iter().any(|section| section.values.contains("data_cors=*")), "{shown:?}");
    let plan = |id: &str| config.plans.iter().find(|p| p.id.as_str() == id).unwrap();
    let quota = |id| (plan(id).limits.tokens_per_day, plan(id).limits.requests_per_day);
    assert_eq!(quota("baby-free"), (1_000, 10));
    assert_eq!(quota("leveler"), (5_000, 100));
    assert_eq!(quota("log-min"), (20_000, 500));
    assert_eq!(quota("high-max"), (100_000, 2_000));
    assert_eq!(plan("high-max").limits.concurrent_streams, 500);
    assert_eq!(plan("leveler").price_cents, 400);
}

#[test]
fn the_default_catalog_is_xai_with_prices_in_ticks() {
    let config = load_from(None, &vars(&[("GROK_API_KEY", " xai-1\n")])).unwrap();
    let upstream = &config.catalog.upstreams[0];
    assert_eq!((upstream.tls, upstream.host.as_str(), upstream.port), (true, "api.x.ai", 443));
    assert_eq!(upstream.base_path, "/v1");
    assert_eq!(upstream.api_key.as_ref().unwrap().expose(), "xai-1");
    assert_eq!(upstream.limit_field, LimitField::MaxCompletionTokens);
    let model = config.catalog.model("grok-build-latest").unwrap();
    assert_eq!(&*model.id, "grok-4.5");
    assert_eq!(model.prices.short.cached_input, 3_000);
    assert_eq!((model.prices.long_from, model.prices.long.output), (200_000, 120_000));
    assert_eq!(config.catalog.model("grok-4.3").unwrap().prices.short.input, 12_500);
    assert_eq!(config.catalog.model("grok-4.7").unwrap().created, 1_789_948_800);
}

#[test]
fn without_a_key_other_commands_still_work() {
    let config = load_from(None, &vars(&[("GROK_API_KEY", "")])).unwrap();
    assert!(config.catalog.models.is_empty());
    let sentence = config.require_upstream().unwrap_err().to_string();
    assert!(sentence.contains("set GROK_API_KEY or XAI_API_KEY for the upstream `xai`"));
    assert!(sentence.contains("knockx demo"));
}

#[test]
fn the_environment_is_over_the_file_and_the_file_over_the_defaults() {
    let file = "port = 1\n[limits]\nslice_tokens = 99\nkeepalive_comment = 0\n[database]\nurl = \"sqlite:/tmp/x.db\"";
    let config = loaded(
        file,
        &[
            ("PORT", "0"),
            ("KNOCKX__LIMITS__CALL_TIMEOUT", "0.5"),
            ("HOST", "::1"),
            ("ADMIN_PORT", "0"),
        ],
    );
    assert_eq!(config.listener.addr.to_string(), "[::1]:0");
    assert_eq!(loaded("", &[("HOST", "[::1]")]).listener.addr.ip().to_string(), "::1");
    assert_eq!(config.admin_addr, None);
    assert_eq!(config.limits.slice_tokens, 99);
    assert_eq!(config.limits.keepalive_comment, None);
    assert_eq!(config.limits.call_timeout, Duration::from_millis(500));
    assert_eq!(config.database.folder(), Some(Path::new("/tmp")));
}

#[test]
fn every_short_name_reaches_its_key() {
    let config = loaded(
        "",
        &[
            ("ENVIRONMENT", "production"),
            ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
            ("DATABASE_URL", "sqlite://k.db"),
            ("RATE_LIMIT_REQUESTS", "7"),
            ("RATE_LIMIT_WINDOW", "8"),
            ("CORS_ORIGINS", "https://a.example, http://b:1"),
            ("LOG_FORMAT", "json"),
            ("RUST_LOG", "debug"),
            ("ADMIN_EMAIL", "Root@example.com"),
            ("ADMIN_PASSWORD", "long enough for anyone"),
            ("GROK_BASE_URL", "http://127.0.0.1:9/"),
            ("GROK_API_KEY", "k"),
        ],
    );
    assert_eq!(config.listener.addr.to_string(), "0.0.0.0:8000");
    assert_eq!(config.database.folder(), Some(Path::new(".")));
    assert_eq!(config.limits.window, Window { capacity: 7, refill_seconds: 8 });
    assert_eq!(config.plans[0].limits.window, config.limits.window);
    let origins = ["https://a.example", "http://b:1"].map(str::to_owned).to_vec();
    assert_eq!(config.cors, Cors::Origins(origins));
    assert_eq!(config.log.format, Some(LogFormat::Json));
    assert_eq!(config.log.filter, "debug");
    assert_eq!(config.first_admin.as_ref().unwrap().email, "root@example.com");
    let upstream = &config.catalog.upstreams[0];
    assert_eq!((upstream.tls, upstream.port, upstream.base_path.as_str()), (false, 9, ""));
    let line = config.to_string();
    for secret in ["0123456789abcdef", "long enough", "key=k"] {
        assert!(!line.contains(secret), "{line}");
    }
}

#[test]
fn a_bad_file_is_refused_with_line_key_and_form() {
    let cases = [
        ("\nport = 99999", "my.toml, line 2: `port`: expected a whole number from 0 to 65535"),
        (
            "[limits]\nbody_byte = 1",
            "my.toml, line 2: `limits`: unknown field `body_byte`, expected one of `body_bytes`",
        ),
        ("[limits]\n\ncall_timeout = 0", "line 3: `limits.call_timeout`: expected seconds"),
        ("[limits]\ncall_timeout = \"30s\"", "line 2: `limits.call_timeout`: expected seconds"),
        ("[telemetry]\nlog_format = \"xml\"", "`telemetry.log_format`: expected pretty or json"),
        ("[telemetry]\nlog_filter = \"a=b=c\"", "expected a log filter"),
        ("[listener]\ntls_key = \"k.pem\"", "tls_certificate is not"),
        ("[listener]\ndata_cors = [\"example.com\"]", "expected \"*\", or origins such as"),
        ("port = ", "my.toml, line 1"),
        ("host = \"example.com\"", "expected an IP address"),
        ("[[plans]]\nid = \"a\"", "my.toml, line 1: `plans`: missing field"),
        ("[database]\nurl = \"mysql:x\"", "line 2: `database.url`: expected sqlite:PATH"),
    ];
    for (file, expected) in cases {
        let sentence = refused(file, &[]);
        assert!(sentence.contains(expected), "{file:?} gave {sentence:?}");
        assert!(!sentence.contains('\n'), "{sentence:?} is not one line");
    }
}

#[test]
fn a_bad_variable_is_refused_by_name() {
    let cases = [
        ("PORT", "http", "environment variable PORT: expected a whole number"),
        (
            "KNOCKX__LIMITS__NOPE",
            "1",
            "environment variable KNOCKX__LIMITS__NOPE: unknown field `nope`",
        ),
        ("KNOCKX__MODELS", "1", "KNOCKX__MODELS: it does not name a config key"),
        ("DATABASE_URL", "postgres://u:hunter2@h/d", "with Postgres, set SECRET_KEY"),
        ("DATABASE_URL", "postgres://u:hunter2@/d", "expected postgres://USER:PASSWORD@HOST"),
        ("NEON_API_URL", "https://n", "set DATABASE_URL to the Postgres connection string"),
        ("GROK_BASE_URL", "api.x.ai", "environment variable GROK_BASE_URL: expected an http://"),
        ("ADMIN_EMAIL", "a@b", "ADMIN_EMAIL: the first admin needs a password as well"),
        ("ENVIRONMENT", "staging", "expected development or production"),
    ];
    for (name, value, expected) in cases {
        let sentence = refused("", &[(name, value)]);
        assert!(sentence.contains(expected), "{name} gave {sentence:?}");
        assert!(!sentence.contains("hunter2"), "{sentence:?} tells a secret");
    }
}

const UPSTREAM: &str = "[[upstreams]]\nname = \"u\"\nbase_url = \"http://u.example/v1\"\n";
const MODEL: &str =
    "context_tokens = 9\nprices = { input = \"0.0001\", cached_input = 0, output = 1.5 }\n";

#[test]
fn tables_must_fit_together() {
    let keyed = format!("{UPSTREAM}api_key = \"k\"\n");
    let model = |id: &str, upstream: &str| {
        format!("[[models]]\nid = \"{id}\"\nupstreams = [{{ name = \"{upstream}\" }}]\n{MODEL}")
    };
    let plan = "[[plans]]\nid = \"p\"\nname = \"P\"\nprice_cents = 0\nmax_tokens_per_day = 1\nmax_requests_per_day = 1\nconcurrent_streams = 1\n";
    let good = format!("{keyed}{}{plan}models = [\"m\"]\n", model("m", "u"));
    let config = loaded(&good, &[]);
    assert_eq!(config.catalog.models[0].prices.short.input, 1);
    assert_eq!(config.catalog.models[0].prices.long_from, 0);
    let cases = [
        (
            format!("{UPSTREAM}{}", model("m", "u")),
            "line 2: the upstream `u` needs either api_key_env",
        ),
        (format!("{keyed}{}", model("m", "v")), "line 7: the model `m` refers to the upstream `v`"),
        (format!("{keyed}{keyed}"), "line 6: the upstream name `u` is used twice"),
        (
            format!("{keyed}{}", model("m", "u"))
                .replace("upstreams = [", "upstreams = [{ name = \"u\" }, "),
            "the model `m` names the upstream `u` twice",
        ),
        (
            format!("{keyed}{}context_fallback = \"n\"\n", model("m", "u")),
            "context_fallback of the model `m`: `n` is not the id of a model",
        ),
        (
            format!("{keyed}{}content_fallback = \"m\"\n", model("m", "u")),
            "content_fallback of the model `m`: `m` is the model itself",
        ),
        (
            format!(
                "{keyed}{}context_fallback = \"n\"\n{}hidden_reasoning = true\n",
                model("m", "u"),
                model("n", "u")
            ),
            "context_fallback of the model `m`: `n` has hidden_reasoning",
        ),
        (format!("{keyed}{0}{0}", model("m", "u")), "the model id or alias `m` is used twice"),
        (format!("{good}{plan}"), "the plan id `p` is used twice"),
        (format!("{good}time_zone = \"Mars/Base\"\n"), "expected an IANA time zone"),
        (good.replace("[\"m\"]", "[\"n\"]"), "the plan `p` lists the model `n`"),
        (good.replace("0.0001", "0.00001"), "expected US dollars per million tokens"),
        (good.replace("http://u.example/v1", "http://u:p@h"), "expected an http:// or https://"),
    ];
    for (file, expected) in cases {
        let sentence = refused(&file, &[]);
        assert!(sentence.contains(expected), "{sentence:?}, not {expected:?}");
    }
    let sentence = refused(&good, &[("GROK_BASE_URL", "https://x")]);
    assert!(sentence.contains("the config file has no upstream of that name"), "{sentence}");
    let sentence = refused(&good, &[("ENVIRONMENT", "production")]);
    assert!(sentence.contains("needs an https:// base_url"), "{sentence}");
}

#[test]
fn plans_say_what_requests_may_ask_for() {
    let seeded = load_from(None, &vars(&[("XAI_API_KEY", "xai-1")])).unwrap();
    for plan in &seeded.plans {
        let is_free = plan.id.as_str() == "baby-free";
        let server_tools = if is_free { ServerTools::Strip } else { ServerTools::Allow };
        let expected = RequestPolicy { server_tools, ..RequestPolicy::default() };
        assert_eq!(plan.limits.policy, expected, "{}", plan.id);
    }
    let plan = "[[plans]]\nid = \"p\"\nname = \"P\"\nprice_cents = 0\nmax_tokens_per_day = 1\nmax_requests_per_day = 1\nconcurrent_streams = 1\n";
    let config = loaded(
        &format!(
            "{plan}server_tools = \"refuse\"\nmax_tool_calls = 3\nservice_tiers = [\"any\"]\nimage_sizes = []\n\
             image_qualities = [\"hd\"]\naccount_references = true\nmodels = [\"grok-build-latest\"]\n"
        ),
        &[],
    );
    let limits = &config.plans[0].limits;
    let words = |words: &[&str]| words.iter().map(|word| (*word).into()).collect();
    assert_eq!(
        limits.policy,
        RequestPolicy {
            server_tools: ServerTools::Refuse,
            max_tool_calls: 3,
            service_tiers: words(&["any"]),
            image_sizes: words(&[]),
            image_qualities: words(&["hd"]),
            account_references: true,
        }
    );
    assert!(limits.allows("grok-4.5"), "an alias stands for its model");
    for (line, expected) in [
        ("server_tools = \"some\"", "\"allow\", \"strip\" or \"refuse\""),
        ("max_tool_calls = 0", "1 to 1000"),
        ("cached_token_fraction = -0.1", "a number from 0 to 1 with at most three decimals"),
        ("cached_token_fraction = 1.1", "at most three decimals"),
        ("cached_token_fraction = 0.12345", "at most three decimals"),
        ("cached_token_fraction = nan", "at most three decimals"),
        ("cached_token_fraction = true", "at most three decimals"),
        ("account_references = \"yes\"", "true or false"),
    ] {
        let sentence = refused(&format!("{plan}{line}\n"), &[]);
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[test]
fn a_store_in_postgres_needs_its_own_secret_and_tells_none() {
    let postgres = ("DATABASE_URL", "postgres://u:hunter2@db.example/d?sslmode=require");
    let secret = ("SECRET_KEY", "0123456789abcdef0123456789abcdef");
    let config = loaded("", &[postgres, secret, ("NEON_API_URL", "https://n")]);
    assert_eq!(config.database.folder(), None);
    assert!(config.notes[0].contains("NEON_API_URL is ignored"), "{:?}", config.notes);
    let line = config.to_string();
    assert!(line.contains("url=postgres://***@db.example/d") && !line.contains("hunter2"));
    let sentence = refused("", &[postgres, ("SECRET_KEY", "short")]);
    assert!(sentence.contains("SECRET_KEY") && sentence.contains("32 bytes"), "{sentence}");
    let sentence = refused("", &[postgres, secret, ("ENVIRONMENT", "production")]);
    assert!(sentence.contains("sslmode=verify-full") && !sentence.contains("hunter2"));
    let file = ("DATABASE_URL", "sqlite:k.db");
    let sentence = refused("", &[file, ("NEON_API_URL", "https://n")]);
    assert!(sentence.contains("Postgres connection string of the same project"), "{sentence}");
}

#[test]
fn where_redis_is_is_told_without_its_password() {
    for url in ["redis://u:hunter2@r.example:6379/0", "rediss://:hunter2@a:1,rediss://:hunter2@b:2"]
    {
        let config = loaded("", &[("REDIS_URL", url)]);
        assert!(config.redis.is_some());
        for told in [config.to_string(), format!("{config:?}")] {
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
    let sentence = refused("", &[("REDIS_URL", "http://:hunter2@h")]);
    assert!(sentence.contains("redis.url") && !sentence.contains("hunter2"), "{sentence}");
}

#[test]
fn production_refuses_weak_secrets_and_any_origin() {
    let cases = [
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "please-change-me-0123456789-0123456789"),
        ("SECRET_KEY", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("CORS_ORIGINS", "*"),
    ];
    for (name, value) in cases {
        let sentence = refused("", &[("ENVIRONMENT", "production"), (name, value)]);
        assert!(sentence.contains(name) && sentence.contains("in production"), "{sentence}");
        loaded("", &[(name, value)]);
    }
}

#[test]
fn production_names_the_variable_and_the_form_of_a_weak_secret() {
    let admin = "[admin]\nemail = \"a@b.example\"\npassword";
    for (file, variable, form) in [
        ("secret_key = \"short\"".to_owned(), "SECRET_KEY", "32 random bytes"),
        (format!("{admin} = \"short\""), "ADMIN_PASSWORD", "12 characters"),
        (format!("{admin} = \"change-me-please\""), "ADMIN_PASSWORD", "an example value"),
    ] {
        let sentence = refused(&file, &[("ENVIRONMENT", "production")]);
        assert!(sentence.contains(variable) && sentence.contains(form), "{sentence}");
        assert!(!sentence.contains("short") && !sentence.contains("please"), "{sentence}");
    }
}

#[test]
fn every_shipped_file_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut loaded = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        load_from(Some((&name, &text)), &vars(&[])).unwrap();
        loaded += 1;
    }
    assert!(loaded >= 2);
}

/// Keys of `default.toml` by section, with whether a comment stands directly above the first.
fn documented_keys() -> BTreeMap<String, bool> {
    let mut section = String::new();
    let mut keys = BTreeMap::new();
    let mut above = "";
    for line in DEFAULTS.lines() {
        if line.starts_with('[') {
            section = format!("{}.", line.trim_matches(['[', ']']));
        } else if let Some((key, _)) = line.split_once(" = ") {
            let optional = key.strip_prefix("# ");
            let key = optional.unwrap_or(key);
            if !key.contains(' ') {
                let has_comment = optional.is_some() || above.starts_with('#');
                keys.entry(format!("{section}{key}")).or_insert(has_comment);
            }
        }
        above = line;
    }
    keys
}

#[test]
fn every_key_is_in_the_default_file_with_a_comment() {
    let documented = documented_keys();
    let bare: Vec<_> = documented.iter().filter(|(_, c)| !**c).map(|(key, _)| key).collect();
    assert!(bare.is_empty(), "without a comment: {bare:?}");
    let mut accepted = BTreeSet::new();
    let sections = [
        "",
        "listener.",
        "database.",
        "redis.",
        "limits.",
        "cors.",
        "accounts.",
        "accounts.oidc.",
        "mail.",
        "billing.",
        "telemetry.",
        "admin.",
    ];
    let tables = ["upstreams.", "models.", "plans."];
    for section in sections.iter().chain(&tables) {
        let head = match section.trim_end_matches('.') {
            "" => String::new(),
            name if tables.contains(section) => format!("[[{name}]]\n"),
            name => format!("[{name}]\n"),
        };
        // An unknown key is refused with the list of those that are accepted.
        let sentence = refused(&format!("{head}no_such_key = 1"), &[]);
        let (_, expected) = sentence.split_once("expected").unwrap();
        accepted
            .extend(expected.split('`').skip(1).step_by(2).map(|key| format!("{section}{key}")));
    }
    accepted.retain(|key| !sections.iter().chain(&tables).any(|s| *s == format!("{key}.")));
    let missing: Vec<_> = accepted.iter().filter(|key| !documented.contains_key(*key)).collect();
    assert!(missing.is_empty(), "not in config/default.toml: {missing:?}");
}
