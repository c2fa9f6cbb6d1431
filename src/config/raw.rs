//! The configuration as written: every key of a config file, none of them required to be there.
//!
//! `config/default.toml` says what each key means; a test holds the two together.

use super::mail::{MailTls, Sender};
use super::network_types::{BaseUrl, HostName, Networks, Origins, PublicUrl};
use super::oidc::Issuer;
use super::types::{
    CaFile, DisplayName, Email, ImagePrice, LogFilter, Name, NameList, ReleaseDate, Seconds,
    SurfaceList, TokenPrice, WholeNumber,
};
use super::value::Field;
use super::{Billing as BillingMode, Durability, Environment, LogFormat};
use crate::upstream::catalog::OnHangUp;
use domain::cached_tokens::CachedTokenFraction;
use domain::plan::ServerTools;
use domain::secret::Secret;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::net::IpAddr;
use wire::dialect::Dialect;
use wire::request::LimitField;

type Optional<T> = Option<Field<T>>;
type Bytes = WholeNumber<usize, 1024, 1_073_741_824>;
type Count<T> = WholeNumber<T, 1, 1_000_000>;
type Tokens = WholeNumber<u64, 1, 100_000_000>;
/// A wait that cannot be zero.
type Wait = Seconds<1>;
/// A wait that zero switches off.
type Pause = Seconds<0>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    pub environment: Optional<Environment>,
    pub host: Optional<Option<IpAddr>>,
    pub port: Optional<WholeNumber<u16, 0, 65535>>,
    pub public_url: Optional<Option<PublicUrl>>,
    pub admin_host: Optional<IpAddr>,
    pub admin_names: Optional<NameList>,
    pub admin_port: Optional<WholeNumber<u16, 0, 65535>>,
    pub secret_key: Optional<Option<Secret>>,
    pub listener: Listener,
    pub database: Database,
    pub redis: Redis,
    pub limits: Limits,
    pub cors: Cors,
    pub accounts: Accounts,
    pub mail: Mail,
    pub billing: Billing,
    pub telemetry: Telemetry,
    pub admin: Admin,
    pub upstreams: Option<Vec<Upstream>>,
    pub models: Option<Vec<Model>>,
    pub plans: Option<Vec<Plan>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    pub header_bytes: Optional<WholeNumber<usize, 1024, 1_048_576>>,
    pub header_timeout: Optional<Wait>,
    pub keepalive: Optional<Wait>,
    pub body_timeout: Optional<Wait>,
    pub write_timeout: Optional<Wait>,
    pub body_rate: Optional<WholeNumber<u64, 0, 1_073_741_824>>,
    pub max_connections: Optional<Count<usize>>,
    pub connections_per_address: Optional<WholeNumber<usize, 0, 1_000_000>>,
    pub buffered_bytes: Optional<WholeNumber<usize, 1_048_576, 1_099_511_627_776>>,
    pub trusted_proxies: Optional<Networks>,
    pub data_cors: Optional<Origins>,
    pub tls_certificate: Optional<Option<String>>,
    pub tls_key: Optional<Option<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    pub url: Optional<Secret>,
    pub durability: Optional<Durability>,
    pub journal: Optional<Option<String>>,
    pub journal_bytes: Optional<WholeNumber<u64, 1_048_576, 1_099_511_627_776>>,
    pub connections: Optional<WholeNumber<u32, 1, 1000>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    pub url: Optional<Option<Secret>>,
    pub lease: Optional<Wait>,
    pub max_backlog: Optional<WholeNumber<u64, 1000, 1_000_000_000>>,
    pub compare: Optional<Wait>,
    pub spool: Optional<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub body_bytes: Optional<Bytes>,
    pub event_bytes: Optional<Bytes>,
    pub reply_bytes: Optional<Bytes>,
    pub rate_limit_requests: Optional<Count<u32>>,
    pub rate_limit_window: Optional<WholeNumber<u32, 1, 86_400>>,
    pub slice_tokens: Optional<WholeNumber<u64, 16, 1_000_000>>,
    pub expected_output_tokens: Optional<WholeNumber<u64, 1, 10_000_000>>,
    pub expected_hidden_tokens: Optional<WholeNumber<u64, 0, 10_000_000>>,
    pub admission_wait: Optional<Pause>,
    pub keepalive_comment: Optional<Pause>,
    pub early_keepalive: Optional<Pause>,
    pub shutdown_delay: Optional<Pause>,
    pub shutdown_grace: Optional<Pause>,
    pub cached_callers: Optional<WholeNumber<usize, 1, 10_000_000>>,
    pub call_timeout: Optional<Wait>,
    pub drain: Optional<Pause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    pub origins: Optional<Option<Origins>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accounts {
    pub registration: Optional<bool>,
    pub default_plan: Optional<Option<Name>>,
    pub access_token: Optional<Wait>,
    pub refresh_token: Optional<Wait>,
    pub account_tries: Optional<Count<u32>>,
    pub address_tries: Optional<Count<u32>>,
    pub address_registrations: Optional<Count<u32>>,
    pub account_changes: Optional<Count<u32>>,
    pub require_verified_email: Optional<bool>,
    pub oidc: Oidc,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Oidc {
    pub issuer: Optional<Option<Issuer>>,
    pub client_id: Optional<Option<String>>,
    pub client_secret: Optional<Option<Secret>>,
    pub name: Optional<DisplayName>,
    pub scopes: Optional<NameList>,
    pub create_accounts: Optional<Option<bool>>,
    pub allowed_email_domains: Optional<NameList>,
    pub ca_file: Optional<Option<CaFile>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    pub host: Optional<Option<HostName>>,
    pub port: Optional<WholeNumber<u16, 0, 65535>>,
    pub tls: Optional<MailTls>,
    pub ca_file: Optional<Option<CaFile>>,
    pub username: Optional<Option<String>>,
    pub password: Optional<Option<Secret>>,
    pub from: Optional<Option<Sender>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Billing {
    pub mode: Optional<BillingMode>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    pub log_format: Optional<Option<LogFormat>>,
    pub log_filter: Optional<LogFilter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub email: Optional<Option<Email>>,
    pub password: Optional<Option<Secret>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    pub name: Field<Name>,
    pub base_url: Field<BaseUrl>,
    pub api_key: Optional<Secret>,
    pub api_key_env: Optional<NameList>,
    pub connect_timeout: Optional<Wait>,
    pub first_byte_timeout: Optional<Wait>,
    pub first_event_timeout: Optional<Pause>,
    pub idle_timeout: Optional<Wait>,
    pub max_in_flight: Optional<Count<u32>>,
    pub queue_length: Optional<WholeNumber<u32, 0, 1_000_000>>,
    pub queue_timeout: Optional<Wait>,
    pub probe_interval: Optional<Pause>,
    pub ca_file: Optional<Option<CaFile>>,
    pub limit_field: Optional<LimitField>,
    pub dialect: Optional<Dialect>,
    pub system_first_only: Optional<bool>,
    pub replays_reasoning: Optional<bool>,
    pub on_hang_up: Optional<OnHangUp>,
    pub stream_options: Optional<bool>,
    pub surfaces: Optional<SurfaceList>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub id: Field<Name>,
    pub aliases: Optional<NameList>,
    pub list_aliases: Optional<bool>,
    pub translate: Optional<bool>,
    pub reasoning_effort: Optional<bool>,
    pub upstreams: Vec<Route>,
    pub first_event_timeout: Optional<Pause>,
    pub context_fallback: Optional<Name>,
    pub content_fallback: Optional<Name>,
    pub context_tokens: Field<Tokens>,
    pub output_tokens: Optional<Tokens>,
    pub prices: Prices,
    pub long_prices: Option<LongPrices>,
    pub hidden_reasoning: Optional<bool>,
    pub image_price: Optional<ImagePrice>,
    pub image_tokens: Optional<WholeNumber<u64, 0, 1_000_000>>,
    pub prompt_overhead_tokens: Optional<WholeNumber<u64, 0, 1_000_000>>,
    pub created: Optional<ReleaseDate>,
    pub owned_by: Optional<Name>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub name: Field<Name>,
    pub model: Optional<Name>,
    pub weight: Optional<WholeNumber<u32, 1, 1000>>,
    pub surfaces: Optional<SurfaceList>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    pub input: Field<TokenPrice>,
    pub cached_input: Field<TokenPrice>,
    pub cache_write: Optional<TokenPrice>,
    pub output: Field<TokenPrice>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPrices {
    pub from: Field<Tokens>,
    pub input: Field<TokenPrice>,
    pub cached_input: Field<TokenPrice>,
    pub cache_write: Optional<TokenPrice>,
    pub output: Field<TokenPrice>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub id: Field<Name>,
    pub name: Field<DisplayName>,
    pub price_cents: Field<WholeNumber<u32, 0, 100_000_000>>,
    pub max_tokens_per_day: Field<WholeNumber<u64, 0, 1_000_000_000_000>>,
    pub cached_token_fraction: Optional<CachedTokenFraction>,
    pub max_requests_per_day: Field<WholeNumber<u64, 0, 1_000_000_000>>,
    pub concurrent_streams: Field<Count<u32>>,
    pub rate_limit_requests: Optional<Count<u32>>,
    pub rate_limit_window: Optional<WholeNumber<u32, 1, 86_400>>,
    pub models: Optional<NameList>,
    pub time_zone: Optional<TimeZone>,
    pub server_tools: Optional<ServerTools>,
    pub max_tool_calls: Optional<WholeNumber<u32, 1, 1000>>,
    pub service_tiers: Optional<NameList>,
    pub image_sizes: Optional<NameList>,
    pub image_qualities: Optional<NameList>,
    pub account_references: Optional<bool>,
}
