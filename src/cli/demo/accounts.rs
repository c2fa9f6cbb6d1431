//! The demo's users. They are made before the gateway starts, so that its counters begin with the ledger as it is
//! then.

use super::sample_usage::{self, Member, PROFILES};
use crate::config::Config;
use crate::data_dir::DataDir;
use anyhow::Context;
use domain::actor::AuditContext;
use domain::id::{KeyId, PlanId};
use domain::key::{Pepper, PlainKey};
use domain::password;
use domain::user::{Role, User};
use jiff::{Timestamp, ToSpan};
use std::sync::Arc;
use store::{NewKey, NewUser, Store, UserChange, UserFilter};
use system::clock;

pub(super) const CALLER: &str = "demo@knockx.example";
pub(super) const ADMIN: &str = "admin@knockx.example";
const PLAN: &str = "high-max";

/// The two users that a person of the demo is.
pub(super) struct Accounts {
    pub caller: Account,
    pub admin: Account,
}

/// A new password and a new key of a user.
pub(super) struct Account {
    pub password: String,
    pub key: String,
}

/// Writes users, keys and made-up usage to the store in the data directory.
///
/// # Errors
/// If the directory is in use, or the store cannot be written.
pub(super) async fn prepare(config: &Config) -> anyhow::Result<Accounts> {
    let folder = config.database.folder().context("the demo's store has no data directory")?;
    let folder = DataDir::open(folder)?;
    let _lock = folder.lock()?;
    let pepper = Pepper::new(folder.secret_key()?.expose().as_bytes());
    let store = store::open(&config.database).await.context("cannot open the database")?;
    let by = AuditContext::operator(clock::now());
    store.sync_plans(&config.plans, &AuditContext::gateway(by.at)).await?;
    let setup = Setup { config, store, pepper, by };
    let (passwords, admin_passwords) = tokio::try_join!(new_password(), new_password())?;
    let caller = setup.user(CALLER, None, Role::User, Some(passwords.hash)).await?;
    let admin = setup.user(ADMIN, None, Role::Admin, Some(admin_passwords.hash)).await?;
    let (caller_key, caller_key_id) = setup.key(&caller).await?;
    let (admin_key, _) = setup.key(&admin).await?;
    setup.fill(&caller, caller_key_id).await?;
    setup.store.close().await;
    Ok(Accounts {
        caller: Account { password: passwords.plain, key: caller_key },
        admin: Account { password: admin_passwords.plain, key: admin_key },
    })
}

struct Setup<'a> {
    config: &'a Config,
    store: Arc<dyn Store>,
    pepper: Pepper,
    by: AuditContext,
}

impl Setup<'_> {
    /// The user with this e-mail, created if there is none. An existing one keeps all but the password: what is
    /// printed has to be the one that is valid.
    async fn user(
        &self,
        email: &str,
        profile: Option<&sample_usage::Profile>,
        role: Role,
        password_hash: Option<String>,
    ) -> anyhow::Result<User> {
        if let Some(user) = self.store.user_by_email(email).await? {
            let Some(_) = &password_hash else { return Ok(user) };
            let change = UserChange { password_hash, ..UserChange::default() };
            return Ok(self.store.change_user(user.id, &change, &self.by).await?.unwrap_or(user));
        }
        let user = NewUser {
            email: email.to_owned(),
            username: profile.map(|profile| profile.username.to_owned()),
            password_hash,
            email_verified: true,
            role,
            plan: PlanId::from(profile.map_or(PLAN, |profile| profile.plan)),
            created_at: self.registered_at(),
        };
        Ok(self.store.add_user(&user, &self.by).await?)
    }

    /// Before the first made-up call.
    fn registered_at(&self) -> Timestamp {
        let hours = (24 * (i64::from(sample_usage::DAYS) + 1)).hours();
        self.by.at.checked_sub(hours).unwrap_or(self.by.at)
    }

    /// A new key of `user`, and its id.
    async fn key(&self, user: &User) -> anyhow::Result<(String, KeyId)> {
        let plain = PlainKey::generate()?;
        let key = NewKey::of(&plain, &self.pepper, "demo", self.by.at);
        self.store.add_key(user.id, &key, &self.by).await?;
        Ok((plain.reveal().to_owned(), plain.id()))
    }

    /// True if every user is one of the demo's. Made-up usage must not get into the books of anyone else.
    async fn has_only_demo_users(&self) -> anyhow::Result<bool> {
        let most = u32::try_from(PROFILES.len() + 2)?;
        let users = self.store.users(&UserFilter::default(), None, most).await?;
        let is_of_demo = |user: &User| {
            user.email == ADMIN || PROFILES.iter().any(|profile| user.email == profile.email)
        };
        Ok(users.iter().all(is_of_demo))
    }

    /// Writes the made-up usage in one batch, unless the store has it already or has other users.
    async fn fill(&self, caller: &User, caller_key: KeyId) -> anyhow::Result<()> {
        if !self.has_only_demo_users().await? {
            return Ok(());
        }
        let mut members = Vec::new();
        for profile in &PROFILES {
            if profile.email == CALLER {
                let key = caller_key.clone();
                members.push(Member { profile, user: caller.id, key });
                continue;
            }
            let user = self.user(profile.email, Some(profile), Role::User, None).await?;
            // The batch is written as a whole, so one call of one user stands for all.
            if !self.store.last_used(user.id).await?.is_empty() {
                return Ok(());
            }
            let (_, key) = self.key(&user).await?;
            members.push(Member { profile, user: user.id, key });
        }
        let Config { plans, catalog, .. } = self.config;
        let entries = sample_usage::entries(&members, plans, catalog, self.by.at);
        self.store.write_batch(&entries, None).await.context("cannot write the made-up usage")
    }
}

struct NewPassword {
    plain: String,
    hash: String,
}

/// A new password. It is hashed on a thread of its own, which takes some tens of milliseconds.
async fn new_password() -> anyhow::Result<NewPassword> {
    let plain = format!("demo-{}", PlainKey::generate()?.id());
    let text = plain.clone();
    let hash = tokio::task::spawn_blocking(move || password::hash(&text)).await??;
    Ok(NewPassword { plain, hash })
}
