//! Mail: the server, and what needs one.

use super::error::ConfigError;
use super::layers::Layers;
use super::value::{FromConfig, RawValue};
use super::{Accounts, Config};
use domain::secret::Secret;
use lettre::message::Mailbox;

/// The mail server, and the sender of mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub tls: MailTls,
    /// PEM file with further authorities for the server's certificate.
    pub ca_file: Option<String>,
    /// Given with `password`, or neither.
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// An address, with or without a name.
    pub from: String,
}

/// How the connection to the mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// The connection begins in plain text and must be upgraded before anything else.
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// Not at all: only for a server on this machine.
    None,
}

/// The sender of mails: an address, with or without a name.
#[derive(Debug, Clone)]
pub struct Sender(pub String);

impl FromConfig for Sender {
    fn expected() -> String {
        "an address such as \"noreply@example.com\" or \"KnockXPrime <noreply@example.com>\""
            .to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let text = value.text()?;
        let is_plain = !text.contains(char::is_control);
        (is_plain && text.parse::<Mailbox>().is_ok()).then(|| Self(text.to_owned()))
    }
}

impl MailTls {
    /// The usual port.
    fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

/// The mail server as configured; `None` = no mails are sent.
pub fn resolve(layers: &Layers) -> Result<Option<Mail>, ConfigError> {
    let named = layers.find(|raw| &raw.mail.host)?;
    let Some(host) = named.value else { return Ok(None) };
    if layers.value(|raw| &raw.public_url)?.is_none() {
        return Err(named.error(
            "`mail.host`: mails contain links to this gateway, so set `public_url` as well: the address under \
which callers reach it, such as \"https://api.example.com\"",
        ));
    }
    let tls = layers.find(|raw| &raw.mail.tls)?;
    if *tls.value == MailTls::None && !host.is_loopback() {
        return Err(tls.error(
            "`mail.tls`: \"none\" is only for a mail server on this machine; use \"starttls\" or \"implicit\"",
        ));
    }
    let from = layers.find(|raw| &raw.mail.from)?;
    let sender = from.value.as_ref().ok_or_else(|| {
        from.error("`mail.from` is required with `mail.host`: the address that mails are sent from")
    })?;
    let username = layers.find(|raw| &raw.mail.username)?;
    let password = layers.find(|raw| &raw.mail.password)?;
    match (username.value, password.value) {
        (Some(_), None) => {
            return Err(
                username.error("`mail.username` needs a password as well; set SMTP_PASSWORD")
            );
        }
        (None, Some(_)) => {
            return Err(password.error("`mail.password` needs `mail.username` as well"));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    Ok(Some(Mail {
        host: host.0.clone(),
        port: match layers.value(|raw| &raw.mail.port)?.0 {
            0 => tls.value.port(),
            port => port,
        },
        tls: *tls.value,
        ca_file: layers.value(|raw| &raw.mail.ca_file)?.map(|file| file.0),
        username: username.value.clone(),
        password: password.value.clone(),
        from: sender.0.clone(),
    }))
}

/// Refuses a configuration that wants what only mails make possible.
pub fn check(config: &Config, layers: &Layers) -> Result<(), ConfigError> {
    let Accounts { require_verified_email, .. } = config.accounts;
    if require_verified_email && config.mail.is_none() {
        return Err(layers.find(|raw| &raw.accounts.require_verified_email)?.error(
            "`accounts.require_verified_email` needs a mail server, or no user could verify an address; set \
`mail.host`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_from;
    use std::collections::BTreeMap;

    const URL: &str = "public_url = \"https://api.example.com/base/\"\n";

    fn load(file: &str) -> Result<Config, ConfigError> {
        let variables = BTreeMap::from([("SMTP_PASSWORD".to_owned(), "hunter2".to_owned())]);
        load_from(Some(("my.toml", file)), &variables)
    }

    fn mail(lines: &str) -> String {
        format!(
            "{URL}[mail]\nhost = \"mail.example.com\"\nfrom = \"a@b.c\"\nusername = \"u\"\n{lines}\n"
        )
    }

    #[test]
    fn the_port_follows_the_encryption_and_the_password_is_never_shown() {
        let local = mail("tls = \"none\"").replace("mail.example.com", "127.0.0.1");
        for (file, port) in [
            (mail(""), 587),
            (mail("tls = \"implicit\""), 465),
            (mail("port = 2525"), 2525),
            (local, 25),
        ] {
            let config = load(&file).unwrap();
            let settings = config.mail.clone().unwrap();
            assert_eq!((settings.port, settings.password.unwrap().expose()), (port, "hunter2"));
            assert_eq!(config.public_url.as_deref(), Some("https://api.example.com/base"));
            assert!(!format!("{config} {config:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let required = "[accounts]\nrequire_verified_email = true\n";
        for (file, words) in [
            (mail("").replace(URL, ""), "set `public_url`"),
            (mail("tls = \"none\""), "on this machine"),
            (mail("").replace("from = \"a@b.c\"\n", ""), "`mail.from` is required"),
            (mail("").replace("username = \"u\"\n", ""), "`mail.username`"),
            (mail("").replace("a@b.c", "no-address"), "an address such as"),
            (mail("").replace("a@b.c", "a@b.c\\nBcc: d@e.f"), "an address such as"),
            (mail("").replace("mail.example.com", "mail.example.com:25"), "without a port"),
            ("public_url = \"api.example.com\"\n".to_owned(), "an http:// or https:// URL"),
            ("public_url = \"https://a.example/?x=1\"\n".to_owned(), "without a query"),
            (required.to_owned(), "needs a mail server"),
        ] {
            let problem = load(&file).unwrap_err().to_string();
            let names_its_place = problem.contains("line ") || problem.contains("SMTP_PASSWORD");
            assert!(problem.contains(words) && names_its_place, "{file}: {problem}");
        }
        assert!(load(&(mail("") + required)).unwrap().accounts.require_verified_email);
    }
}
