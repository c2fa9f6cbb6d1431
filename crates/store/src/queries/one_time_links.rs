//! One-time links.
//!
//! A user's row is locked before the rows of the user's links, in every verb, so that verbs cannot deadlock.

use super::dialect::{self, Backend, Connection, for_update};
use super::users::{self, change_in, insert, lock};
use super::{audit, registrant};
use crate::StoreError;
use crate::audit::Change;
use crate::one_time_links::{FirstAdmin, NewLink, OneTimeLinks, PresentedLink, SetupState};
use crate::users::{NewUser, UserChange, UserError};
use async_trait::async_trait;
use domain::actor::{Actor, AuditContext};
use domain::id::{LinkId, UserId};
use domain::one_time_link::{LinkDigest, LinkPurpose};
use domain::user::{User, UserStatus};
use jiff::Timestamp;
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// A link as it is stored.
#[derive(sqlx_macros::FromRow)]
struct LinkRow {
    user_id: Option<Uuid>,
    purpose: String,
    digest: Vec<u8>,
    email: Option<String>,
    expires_at: Option<i64>,
}

#[async_trait]
impl OneTimeLinks for Backend {
    async fn add_link(
        &self,
        user: UserId,
        link: &NewLink,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            let found = lock(tx, user).await?.map(|found| found.user);
            let found =
                found.filter(|user| user.status != UserStatus::Deleted).map(|user| user.email);
            if found.is_none() || found != link.email {
                return Err(StoreError::Missing("user"));
            }
            end_earlier(tx, user, link.purpose).await?;
            add(tx, Some(user), link).await?;
            if link.purpose == LinkPurpose::Invitation {
                audit::append(tx, &Change::of_invitation(link, user), by).await?;
            }
            Ok(())
        })
        .await
    }

    async fn link_user(
        &self,
        link: &PresentedLink,
        now: Timestamp,
    ) -> Result<Option<User>, StoreError> {
        self.read(StoreOp::Sessions, async {
            let row: Option<LinkRow> = sqlx::query_as(
                "select user_id, purpose, digest, email, expires_at
                 from one_time_link
                 where id = $1",
            )
            .bind(link.id.0)
            .fetch_optional(&self.pool)
            .await?;
            let Some(row) = row.filter(|row| row.is_open_to(link, now)) else { return Ok(None) };
            let Some(user) = row.user_id else { return Ok(None) };
            let found = users::find(&self.pool, UserId(user)).await?.map(|found| found.user);
            Ok(found.filter(|user| row.is_of(user)))
        })
        .await
    }

    async fn redeem_link(
        &self,
        link: &PresentedLink,
        change: &UserChange,
        by: &AuditContext,
    ) -> Result<Option<User>, UserError> {
        let changed = self
            .transaction(StoreOp::Sessions, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                redeem(tx, link, change, by).await
            })
            .await?;
        if let Some(user) = &changed {
            self.handle.publish(Some(user.id)).await?;
        }
        Ok(changed)
    }

    async fn replace_setup_link(&self, link: &NewLink) -> Result<bool, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            dialect::lock_change_sequence(tx).await?;
            end_setup_links(tx).await?;
            let is_needed = !has_admin(tx).await?;
            if is_needed {
                add(tx, None, link).await?;
            }
            Ok(is_needed)
        })
        .await
    }

    async fn setup_state(&self, link: &PresentedLink) -> Result<SetupState, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| setup_state(tx, link).await).await
    }

    async fn create_first_admin(
        &self,
        link: &PresentedLink,
        user: &NewUser,
        by: &AuditContext,
    ) -> Result<FirstAdmin, UserError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            // Every change of a role waits for this one, so that the answer to "is there an admin" stays true.
            dialect::lock_change_sequence(tx).await?;
            match setup_state(tx, link).await? {
                SetupState::Open => {}
                SetupState::AdminExists => return Ok(FirstAdmin::AdminExists),
                SetupState::InvalidLink => return Ok(FirstAdmin::InvalidLink),
            }
            let added = insert(tx, user).await?;
            end_setup_links(tx).await?;
            audit::append(tx, &Change::of_user(None, &added, false), by).await?;
            Ok(FirstAdmin::Created(added))
        })
        .await
    }
}

impl LinkRow {
    /// True if the presented link is this one, and can be used at `now`.
    fn is_open_to(&self, link: &PresentedLink, now: Timestamp) -> bool {
        let digest = <[u8; 32]>::try_from(self.digest.as_slice()).map(LinkDigest);
        digest.is_ok_and(|digest| digest == link.digest)
            && self.purpose == link.purpose.as_str()
            && self.expires_at.is_none_or(|end| end > now.as_millisecond())
    }

    /// True if the link is for this user as the user is now.
    fn is_of(&self, user: &User) -> bool {
        user.status == UserStatus::Active && self.email.as_deref() == Some(&*user.email)
    }
}

/// Ends all links of a user.
pub(super) async fn end_all(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
    sqlx::query("delete from one_time_link where user_id = $1").bind(user.0).execute(tx).await?;
    Ok(())
}

async fn end_earlier(
    tx: &mut Connection,
    user: UserId,
    purpose: LinkPurpose,
) -> Result<(), StoreError> {
    sqlx::query("delete from one_time_link where user_id = $1 and purpose = $2")
        .bind(user.0)
        .bind(purpose.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

async fn end_setup_links(tx: &mut Connection) -> Result<(), StoreError> {
    sqlx::query("delete from one_time_link where user_id is null").execute(tx).await?;
    Ok(())
}

async fn add(tx: &mut Connection, user: Option<UserId>, link: &NewLink) -> Result<(), StoreError> {
    sqlx::query(
        "insert into one_time_link (id, user_id, purpose, digest, email, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(link.id.0)
    .bind(user.map(|user| user.0))
    .bind(link.purpose.as_str())
    .bind(link.digest.0.to_vec())
    .bind(&link.email)
    .bind(link.created_at.as_millisecond())
    .bind(link.expires_at.map(Timestamp::as_millisecond))
    .execute(tx)
    .await?;
    Ok(())
}

/// A use within a transaction that has locked the change sequence.
async fn redeem(
    tx: &mut Connection,
    link: &PresentedLink,
    change: &UserChange,
    by: &AuditContext,
) -> Result<Option<User>, UserError> {
    let owner: Option<Option<Uuid>> =
        sqlx::query_scalar("select user_id from one_time_link where id = $1")
            .bind(link.id.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::from)?;
    let Some(user) = owner.flatten().map(UserId) else { return Ok(None) };
    let Some(found) = lock(&mut *tx, user).await? else { return Ok(None) };
    let row = locked(&mut *tx, link.id).await?;
    if !row.is_some_and(|row| row.is_open_to(link, by.at) && row.is_of(&found.user)) {
        return Ok(None);
    }
    sqlx::query("delete from one_time_link where id = $1")
        .bind(link.id.0)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::from)?;
    let by = AuditContext { actor: Actor::User(user), ..by.clone() };
    if link.purpose.sets_password() && found.user.email_verified_at.is_none() {
        registrant::remove_access(tx, &found, &by).await?;
    }
    change_in(tx, user, change, &by).await
}

/// The link, locked until the transaction ends.
async fn locked(tx: &mut Connection, id: LinkId) -> Result<Option<LinkRow>, StoreError> {
    let row = sqlx::query_as(concat!(
        "select user_id, purpose, digest, email, expires_at
         from one_time_link
         where id = $1",
        for_update!()
    ));
    Ok(row.bind(id.0).fetch_optional(tx).await?)
}

async fn setup_state(tx: &mut Connection, link: &PresentedLink) -> Result<SetupState, StoreError> {
    let row = locked(&mut *tx, link.id).await?;
    let is_current =
        row.is_some_and(|row| row.user_id.is_none() && row.is_open_to(link, Timestamp::MIN));
    Ok(match (is_current, has_admin(tx).await?) {
        (false, _) => SetupState::InvalidLink,
        (true, true) => SetupState::AdminExists,
        (true, false) => SetupState::Open,
    })
}

async fn has_admin(tx: &mut Connection) -> Result<bool, StoreError> {
    // The condition of the partial index, which is not used without it.
    let exists = sqlx::query_scalar(
        "select exists (select 1 from users where role = 'admin' and role <> 'user')",
    );
    Ok(exists.fetch_one(tx).await?)
}

/// Deletes links that have expired.
pub(super) async fn prune(tx: &mut Connection, now: i64, most: u32) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from one_time_link
         where id in (select id from one_time_link where expires_at <= $1 limit $2)",
    )
    .bind(now)
    .bind(i64::from(most))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
