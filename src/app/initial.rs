//! What a store must hold before the first call: the secret's fingerprint, the configured plans, and an
//! admin.

use crate::config::Config;
use crate::upstream::catalog::Catalog;
use anyhow::Context;
use domain::actor::AuditContext;
use domain::key::Pepper;
use domain::password;
use domain::plan::Plan;
use domain::server_secret::ServerSecret;
use domain::user::Role;
use store::sessions::SecretAdoption;
use store::{NewUser, Plans, Sessions, Store, StoreError, UserError, UserFilter, Users};
use system::clock;

/// Writes what the configuration says of plans and of the first admin.
pub(super) async fn apply(config: &Config, store: &dyn Store) -> anyhow::Result<()> {
    let by = AuditContext::gateway(clock::now());
    sync_plans(store, &config.plans, &config.catalog, &by).await?;
    add_first_admin(config, store).await
}

/// Records the secret that this gateway hashes with, and warns where the store was last used with
/// another: changing it is allowed, and ends all keys and sessions.
pub(super) async fn adopt_secret(store: &dyn Sessions, pepper: &Pepper) -> anyhow::Result<()> {
    let secret = ServerSecret::of(pepper);
    let adopted = store.adopt_secret(&secret, clock::now()).await;
    if let SecretAdoption::Changed { live_keys, sessions, second_factors } =
        adopted.context("cannot record the fingerprint of SECRET_KEY")?
    {
        tracing::warn!(
            live_keys,
            sessions,
            second_factors,
            "SECRET_KEY differs from the one that this database was last used with: {live_keys} keys created \
             with the old one no longer work, {sessions} sessions have ended, and {second_factors} users cannot log in \
             until their second factor is removed (`knockx user remove-second-factor`); to restore keys and second \
             factors, start with the previous SECRET_KEY"
        );
    }
    Ok(())
}

/// Writes the configured plans to the store, except those that an admin has changed. Warns about plans
/// that list models no longer configured: calls for those are refused.
pub(super) async fn sync_plans(
    store: &dyn Plans,
    plans: &[Plan],
    catalog: &Catalog,
    by: &AuditContext,
) -> anyhow::Result<()> {
    for kept in store.sync_plans(plans, by).await.context("cannot write the plans")? {
        tracing::info!(plan = %kept, "plan was changed by an admin; its configured values are ignored");
    }
    for plan in store.plans().await.context("cannot read the plans")? {
        let models = plan.limits.models.iter().flat_map(|models| models.iter());
        for model in models.filter(|model| catalog.id_of(model).is_none()) {
            tracing::warn!(plan = %plan.id, %model, "plan lists a model that is not configured");
        }
    }
    Ok(())
}

/// Creates the configured admin if the store has no admin yet. An existing account is not changed: whoever
/// registered it first must not become admin by a setting.
async fn add_first_admin(config: &Config, store: &dyn Users) -> anyhow::Result<()> {
    let Some(admin) = &config.first_admin else { return Ok(()) };
    if has_admin(store).await? {
        return Ok(());
    }
    let by = AuditContext::gateway(clock::now());
    let plan =
        config.plans.first().context("cannot create the first admin: no plan is configured")?;
    let user = NewUser {
        email: admin.email.clone(),
        username: None,
        password_hash: Some(password::hash(admin.password.expose())?),
        email_verified: true,
        role: Role::Admin,
        plan: plan.id.clone(),
        created_at: by.at,
    };
    match store.add_user(&user, &by).await {
        // Another gateway that began at the same time was quicker.
        Err(UserError::EmailTaken) if has_admin(store).await? => Ok(()),
        Err(UserError::EmailTaken) => {
            let email = &admin.email;
            tracing::warn!(
                "ADMIN_EMAIL {email} belongs to a user without the admin role, so no admin exists yet: \
                 `knockx user set-role {email} admin` makes that user one, or name another ADMIN_EMAIL"
            );
            Ok(())
        }
        added => added.map(drop).context("cannot create the first admin"),
    }
}

async fn has_admin(store: &dyn Users) -> Result<bool, StoreError> {
    let admins = UserFilter { role: Some(Role::Admin), ..UserFilter::default() };
    Ok(!store.users(&admins, None, 1).await?.is_empty())
}
