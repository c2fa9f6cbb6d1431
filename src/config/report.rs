//! The configuration in force, setting by setting, for admins to read.
//!
//! As the one that `serve` logs ([`super::display`]), and with the settings of each upstream, model and plan.
//! Secrets print as `***` by their type.

use super::display::{Section, written};
use super::{Config, Limits, Log, MissingKey};
use crate::upstream::catalog::{Model, Upstream};
use serde::Serialize;
use std::fmt;

/// The settings of one section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SectionReport {
    /// As in the file; the entries of a list are named too, such as `upstreams.xai`.
    pub name: String,
    pub settings: Vec<Setting>,
}

/// A setting and its value, which is not meant to be read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub key: String,
    pub value: String,
}

impl Config {
    /// The effective configuration, without secrets.
    #[must_use]
    pub fn report(&self) -> Vec<SectionReport> {
        let sections = self.sections().into_iter();
        let sections = sections
            .filter(|section| !matches!(section.name, "upstreams" | "models" | "plans"))
            .map(|Section { name, values }| section(name.to_owned(), &values));
        let upstreams = self.catalog.upstreams.iter().map(|upstream| {
            let values = written::<Upstream>(upstream);
            section(format!("upstreams.{}", upstream.name), &values)
        });
        let missing = self.missing_keys.iter().map(without_key);
        let models = self.catalog.models.iter().map(|model| of_model(model));
        let plans =
            self.plans.iter().map(|plan| section(format!("plans.{}", plan.id), &written(plan)));
        sections.chain(upstreams).chain(missing).chain(models).chain(plans).collect()
    }
}

impl Config {
    /// This configuration, of the start, with what a reload takes from `new`.
    #[must_use]
    pub fn reloaded_from(&self, new: &Self) -> Self {
        let cached_callers = self.limits.cached_callers;
        Self {
            limits: Limits { cached_callers, ..new.limits.clone() },
            plans: new.plans.clone(),
            catalog: new.catalog.clone(),
            missing_keys: new.missing_keys.clone(),
            log: Log { format: self.log.format, filter: new.log.filter.clone() },
            ..self.clone()
        }
    }
}

fn setting(key: &str, value: impl fmt::Display) -> Setting {
    Setting { key: key.to_owned(), value: value.to_string() }
}

fn section(name: String, values: &str) -> SectionReport {
    let pairs = pairs(values).into_iter();
    let settings = pairs.map(|pair| match pair.split_once('=') {
        Some((key, value)) => setting(key, value),
        None => setting(pair, ""),
    });
    SectionReport { name, settings: settings.collect() }
}

fn without_key(missing: &MissingKey) -> SectionReport {
    let unset = format!("not set: {}", missing.variables.join(" or "));
    SectionReport {
        name: format!("upstreams.{}", missing.upstream),
        settings: vec![setting("api_key", unset)],
    }
}

fn of_model(model: &Model) -> SectionReport {
    let routes = model.routes.iter();
    let routes: Vec<String> =
        routes.map(|route| format!("{}:{}", route.upstream.name, route.upstream_model)).collect();
    let settings = vec![
        setting("aliases", model.aliases.join(",")),
        setting("list_aliases", model.lists_aliases),
        setting("translate", model.translates),
        setting("reasoning_effort", model.takes_effort),
        setting("upstreams", routes.join(",")),
        setting("first_event_timeout", first_event_timeout(model)),
        setting("context_fallback", model.fallbacks.context.as_deref().unwrap_or_default()),
        setting("content_fallback", model.fallbacks.content.as_deref().unwrap_or_default()),
        setting("context_tokens", model.context_tokens),
        setting("output_tokens", model.output_tokens),
        setting("hidden_reasoning", model.hidden_reasoning),
        setting("prompt_overhead_tokens", model.prompt_overhead_tokens),
    ];
    let prices = pairs(&written(&model.prices)).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let prices = prices.iter().filter_map(|pair| pair.split_once('='));
    // Ticks: 1e-10 US dollars for one token.
    let prices = prices.map(|(key, value)| setting(&format!("price_ticks.{key}"), value));
    SectionReport {
        name: format!("models.{}", model.id),
        settings: settings.into_iter().chain(prices).collect(),
    }
}

/// In seconds, 0 if it is off, and nothing if that of the upstreams applies.
fn first_event_timeout(model: &Model) -> String {
    let timeout = model.first_event_timeout.map(Option::unwrap_or_default);
    timeout.map_or_else(String::new, |timeout| timeout.as_secs_f64().to_string())
}

/// Splits `key=value key=value` at the spaces that are neither in quotes nor in brackets.
fn pairs(values: &str) -> Vec<&str> {
    let (mut pairs, mut start) = (Vec::new(), 0);
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for (at, letter) in values.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '(' | '[' | '{' if !is_quoted => depth += 1,
            ')' | ']' | '}' if !is_quoted => depth = depth.saturating_sub(1),
            ' ' if !is_quoted && depth == 0 => {
                pairs.push(&values[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    pairs.push(&values[start..]);
    pairs.retain(|pair| !pair.is_empty());
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_from;
    use std::collections::BTreeMap;

    #[test]
    fn pairs_are_split_outside_of_quotes_and_brackets() {
        let values = r#"a=1 b="x y\" z" c=["p q",r] d=[::1]:80 e= f={g: 1, h: (2, 3)} i=2"#;
        let expected = [
            "a=1",
            r#"b="x y\" z""#,
            r#"c=["p q",r]"#,
            "d=[::1]:80",
            "e=",
            "f={g: 1, h: (2, 3)}",
            "i=2",
        ];
        assert_eq!(pairs(values), expected);
        assert_eq!(pairs(""), [""; 0]);
    }

    /// A configuration in which every secret has a value of its own around `secret`, which is written as it is in
    /// the file, and as a URL writes it.
    fn filled(secret: &str) -> Config {
        let quoted = toml_text(secret);
        let key = toml_text(&key_of(secret));
        let in_url: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let in_url = in_url.replace('+', "%20");
        let file = format!(
            r#"
            secret_key = "{quoted}-secret-key-of-more-than-32-bytes"
            public_url = "https://gateway.example.com"
            [mail]
            host = "mail.example.com"
            username = "gateway"
            password = "{quoted}-mail-password"
            from = "gateway@example.com"
            [database]
            url = "postgres://user-{in_url}:{in_url}-database@127.0.0.1/knockx?sslmode=disable"
            [redis]
            url = "redis://user:{in_url}-redis@127.0.0.1:6379/0"
            [admin]
            email = "root@example.com"
            password = "{quoted}-admin-password"
            [[upstreams]]
            name = "one"
            base_url = "https://one.example.com/v1"
            api_key = "{key}-upstream-one"
            [[upstreams]]
            name = "two"
            base_url = "https://two.example.com/v1"
            api_key_env = ["TWO_KEY"]
            [[models]]
            id = "grok-4.3"
            upstreams = [{{ name = "one" }}, {{ name = "two" }}]
            context_tokens = 1000000
            prices = {{ input = 1.25, cached_input = 0.20, output = 2.50 }}
            owned_by = "xai"
            "#
        );
        let variables = [("TWO_KEY".to_owned(), format!("{}-upstream-two", key_of(secret)))];
        load_from(Some(("my.toml", &file)), &BTreeMap::from(variables)).unwrap()
    }

    /// An API key around the secret: one has neither spaces nor other letters than those of ASCII.
    fn key_of(secret: &str) -> String {
        secret.chars().filter(char::is_ascii_graphic).collect()
    }

    fn toml_text(text: &str) -> String {
        text.replace('\\', "\\\\").replace('"', "\\\"")
    }

    #[test]
    fn no_secret_is_in_the_report() {
        let plain = "correct-horse-battery-staple";
        let odd = [
            "hunter2 with spaces",
            "a\"quoted\"=[value]",
            "back\\slash{and}(brackets",
            "ünï😀,code",
            "a,b: c }",
        ];
        for secret in [plain].into_iter().chain(odd) {
            let config = filled(secret);
            let report = config.report();
            let json = serde_json::to_string(&report).unwrap();
            let values: Vec<&str> = report
                .iter()
                .flat_map(|section| {
                    section.settings.iter().flat_map(|one| [&*one.key, &*one.value])
                })
                .collect();
            let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let forms = [
                secret.to_owned(),
                key_of(secret),
                format!("{secret:?}").trim_matches('"').to_owned(),
                encoded.replace('+', "%20"),
                encoded,
            ];
            for form in &forms {
                assert!(!json.contains(form.as_str()), "{form} in {json}");
                assert!(values.iter().all(|value| !value.contains(form.as_str())), "{form}");
            }
            // By type: not even of a part that is not reported.
            let whole = format!("{config:?}");
            assert!(forms.iter().all(|form| !whole.contains(form.as_str())), "{whole}");
        }
    }

    #[test]
    fn the_report_has_upstreams_models_and_plans() {
        let report = filled("hunter2").report();
        let value = |section: &str, key: &str| {
            let section = report.iter().find(|one| one.name == section).unwrap();
            let found = section.settings.iter().find(|one| one.key == key);
            found.unwrap_or_else(|| panic!("{key} in {section:?}")).value.clone()
        };
        assert_eq!(value("general", "secret_key"), "***");
        assert_eq!(value("database", "url"), "postgres://***@127.0.0.1/knockx");
        assert_eq!(value("upstreams.one", "api_key"), "***");
        assert_eq!(value("upstreams.one", "host"), "\"one.example.com\"");
        assert_eq!(value("upstreams.two", "timeouts.connect"), "5s");
        assert_eq!(value("models.grok-4.3", "upstreams"), "one:grok-4.3,two:grok-4.3");
        assert!(value("models.grok-4.3", "price_ticks.short.input").parse::<u64>().is_ok());
        assert_eq!(value("plans.baby-free", "limits.tokens_per_day"), "1000");
        assert_eq!(value("limits", "body_bytes"), "33554432");
        for section in &report {
            assert!(section.settings.iter().all(|one| !one.key.is_empty()), "{section:?}");
        }
    }
}
