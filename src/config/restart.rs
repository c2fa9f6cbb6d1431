//! Finds changed settings that need a restart.

use super::Config;

/// Names of the settings that differ between the configuration at start and a reloaded one and need a
/// restart; empty if the reload applied everything.
#[must_use]
pub fn waiting_for_restart(started: &Config, loaded: &Config) -> Vec<&'static str> {
    let (old, new) = (&started.listener, &loaded.listener);
    // A renewed certificate is taken up; that there is one at all is decided once.
    let has_same_tls = old.tls.is_some() == new.tls.is_some();
    let listener =
        |it: &super::Listener| super::Listener { tls: None, addr: old.addr, ..it.clone() };
    let settings = [
        ("environment", started.environment == loaded.environment),
        ("host, port", old.addr == new.addr),
        ("public_url", started.public_url == loaded.public_url),
        ("admin_host, admin_port", started.admin_addr == loaded.admin_addr),
        ("secret_key", started.secret_key == loaded.secret_key),
        ("[listener]", has_same_tls && listener(old) == listener(new)),
        (
            "[database]",
            (&started.database, &started.journal) == (&loaded.database, &loaded.journal),
        ),
        ("[redis]", started.redis == loaded.redis),
        ("limits.cached_callers", started.limits.cached_callers == loaded.limits.cached_callers),
        ("[cors]", started.cors == loaded.cors),
        ("[accounts]", started.accounts == loaded.accounts),
        ("[accounts.oidc]", started.oidc == loaded.oidc),
        ("[mail]", started.mail == loaded.mail),
        ("[billing]", started.billing == loaded.billing),
        ("telemetry.log_format", started.log.format == loaded.log.format),
        ("[admin]", started.first_admin == loaded.first_admin),
    ];
    settings.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_from;
    use std::collections::BTreeMap;

    fn config(text: &str) -> Config {
        load_from(Some(("test.toml", text)), &BTreeMap::new()).unwrap()
    }

    const MAIL: &str =
        "public_url = \"http://a.example\"\n[mail]\nhost = \"m.example\"\nfrom = \"k@a.example\"";

    #[test]
    fn what_a_reload_leaves_as_it_was_is_named() {
        for (text, names) in [
            ("", &[][..]),
            ("[limits]\nslice_tokens = 512\nshutdown_grace = 5\nshutdown_delay = 1", &[]),
            ("[telemetry]\nlog_filter = \"debug\"", &[]),
            ("port = 8001", &["host, port"]),
            ("public_url = \"https://a.example\"", &["public_url"]),
            ("admin_port = 9191", &["admin_host, admin_port"]),
            ("[listener]\nmax_connections = 7", &["[listener]"]),
            ("[database]\nurl = \"sqlite:other.db\"", &["[database]"]),
            ("[redis]\nurl = \"redis://h\"", &["[redis]"]),
            ("[limits]\ncached_callers = 7", &["limits.cached_callers"]),
            ("[cors]\norigins = \"https://a.example\"", &["[cors]"]),
            ("[accounts]\nregistration = false", &["[accounts]"]),
            (MAIL, &["public_url", "[mail]"]),
            ("[billing]\nmode = \"open\"", &["[billing]"]),
            ("[telemetry]\nlog_format = \"json\"", &["telemetry.log_format"]),
            ("secret_key = \"0123456789abcdef0123456789abcdef\"", &["secret_key"]),
            ("port = 8001\n[billing]\nmode = \"open\"", &["host, port", "[billing]"]),
        ] {
            assert_eq!(waiting_for_restart(&config(""), &config(text)), names, "{text}");
        }
    }
}
