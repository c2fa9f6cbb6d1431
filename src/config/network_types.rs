//! Types of configuration values that name hosts and networks.

use super::value::{FromConfig, RawValue};
use http::Uri;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// Networks or single addresses, as CIDR blocks.
#[derive(Debug, Clone)]
pub struct Networks(pub Vec<IpNet>);

/// Web origins that CORS allows.
#[derive(Debug, Clone)]
pub enum Origins {
    Any,
    Listed(Vec<String>),
}

/// A host name or an IP address, without a port.
#[derive(Debug, Clone)]
pub struct HostName(pub String);

/// The address under which callers reach the gateway, without a slash at its end.
#[derive(Debug, Clone)]
pub struct PublicUrl(pub String);

/// The address of an upstream.
#[derive(Debug, Clone)]
pub struct BaseUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
}

impl FromConfig for Networks {
    fn expected() -> String {
        "addresses or networks such as \"10.0.0.0/8\", as a list or comma-separated".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let net = |text: &String| {
            let text = without_brackets(text);
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        };
        value.list()?.iter().map(net).collect::<Option<_>>().map(Self)
    }
}

impl FromConfig for Origins {
    fn expected() -> String {
        "\"*\", or origins such as \"https://console.example.com\", as a list or comma-separated"
            .to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let origins = value.list()?;
        if origins == ["*"] {
            return Some(Self::Any);
        }
        origins.iter().all(|o| is_origin(o)).then_some(Self::Listed(origins))
    }
}

impl FromConfig for IpAddr {
    fn expected() -> String {
        "an IP address such as 127.0.0.1 or ::, or localhost".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        match value.text()? {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            text => without_brackets(text).parse().ok(),
        }
    }
}

impl FromConfig for BaseUrl {
    fn expected() -> String {
        "an http:// or https:// URL without a query, such as https://api.x.ai/v1".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let text = value.text()?;
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || text.contains(['?', '#']) {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if has_port => return None,
            None if tls => 443,
            None => 80,
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        (!host.is_empty()).then_some(Self { tls, host, port, path })
    }
}

impl FromConfig for HostName {
    fn expected() -> String {
        "a host name or an IP address, without a port".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let host = without_brackets(value.text()?);
        let is_name = |text: &str| {
            text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && (1..=253).contains(&text.len())
        };
        (is_name(host) || host.parse::<IpAddr>().is_ok()).then(|| Self(host.to_owned()))
    }
}

impl HostName {
    /// True if it names this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }
}

impl FromConfig for PublicUrl {
    fn expected() -> String {
        "an http:// or https:// URL without a query, such as https://api.example.com".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        BaseUrl::from_value(value)?;
        Some(Self(value.text()?.trim_end_matches('/').to_owned()))
    }
}

impl BaseUrl {
    /// True if it points at this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An IPv6 address as it stands in URLs, `[::1]`, without its brackets.
fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// Scheme, host and port as a browser sends them: nothing after.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_web = matches!(scheme, "http" | "https");
    is_web && host.parse::<http::uri::Authority>().is_ok() && !host.contains('@')
}
