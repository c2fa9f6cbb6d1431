//! From layers to [`Config`]: each key's value in force, and the checks across keys.

use super::error::ConfigError;
use super::layers::{Environment as Variables, Layers};
use super::network_types::Origins;
use super::{
    Accounts, Config, Cors, Environment, FirstAdmin, Limits, Listener, Log, Redis, TlsFiles,
    catalog, database, mail, oidc, plans, production,
};
use domain::id::PlanId;
use domain::plan::{Plan, Window};
use quota::redis::connection::RedisUrls;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Default limit of connections per address: this fraction of all connections, and at least a few.
const ADDRESS_SHARE: usize = 4;
const LEAST_PER_ADDRESS: usize = 16;

/// The configuration that a file (its name and text) and variables make over the defaults.
/// An empty variable counts as not set.
pub fn load_from(file: Option<(&str, &str)>, variables: &Variables) -> Result<Config, ConfigError> {
    let layers = Layers::read(file, variables)?;
    let environment = layers.value(|raw| &raw.environment)?;
    let limits = limits(&layers)?;
    let catalog::Resolved { catalog, missing_keys } =
        catalog::resolve(&layers, variables, environment)?;
    let plans = plans::resolve(&layers, limits.window, &catalog)?;
    let database = database::resolve(&layers, environment, is_set(variables, "NEON_API_URL"))?;
    let config = Config {
        environment,
        listener: listener(&layers, environment)?,
        public_url: layers.value(|raw| &raw.public_url)?.map(|url| url.0),
        admin_addr: admin_addr(&layers)?,
        admin_names: layers.value(|raw| &raw.admin_names)?.0.clone(),
        journal: database::journal(&layers, &database)?,
        database,
        redis: redis(&layers)?,
        secret_key: layers.value(|raw| &raw.secret_key)?,
        accounts: accounts(&layers, &plans)?,
        oidc: oidc::resolve(&layers)?,
        mail: mail::resolve(&layers)?,
        billing: layers.value(|raw| &raw.billing.mode)?,
        plans,
        limits,
        catalog,
        missing_keys,
        cors: cors(&layers)?,
        log: log(&layers)?,
        first_admin: first_admin(&layers)?,
        notes: notes(variables),
    };
    database::check_secret(&config, &layers)?;
    mail::check(&config, &layers)?;
    production::check(&config, &layers)?;
    Ok(config)
}

fn is_set(variables: &Variables, name: &str) -> bool {
    variables.get(name).is_some_and(|value| !value.is_empty())
}

fn redis(layers: &Layers) -> Result<Option<Redis>, ConfigError> {
    let url = layers.find(|raw| &raw.redis.url)?;
    let Some(text) = url.value else { return Ok(None) };
    let urls = RedisUrls::parse(text.expose())
        .map_err(|problem| url.error(format!("`redis.url`: {problem}")))?;
    Ok(Some(Redis {
        urls,
        lease: layers.value(|raw| &raw.redis.lease)?.0,
        max_backlog: layers.value(|raw| &raw.redis.max_backlog)?.0,
        compare: layers.value(|raw| &raw.redis.compare)?.0,
        spool: layers.value(|raw| &raw.redis.spool)?.into(),
    }))
}

fn notes(variables: &Variables) -> Vec<String> {
    let unused = |name: &&str| is_set(variables, name);
    let note = |name: &str| format!("{name} is ignored: the store is set by DATABASE_URL");
    ["NEON_API_URL", "NEON_API_KEY"].into_iter().filter(unused).map(note).collect()
}

fn listener(layers: &Layers, environment: Environment) -> Result<Listener, ConfigError> {
    let by_environment = match environment {
        Environment::Development => Ipv4Addr::LOCALHOST,
        Environment::Production => Ipv4Addr::UNSPECIFIED,
    };
    let host = layers.value(|raw| &raw.host)?.unwrap_or(IpAddr::V4(by_environment));
    let max_connections = layers.value(|raw| &raw.listener.max_connections)?.0;
    let per_address = match layers.value(|raw| &raw.listener.connections_per_address)?.0 {
        0 => (max_connections / ADDRESS_SHARE).max(LEAST_PER_ADDRESS),
        most => most,
    };
    Ok(Listener {
        addr: SocketAddr::new(host, layers.value(|raw| &raw.port)?.0),
        header_bytes: layers.value(|raw| &raw.listener.header_bytes)?.0,
        header_timeout: layers.value(|raw| &raw.listener.header_timeout)?.0,
        keepalive: layers.value(|raw| &raw.listener.keepalive)?.0,
        body_timeout: layers.value(|raw| &raw.listener.body_timeout)?.0,
        body_rate: layers.value(|raw| &raw.listener.body_rate)?.0,
        write_timeout: layers.value(|raw| &raw.listener.write_timeout)?.0,
        max_connections,
        connections_per_address: per_address,
        buffered_bytes: layers.value(|raw| &raw.listener.buffered_bytes)?.0,
        trusted_proxies: layers.value(|raw| &raw.listener.trusted_proxies)?.0,
        data_cors: match layers.value(|raw| &raw.listener.data_cors)? {
            Origins::Any => None,
            Origins::Listed(origins) => Some(origins),
        },
        tls: tls(layers)?,
    })
}

fn tls(layers: &Layers) -> Result<Option<TlsFiles>, ConfigError> {
    let certificate = layers.find(|raw| &raw.listener.tls_certificate)?;
    let key = layers.find(|raw| &raw.listener.tls_key)?;
    match (certificate.value, key.value) {
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(key.error("tls_certificate is set, but tls_key is not")),
        (None, Some(_)) => Err(certificate.error("tls_key is set, but tls_certificate is not")),
    }
}

fn admin_addr(layers: &Layers) -> Result<Option<SocketAddr>, ConfigError> {
    let host = layers.value(|raw| &raw.admin_host)?;
    let port = layers.value(|raw| &raw.admin_port)?.0;
    Ok((port != 0).then(|| SocketAddr::new(host, port)))
}

fn limits(layers: &Layers) -> Result<Limits, ConfigError> {
    let comment = layers.value(|raw| &raw.limits.keepalive_comment)?.0;
    let early = layers.value(|raw| &raw.limits.early_keepalive)?.0;
    Ok(Limits {
        body_bytes: layers.value(|raw| &raw.limits.body_bytes)?.0,
        event_bytes: layers.value(|raw| &raw.limits.event_bytes)?.0,
        reply_bytes: layers.value(|raw| &raw.limits.reply_bytes)?.0,
        window: Window {
            capacity: layers.value(|raw| &raw.limits.rate_limit_requests)?.0,
            refill_seconds: layers.value(|raw| &raw.limits.rate_limit_window)?.0,
        },
        slice_tokens: layers.value(|raw| &raw.limits.slice_tokens)?.0,
        expected_output_tokens: layers.value(|raw| &raw.limits.expected_output_tokens)?.0,
        expected_hidden_tokens: layers.value(|raw| &raw.limits.expected_hidden_tokens)?.0,
        admission_wait: layers.value(|raw| &raw.limits.admission_wait)?.0,
        early_keepalive: (early > Duration::ZERO).then_some(early),
        keepalive_comment: (comment > Duration::ZERO).then_some(comment),
        shutdown_delay: layers.value(|raw| &raw.limits.shutdown_delay)?.0,
        shutdown_grace: layers.value(|raw| &raw.limits.shutdown_grace)?.0,
        cached_callers: layers.value(|raw| &raw.limits.cached_callers)?.0,
        call_timeout: layers.value(|raw| &raw.limits.call_timeout)?.0,
        drain: layers.value(|raw| &raw.limits.drain)?.0,
    })
}

fn cors(layers: &Layers) -> Result<Cors, ConfigError> {
    Ok(match layers.value(|raw| &raw.cors.origins)? {
        Some(Origins::Any) => Cors::Any,
        Some(Origins::Listed(origins)) if !origins.is_empty() => Cors::Origins(origins),
        Some(Origins::Listed(_)) | None => Cors::SameOrigin,
    })
}

fn accounts(layers: &Layers, plans: &[Plan]) -> Result<Accounts, ConfigError> {
    let default_plan = layers.find(|raw| &raw.accounts.default_plan)?;
    let plan = default_plan.value.as_ref().map(|name| PlanId::from(&*name.0));
    if let Some(plan) = &plan
        && !plans.iter().any(|known| known.id == *plan)
    {
        return Err(default_plan
            .error(format!("`accounts.default_plan`: the plan `{plan}` does not exist")));
    }
    Ok(Accounts {
        registration: layers.value(|raw| &raw.accounts.registration)?,
        default_plan: plan.or_else(|| Some(plans.first()?.id.clone())),
        access_token: layers.value(|raw| &raw.accounts.access_token)?.0,
        refresh_token: layers.value(|raw| &raw.accounts.refresh_token)?.0,
        account_tries: layers.value(|raw| &raw.accounts.account_tries)?.0,
        address_tries: layers.value(|raw| &raw.accounts.address_tries)?.0,
        address_registrations: layers.value(|raw| &raw.accounts.address_registrations)?.0,
        account_changes: layers.value(|raw| &raw.accounts.account_changes)?.0,
        require_verified_email: layers.value(|raw| &raw.accounts.require_verified_email)?,
    })
}

fn log(layers: &Layers) -> Result<Log, ConfigError> {
    Ok(Log {
        format: layers.value(|raw| &raw.telemetry.log_format)?,
        filter: layers.value(|raw| &raw.telemetry.log_filter)?.0,
    })
}

fn first_admin(layers: &Layers) -> Result<Option<FirstAdmin>, ConfigError> {
    let email = layers.find(|raw| &raw.admin.email)?;
    let password = layers.find(|raw| &raw.admin.password)?;
    match (email.value, password.value) {
        (Some(email), Some(password)) => {
            Ok(Some(FirstAdmin { email: email.0.clone(), password: password.clone() }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(email.error("the first admin needs a password as well; set ADMIN_PASSWORD"))
        }
        (None, Some(_)) => {
            Err(password.error("the first admin needs an e-mail address as well; set ADMIN_EMAIL"))
        }
    }
}
