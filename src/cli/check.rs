//! `knockx check`: loads the config and reaches every dependency, one line each.

use super::config_arg::ConfigArg;
use crate::config::{Config, Database, Mail, MissingKey, Oidc, TlsFiles};
use crate::gateway::listener::tls::Tls;
use crate::mail::smtp::Smtp;
use crate::oidc::Provider;
use crate::upstream::catalog::Upstream;
use crate::upstream::client;
use futures_util::future::join_all;
use nix::unistd::{AccessFlags, access};
use quota::redis::connection::preflight::{self, Severity};
use quota::redis::connection::{RedisConn, RedisUrls};
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use system::clock;

/// Check the config and connect to every dependency.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example: GROK_API_KEY=xai-... knockx check --config knockx.toml")]
pub struct Args {
    #[command(flatten)]
    pub(super) config: ConfigArg,
}

/// Result of one check: its name, and the finding or the remedy.
struct Finding {
    name: String,
    result: Result<String, String>,
}

const WRITABLE: &str = "check that DATABASE_URL names a file that this user can write";

/// Time for one dependency to respond.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints a line for each part; exit code 1 when one of them fails.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    println!("ok    config");
    for note in &config.notes {
        println!("note  {note}");
    }
    let mut findings = vec![store(&config).await];
    if let Some(redis) = &config.redis {
        findings.extend(counters(&redis.urls).await);
    }
    findings.extend(config.listener.tls.as_ref().map(certificate));
    if let (Some(settings), Some(public_url)) = (&config.mail, &config.public_url) {
        findings.push(mail(settings, public_url).await);
    }
    if let Some(settings) = &config.oidc {
        findings.push(provider(settings).await);
    }
    findings.extend(join_all(config.catalog.upstreams.iter().map(upstream)).await);
    findings.extend(config.missing_keys.iter().map(missing_key));
    if config.catalog.upstreams.is_empty() && config.missing_keys.is_empty() {
        let advice = "none is configured; add [[upstreams]] and [[models]] to the config file";
        findings.push(Finding { name: "upstreams".to_owned(), result: Err(advice.to_owned()) });
    }
    for finding in &findings {
        println!("{}", finding.line());
    }
    let all_well = findings.iter().all(|finding| finding.result.is_ok());
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn certificate(files: &TlsFiles) -> Finding {
    let result = match Tls::new(files) {
        Ok(_) => Ok("matches its key".to_owned()),
        Err(e) => Err(format!("{e:#}")),
    };
    Finding { name: format!("certificate {}", files.certificate), result }
}

/// Connects to the mail server and logs in; sends nothing.
async fn mail(settings: &Mail, public_url: &str) -> Finding {
    const ADVICE: &str = "check [mail] and the firewall";
    let result = match Smtp::new(settings, public_url) {
        Ok(smtp) => match tokio::time::timeout(CHECK_TIMEOUT, smtp.check()).await {
            Ok(Ok(())) => Ok("accepts mails".to_owned()),
            Ok(Err(error)) => Err(format!("{error}; {ADVICE}")),
            Err(_) => Err(format!("no response in 10 s; {ADVICE}")),
        },
        Err(error) => Err(format!("{error:#}")),
    };
    Finding { name: format!("mail {}:{}", settings.host, settings.port), result }
}

/// Fetches the metadata and the keys of the sign-in provider.
async fn provider(settings: &Oidc) -> Finding {
    const ADVICE: &str = "check [accounts.oidc] and the firewall";
    let provider = Provider::new(settings.clone());
    let result = match tokio::time::timeout(CHECK_TIMEOUT, provider.check()).await {
        Ok(Ok(())) => Ok(format!("responds; its redirect URI is {}", settings.redirect_uri)),
        Ok(Err(error)) => Err(format!("{error}; {ADVICE}")),
        Err(_) => Err(format!("no response in 10 s; {ADVICE}")),
    };
    Finding { name: format!("sign-in {}", settings.issuer), result }
}

async fn store(config: &Config) -> Finding {
    let (name, advice, silent) = match &config.database {
        Database::Sqlite { path, .. } => (
            format!("store sqlite:{}", path.display()),
            WRITABLE,
            "no response in 10 s; check the disk that holds it",
        ),
        Database::Postgres(server) => (
            format!("store postgres://{}", server.place),
            "check host, user, password and database in DATABASE_URL",
            "no response in 10 s; check the host in DATABASE_URL and the firewall",
        ),
    };
    if let Some(file) = config.database.missing_file() {
        return Finding { name, result: to_be_made(&file) };
    }
    let result = match tokio::time::timeout(
        CHECK_TIMEOUT,
        store::check(&config.database, config.redis.is_none()),
    )
    .await
    {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(e)) => Err(format!("{e}; {advice}")),
        Err(_) => Err(silent.to_owned()),
    };
    Finding { name, result }
}

/// Each thing that Redis should know about itself is a line.
async fn counters(urls: &RedisUrls) -> Vec<Finding> {
    let name = format!("redis {urls:?}");
    let looked = async {
        let unreached = |e| format!("{e}; check host, user and password in REDIS_URL");
        let connection = RedisConn::open(urls).await.map_err(unreached)?;
        let found = preflight::check_server(&connection, clock::now()).await?;
        preflight::takes_writes(&connection).await.map(|()| found)
    };
    let found = match tokio::time::timeout(CHECK_TIMEOUT, looked).await {
        Ok(Ok(found)) => found,
        Ok(Err(advice)) => return vec![Finding { name, result: Err(advice) }],
        Err(_) => {
            let advice = "no response in 10 s; check the host in REDIS_URL and the firewall";
            return vec![Finding { name, result: Err(advice.to_owned()) }];
        }
    };
    let line = |preflight::Finding { severity, text }| Finding {
        name: name.clone(),
        result: match severity {
            Severity::Ok => Ok(text),
            Severity::Warning => Ok(format!("usable, but {text}")),
            Severity::Refusal => Err(text),
        },
    };
    found.into_iter().map(line).collect()
}

/// A check makes no database: it tells whether `serve` could.
fn to_be_made(file: &Path) -> Result<String, String> {
    let Some(folder) = file.ancestors().skip(1).find(|folder| folder.exists()) else {
        return Err(WRITABLE.to_owned());
    };
    match access(folder, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Ok("does not exist yet; `knockx serve` creates it".to_owned()),
        Err(e) => Err(format!("cannot create it in {} ({e}); {WRITABLE}", folder.display())),
    }
}

async fn upstream(upstream: &Arc<Upstream>) -> Finding {
    let Upstream { name, host, port, .. } = &**upstream;
    let shown =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let result = match reach(host, *port, upstream.timeouts.connect).await {
        Ok(()) => probe(upstream).await,
        Err(advice) => Err(advice),
    };
    Finding { name: format!("upstream {name} ({shown})"), result }
}

/// Name and port, checked separately from what the connector reports about TLS and keys.
async fn reach(host: &str, port: u16, patience: Duration) -> Result<(), String> {
    let addresses = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = match addresses {
        Ok(found) => found.collect(),
        Err(e) => {
            return Err(format!("the host name does not resolve ({e}); check base_url and DNS"));
        }
    };
    match tokio::time::timeout(patience, tokio::net::TcpStream::connect(&*addresses)).await {
        Ok(Ok(_connection)) => Ok(()),
        Ok(Err(e)) => Err(format!("cannot connect ({e}); check base_url and the firewall")),
        Err(_) => Err(format!("cannot connect in {patience:?}; check base_url and the firewall")),
    }
}

async fn probe(upstream: &Arc<Upstream>) -> Result<String, String> {
    match tokio::time::timeout(CHECK_TIMEOUT, client::probe(upstream)).await {
        Ok(answer) => answer
            .map(|took| format!("connected in {} ms; the API key was not tried", took.as_millis())),
        Err(_) => Err("completed no connection in 10 s".to_owned()),
    }
}

fn missing_key(missing: &MissingKey) -> Finding {
    let advice = format!("its API key is not set; set {}", missing.variables.join(" or "));
    Finding { name: format!("upstream {}", missing.upstream), result: Err(advice) }
}

impl Finding {
    fn line(&self) -> String {
        let line = |mark: &str, text: &dyn Display| format!("{mark}  {}: {text}", self.name);
        match &self.result {
            Ok(found) => line("ok  ", found),
            Err(advice) => line("FAIL", advice),
        }
    }
}
