//! Identities at sign-in providers. The user's row is locked before rows of the user's identities.

use super::dialect::{self, Backend, Connection};
use super::users::{CredentialsRow, change_in, insert, lock};
use super::{audit, one_time_links, registrant, released_addresses, sessions};
use crate::audit::Change;
use crate::external_identities::{
    ExternalIdentities, ExternalIdentity, LinkBasis, Linking, NewIdentity, Unlinking,
};
use crate::sessions::Credentials;
use crate::users::{NewUser, UserChange, UserError};
use crate::{StoreError, encode};
use async_trait::async_trait;
use domain::actor::{Actor, AuditContext};
use domain::id::{UserId, sorted_by_time};
use domain::server_secret::ServerSecret;
use domain::user::{User, UserStatus};
use jiff::Timestamp;
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// An identity as it is stored.
#[derive(sqlx_macros::FromRow)]
struct IdentityRow {
    id: Uuid,
    issuer: String,
    subject: String,
    email: Option<String>,
    linked_at: i64,
    used_at: Option<i64>,
}

#[async_trait]
impl ExternalIdentities for Backend {
    async fn identity_user(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<Credentials>, StoreError> {
        self.read(StoreOp::Sessions, async {
            let row: Option<CredentialsRow> = sqlx::query_as(
                "select
                     users.id, users.email, username, role, status, plan_id, overrides,
                     email_verified_at, version, users.created_at, password_hash
                 from external_identity
                 join users on users.id = external_identity.user_id
                 where issuer = $1 and subject = $2",
            )
            .bind(issuer)
            .bind(subject)
            .fetch_optional(&self.pool)
            .await?;
            row.map(Credentials::try_from).transpose()
        })
        .await
    }

    async fn identities_of(&self, user: UserId) -> Result<Vec<ExternalIdentity>, StoreError> {
        self.read(StoreOp::Sessions, async {
            let rows: Vec<IdentityRow> = sqlx::query_as(
                "select id, issuer, subject, email, linked_at, used_at
                 from external_identity
                 where user_id = $1
                 order by linked_at, id",
            )
            .bind(user.0)
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(ExternalIdentity::try_from).collect()
        })
        .await
    }

    async fn link_identity(
        &self,
        user: UserId,
        identity: &NewIdentity,
        basis: LinkBasis<'_>,
        by: &AuditContext,
    ) -> Result<Linking, StoreError> {
        let linking = self
            .transaction(StoreOp::Sessions, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                link(tx, user, identity, basis, by).await
            })
            .await?;
        if matches!(basis, LinkBasis::UnverifiedEmail(_)) {
            self.handle.publish(Some(user)).await?;
        }
        Ok(linking)
    }

    async fn register_with_identity(
        &self,
        user: &NewUser,
        identity: &NewIdentity,
        secret: &ServerSecret,
        by: &AuditContext,
    ) -> Result<User, UserError> {
        self.transaction(StoreOp::Accounts, async |tx| {
            // All that link an identity wait for each other, so that its owner stays as it was read.
            dialect::lock_change_sequence(tx).await?;
            let added = insert(tx, user).await?;
            // Afterwards, because inserting waits for an account that gives the address up at this moment.
            released_addresses::check(tx, (None, &user.email), secret, by.at).await?;
            audit::append(tx, &Change::of_user(None, &added, false), by).await?;
            if !add(tx, added.id, identity, by.at).await? {
                return Err(UserError::EmailTaken);
            }
            let by = AuditContext { actor: Actor::User(added.id), ..by.clone() };
            audit::append(tx, &Change::of_identity(LINK, added.id, identity), &by).await?;
            Ok(added)
        })
        .await
    }

    async fn unlink_identity(
        &self,
        user: UserId,
        id: Uuid,
        issuer: Option<&str>,
        by: &AuditContext,
    ) -> Result<Unlinking, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            let Some(found) = lock(tx, user).await? else { return Ok(Unlinking::Absent) };
            let identities = all(tx, user).await?;
            let Some(identity) = identities.into_iter().find(|identity| identity.id == id) else {
                return Ok(Unlinking::Absent);
            };
            if found.password_hash.is_none() && issuer == Some(identity.issuer.as_str()) {
                return Ok(Unlinking::OnlyWayIn);
            }
            remove_audited(tx, user, identity, by).await?;
            Ok(Unlinking::Done)
        })
        .await
    }

    async fn record_identity_use(
        &self,
        issuer: &str,
        subject: &str,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            let user: Option<(Uuid, Option<String>)> = sqlx::query_as(
                "update external_identity set used_at = $3
                 where issuer = $1 and subject = $2
                 returning user_id, email",
            )
            .bind(issuer)
            .bind(subject)
            .bind(by.at.as_millisecond())
            .fetch_optional(&mut *tx)
            .await?;
            let Some((user, email)) = user else { return Ok(()) };
            let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
            let identity = NewIdentity { issuer, subject, email };
            let by = AuditContext { actor: Actor::User(UserId(user)), ..by.clone() };
            let change = Change::of_identity(SIGN_IN, UserId(user), &identity);
            audit::append(tx, &change, &by).await
        })
        .await
    }

    async fn use_token(
        &self,
        digest: &[u8; 32],
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(StoreOp::Sessions, async |connection| {
            let done = sqlx::query(
                "insert into used_token (digest, expires_at)
                 values ($1, $2)
                 on conflict (digest) do nothing",
            )
            .bind(digest.to_vec())
            .bind(expires_at.as_millisecond())
            .execute(connection)
            .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }
}

const LINK: &str = "external_identity.link";
const TAKE_OVER: &str = "external_identity.take_over";
const UNLINK: &str = "external_identity.unlink";
const SIGN_IN: &str = "external_identity.sign_in";

/// Links an identity within a transaction that has locked the change sequence.
async fn link(
    tx: &mut Connection,
    user: UserId,
    identity: &NewIdentity,
    basis: LinkBasis<'_>,
    by: &AuditContext,
) -> Result<Linking, StoreError> {
    let Some(found) = lock(tx, user).await? else { return Ok(Linking::Outdated) };
    if !holds(basis, &found.user) {
        return Ok(Linking::Outdated);
    }
    match owner(tx, identity).await? {
        Some(owner) if owner == user => return Ok(Linking::Linked(found, false)),
        Some(_) => return Ok(Linking::Taken),
        None => {}
    }
    let by = AuditContext { actor: Actor::User(user), ..by.clone() };
    let takes_over = matches!(basis, LinkBasis::UnverifiedEmail(_));
    let linked = if takes_over { take_over(tx, &found, &by).await? } else { found };
    if !add(tx, user, identity, by.at).await? {
        if takes_over {
            // Nothing of the take-over may stay without the identity.
            return Err(StoreError::Corrupt("an identity is left".to_owned()));
        }
        return Ok(Linking::HasAnother);
    }
    let action = if takes_over { TAKE_OVER } else { LINK };
    audit::append(tx, &Change::of_identity(action, user, identity), &by).await?;
    Ok(Linking::Linked(linked, true))
}

/// Removes all that the person who registered without proving the address could use to get in, or to call. The
/// address counts as verified afterwards.
async fn take_over(
    tx: &mut Connection,
    found: &Credentials,
    by: &AuditContext,
) -> Result<Credentials, StoreError> {
    registrant::remove_access(tx, found, by).await?;
    let user = found.user.id;
    sessions::end_all(tx, user).await?;
    one_time_links::end_all(tx, user).await?;
    sqlx::query("update users set password_hash = null where id = $1")
        .bind(user.0)
        .execute(&mut *tx)
        .await?;
    let change = UserChange { email_verified_at: Some(by.at), ..UserChange::default() };
    let changed = change_in(tx, user, &change, by).await.map_err(|error| match error {
        UserError::Store(error) => error,
        error => StoreError::Corrupt(error.to_string()),
    })?;
    let user = changed.ok_or(StoreError::Missing("user"))?;
    Ok(Credentials { user, password_hash: None })
}

/// True if an identity may be linked to the user as the user is now.
fn holds(basis: LinkBasis<'_>, user: &User) -> bool {
    let is_verified = user.email_verified_at.is_some();
    user.status == UserStatus::Active
        && match basis {
            LinkBasis::Session => true,
            LinkBasis::VerifiedEmail(email) => user.email == email && is_verified,
            LinkBasis::UnverifiedEmail(email) => {
                user.email == email && !is_verified && !user.role.may_read_all()
            }
        }
}

async fn owner(tx: &mut Connection, identity: &NewIdentity) -> Result<Option<UserId>, StoreError> {
    let owner: Option<Uuid> = sqlx::query_scalar(
        "select user_id from external_identity where issuer = $1 and subject = $2",
    )
    .bind(&identity.issuer)
    .bind(&identity.subject)
    .fetch_optional(tx)
    .await?;
    Ok(owner.map(UserId))
}

async fn all(tx: &mut Connection, user: UserId) -> Result<Vec<IdentityRow>, StoreError> {
    let rows = sqlx::query_as(
        "select id, issuer, subject, email, linked_at, used_at
         from external_identity
         where user_id = $1",
    );
    Ok(rows.bind(user.0).fetch_all(tx).await?)
}

/// Adds the row of an identity. False if a unique index refuses it.
async fn add(
    tx: &mut Connection,
    user: UserId,
    identity: &NewIdentity,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "insert into external_identity (id, user_id, issuer, subject, email, linked_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict do nothing",
    )
    .bind(sorted_by_time())
    .bind(user.0)
    .bind(&identity.issuer)
    .bind(&identity.subject)
    .bind(&identity.email)
    .bind(now.as_millisecond())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes all identities of a user, who is locked; each is audited. False if there was none.
pub(super) async fn remove_all(
    tx: &mut Connection,
    user: UserId,
    by: &AuditContext,
) -> Result<bool, StoreError> {
    let identities = all(tx, user).await?;
    let any = !identities.is_empty();
    for identity in identities {
        remove_audited(tx, user, identity, by).await?;
    }
    Ok(any)
}

/// Deletes all identities of a user who is deleted.
pub(super) async fn erase(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
    sqlx::query("delete from external_identity where user_id = $1")
        .bind(user.0)
        .execute(tx)
        .await?;
    Ok(())
}

async fn remove_audited(
    tx: &mut Connection,
    user: UserId,
    identity: IdentityRow,
    by: &AuditContext,
) -> Result<(), StoreError> {
    sqlx::query("delete from external_identity where id = $1")
        .bind(identity.id)
        .execute(&mut *tx)
        .await?;
    let IdentityRow { issuer, subject, email, .. } = identity;
    let removed = NewIdentity { issuer, subject, email };
    audit::append(tx, &Change::of_identity(UNLINK, user, &removed), by).await
}

/// Deletes used tokens that have expired.
pub(super) async fn prune(tx: &mut Connection, now: i64, most: u32) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from used_token
         where digest in (select digest from used_token where expires_at <= $1 limit $2)",
    )
    .bind(now)
    .bind(i64::from(most))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

impl TryFrom<IdentityRow> for ExternalIdentity {
    type Error = StoreError;

    fn try_from(row: IdentityRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            email: row.email,
            linked_at: encode::instant(row.linked_at)?,
            used_at: row.used_at.map(encode::instant).transpose()?,
        })
    }
}
