//! Sign-in with OpenID Connect: the provider, and which of its users get in.

use super::error::ConfigError;
use super::layers::Layers;
use super::network_types::BaseUrl;
use super::value::{FromConfig, RawValue};
use domain::secret::Secret;

/// The page of the console that a provider sends browsers back to.
const CALLBACK: &str = "/console/oidc/callback";
/// The scope without which a request is not one of OpenID Connect.
const OPENID: &str = "openid";

/// The sign-in provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    /// As the provider writes it in its tokens.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Secret,
    /// The name of the provider, as people know it.
    pub name: String,
    /// What is requested; `openid` among them.
    pub scopes: Vec<String>,
    /// True: an account is created for users who have none, also while registration is closed; false: never; `None`: while
    /// registration is open.
    pub create_accounts: Option<bool>,
    /// Domains of e-mail addresses, in lower case; empty = any.
    pub allowed_email_domains: Vec<String>,
    /// PEM file with the authorities for the provider's certificate; `None` = those of the system.
    pub ca_file: Option<String>,
    /// Where the provider sends browsers back to, below the configured `public_url`.
    pub redirect_uri: String,
}

/// The address of a provider as it stands in its tokens, letter by letter.
#[derive(Debug, Clone)]
pub struct Issuer {
    text: String,
    /// True if it is reached over TLS, or is on this machine.
    is_safe: bool,
}

impl FromConfig for Issuer {
    fn expected() -> String {
        "an https:// URL without a query, such as https://accounts.google.com".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let url = BaseUrl::from_value(value)?;
        let is_safe = url.tls || url.is_loopback();
        Some(Self { text: value.text()?.to_owned(), is_safe })
    }
}

/// The provider as configured; `None` = users log in with passwords alone.
pub fn resolve(layers: &Layers) -> Result<Option<Oidc>, ConfigError> {
    let named = layers.find(|raw| &raw.accounts.oidc.issuer)?;
    let Some(issuer) = named.value else { return Ok(None) };
    if !issuer.is_safe {
        return Err(named.error(
            "`accounts.oidc.issuer`: http:// is only for a provider on this machine; use https://",
        ));
    }
    let Some(public_url) = layers.value(|raw| &raw.public_url)? else {
        return Err(named.error(
            "`accounts.oidc.issuer`: the provider sends browsers back to this gateway, so set `public_url` as well: \
the address under which callers reach it, such as \"https://api.example.com\"",
        ));
    };
    let client_id = layers.value(|raw| &raw.accounts.oidc.client_id)?.ok_or_else(|| {
        named.error("`accounts.oidc.client_id` is required with `accounts.oidc.issuer`")
    })?;
    let client_secret = layers.value(|raw| &raw.accounts.oidc.client_secret)?.ok_or_else(|| {
        named.error("`accounts.oidc.issuer` needs the secret of its client; set OIDC_CLIENT_SECRET")
    })?;
    let mut scopes = layers.value(|raw| &raw.accounts.oidc.scopes)?.0;
    if !scopes.iter().any(|scope| scope == OPENID) {
        scopes.insert(0, OPENID.to_owned());
    }
    let domains = layers.value(|raw| &raw.accounts.oidc.allowed_email_domains)?.0;
    Ok(Some(Oidc {
        issuer: issuer.text.clone(),
        client_id,
        client_secret,
        name: layers.value(|raw| &raw.accounts.oidc.name)?.0,
        scopes,
        create_accounts: layers.value(|raw| &raw.accounts.oidc.create_accounts)?,
        allowed_email_domains: domains.iter().map(|name| name.to_ascii_lowercase()).collect(),
        ca_file: layers.value(|raw| &raw.accounts.oidc.ca_file)?.map(|file| file.0),
        redirect_uri: format!("{}{CALLBACK}", public_url.0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, load_from};
    use std::collections::BTreeMap;

    const SECRET: &str = "hunter2";

    fn load(lines: &str) -> Result<Config, ConfigError> {
        load_with(&format!("public_url = \"https://kx.example/base\"\n{TABLE}{lines}"), SECRET)
    }

    fn load_with(file: &str, secret: &str) -> Result<Config, ConfigError> {
        let variables = BTreeMap::from([("OIDC_CLIENT_SECRET".to_owned(), secret.to_owned())]);
        load_from(Some(("my.toml", file)), &variables)
    }

    const TABLE: &str =
        "[accounts.oidc]\nissuer = \"https://id.example/\"\nclient_id = \"kx client\"\n";

    #[test]
    fn a_provider_is_read_and_its_secret_never_shown() {
        let config = load("").unwrap();
        let oidc = config.oidc.clone().unwrap();
        assert_eq!(oidc.issuer, "https://id.example/", "letter by letter");
        assert_eq!(oidc.redirect_uri, "https://kx.example/base/console/oidc/callback");
        assert_eq!(oidc.scopes, ["openid", "email", "profile"]);
        assert_eq!((oidc.create_accounts, oidc.client_secret.expose()), (None, SECRET));
        assert!(!format!("{config} {config:?} {:?}", config.report()).contains(SECRET));
        let more = "scopes = \"email\"\ncreate_accounts = false\nallowed_email_domains = \"A.example,b.example\"";
        let oidc = load(more).unwrap().oidc.unwrap();
        assert_eq!(oidc.scopes, ["openid", "email"]);
        assert_eq!(oidc.create_accounts, Some(false));
        assert_eq!(oidc.allowed_email_domains, ["a.example", "b.example"]);
        assert!(load_with("", SECRET).unwrap().oidc.is_none(), "no issuer");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let file = format!("public_url = \"https://kx.example\"\n{TABLE}");
        for (file, secret, words) in [
            (file.clone(), "", "set OIDC_CLIENT_SECRET"),
            (TABLE.to_owned(), SECRET, "set `public_url`"),
            (file.replace("client_id = \"kx client\"\n", ""), SECRET, "client_id` is required"),
            (file.replace("https://id", "http://id"), SECRET, "on this machine"),
            (file.replace("https://id.example/", "id.example"), SECRET, "an https:// URL"),
            (
                file.replace("https://id.example/", "https://id.example/?a"),
                SECRET,
                "without a query",
            ),
        ] {
            let problem = load_with(&file, secret).unwrap_err().to_string();
            assert!(problem.contains(words) && problem.contains("line "), "{file}: {problem}");
        }
        let local = file.replace("https://id.example/", "http://127.0.0.1:9/realms/x");
        assert!(load_with(&local, SECRET).unwrap().oidc.is_some());
    }
}
