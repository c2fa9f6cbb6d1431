//! `knockx key`: adds, lists and revokes API keys.

use super::session::{CliSession, CommonArgs, KeyRow, print_json};
use crate::upstream::catalog::Catalog;
use anyhow::Context;
use clap::Subcommand;
use domain::actor::AuditContext;
use domain::id::KeyId;
use domain::key::{Key, KeyLimits, has_expired};
use domain::label::label;
use jiff::Timestamp;
use std::process::ExitCode;
use std::sync::Arc;
use store::all_keys;
use system::clock;

/// Add, list and revoke API keys.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: knockx key add ada@example.com --name laptop --model grok-4.3\n\n\
    USER is an e-mail address or a user's id."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a key and print it, once.
    #[command(
        after_help = "Example: knockx key add ada@example.com --name ci --expires 2027-01-01T00:00:00Z --tokens-per-day 50000"
    )]
    Add(Add),
    /// List a user's keys, oldest first.
    #[command(after_help = "Example: knockx key list ada@example.com")]
    List { user: String },
    /// Revoke a key and end its open streams. This cannot be undone.
    #[command(after_help = "Example: knockx key revoke 0aB1cD2eF3gH")]
    Revoke {
        /// Public part of the key, between `sk-kx-` and `_`.
        key_id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    user: String,
    #[arg(long, default_value = "default")]
    name: String,
    /// Expiry time, such as 2027-01-01T00:00:00Z; without it, the key does not expire.
    #[arg(long, value_name = "RFC3339", value_parser = super::timestamp)]
    expires: Option<Timestamp>,
    /// Limit of the key, in addition to the plan's.
    #[arg(long, value_name = "N")]
    tokens_per_day: Option<u64>,
    /// Limit of the key, in addition to the plan's.
    #[arg(long, value_name = "N")]
    requests_per_day: Option<u64>,
    /// Model that the key may use; may be repeated. Without it, all models of the plan.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let session = CliSession::open(&args.common).await?;
    let json = args.common.json;
    match args.action {
        Action::Add(add) => add_key(&session, add, json).await?,
        Action::List { user } => {
            let user = session.user(&user).await?;
            for key in all_keys(&*session.store, user.id).await? {
                show(&key, json)?;
            }
        }
        Action::Revoke { key_id } => {
            let by = AuditContext::operator(clock::now());
            let revoked = session.store.revoke_key(&KeyId::from(&*key_id), &by).await?;
            show(&revoked.with_context(|| format!("there is no key `{key_id}`"))?, json)?;
        }
    }
    session.store.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn add_key(session: &CliSession, add: Add, json: bool) -> anyhow::Result<()> {
    let now = clock::now();
    if has_expired(add.expires, now) {
        anyhow::bail!("--expires is in the past");
    }
    let models = model_ids(&session.config.catalog, &add.models)?;
    let name = label(&add.name).with_context(|| "--name")?;
    let user = session.user(&add.user).await?;
    let limits = KeyLimits {
        tokens_per_day: add.tokens_per_day,
        requests_per_day: add.requests_per_day,
        models: (!models.is_empty()).then(|| models.into()),
    };
    let describe = |key: &mut store::NewKey| {
        key.name = name;
        key.expires_at = add.expires;
        key.limits = limits;
    };
    let (plain, key) = session.add_key(&user, describe, now).await?;
    if json {
        let shown = KeyRow::from(&key);
        return print_json(&serde_json::json!({ "key": shown, "api_key": plain.reveal() }));
    }
    println!("{}", KeyRow::from(&key).line());
    println!("API key, shown only once: {}", plain.reveal());
    Ok(())
}

/// Resolves ids and aliases of models to the ids that requests are checked against.
fn model_ids(catalog: &Catalog, names: &[String]) -> anyhow::Result<Vec<Arc<str>>> {
    let id = |name: &String| {
        catalog.id_of(name).cloned().with_context(|| {
            format!(
                "`{name}` is not the id or an alias of a configured model (use --config FILE to name the \
                 configuration that `serve` uses)"
            )
        })
    };
    names.iter().map(id).collect()
}

/// Prints a key on one line; lists are JSON lines.
fn show(key: &Key, json: bool) -> anyhow::Result<()> {
    let shown = KeyRow::from(key);
    if json {
        return print_json(&shown);
    }
    println!("{}", shown.line());
    Ok(())
}
