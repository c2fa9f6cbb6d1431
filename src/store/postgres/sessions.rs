//! Log-ins and their sessions.

use super::PostgresStore;
use super::accounts::{CredentialsRow, UserRow, find, lock};
use super::secret;
use crate::account::id::{SessionId, UserId};
use crate::account::server_secret::{Fingerprint, ServerSecret};
use crate::account::user::User;
use crate::store::StoreError;
use crate::store::sessions::{Adopted, Credentials, MOST_SESSIONS, NewSession};
use crate::store::sessions::{Rotated, Rotation, Sessions};
use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

#[async_trait]
impl Sessions for PostgresStore {
    async fn credentials(&self, email: &str) -> Result<Option<Credentials>, StoreError> {
        let row: Option<CredentialsRow> = sqlx::query_as(
            "select
                 id, email, username, role, status, plan_id, overrides, version, created_at,
                 password_hash
             from users
             where email = $1",
        )
        .bind(email)
        .fetch_optional(&self.pool)
        .await?;
        row.map(Credentials::try_from).transpose()
    }

    async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        find(&self.pool, user).await
    }

    async fn rehash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        sqlx::query("update users set password_hash = $3 where id = $1 and password_hash = $2")
            .bind(user.0)
            .bind(old)
            .bind(new)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn open_session(&self, session: &NewSession) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        if !lock(&mut tx, session.user).await?.is_some_and(|found| session.is_for(&found)) {
            return Err(StoreError::Missing("user"));
        }
        sqlx::query(
            "insert into session (id, user_id, digest, created_at, expires_at)
             values ($1, $2, $3, $4, $5)
             on conflict (id) do nothing",
        )
        .bind(session.id.0)
        .bind(session.user.0)
        .bind(session.digest.to_vec())
        .bind(session.created_at.as_millisecond())
        .bind(session.expires_at.as_millisecond())
        .execute(&mut *tx)
        .await?;
        end_surplus(&mut tx, session).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn session_user(
        &self,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<User>, StoreError> {
        let row: Option<UserRow> = sqlx::query_as(
            "select
                 users.id, email, username, role, status, plan_id, overrides, version,
                 users.created_at
             from session
             join users on users.id = session.user_id
             where session.id = $1
               and session.expires_at > $2",
        )
        .bind(session.0)
        .bind(now.as_millisecond())
        .fetch_optional(&self.pool)
        .await?;
        row.map(User::try_from).transpose()
    }

    async fn rotate_session(&self, rotation: &Rotation) -> Result<Rotated, StoreError> {
        let mut tx = self.pool.begin().await?;
        let rotated = match exchange(&mut tx, rotation).await? {
            Some(user) => {
                let found = find(&mut *tx, user).await?;
                found.map_or(Rotated::Unknown, |found| Rotated::Done(found.user))
            }
            None => end_reused(&mut tx, rotation).await?.map_or(Rotated::Unknown, Rotated::Reused),
        };
        tx.commit().await?;
        Ok(rotated)
    }

    async fn end_session(&self, session: SessionId) -> Result<(), StoreError> {
        sqlx::query("delete from session where id = $1")
            .bind(session.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn adopt_secret(
        &self,
        secret: &ServerSecret,
        now: Timestamp,
    ) -> Result<Adopted, StoreError> {
        secret::adopt(self, secret, now).await
    }

    async fn secret_in_use(
        &self,
        mine: Option<Fingerprint>,
        now: Timestamp,
    ) -> Result<Option<Fingerprint>, StoreError> {
        secret::in_use(self, mine, now).await
    }
}

/// Ends all sessions of a user.
pub(super) async fn end_all(tx: &mut PgConnection, user: UserId) -> Result<(), StoreError> {
    sqlx::query("delete from session where user_id = $1").bind(user.0).execute(tx).await?;
    Ok(())
}

/// Ends the user's sessions that have expired, and the oldest beyond what one may have.
async fn end_surplus(tx: &mut PgConnection, newest: &NewSession) -> Result<(), StoreError> {
    sqlx::query(
        "delete from session
         where user_id = $1
           and (expires_at <= $2 or id not in (
               select id
               from session
               where user_id = $1 and expires_at > $2
               order by created_at desc, id desc
               limit $3
           ))",
    )
    .bind(newest.user.0)
    .bind(newest.created_at.as_millisecond())
    .bind(i64::from(MOST_SESSIONS))
    .execute(tx)
    .await?;
    Ok(())
}

/// The session's user, when the token was the current one. An exchange repeated under its next
/// token, which only the store and its caller know, is the same exchange.
async fn exchange(
    tx: &mut PgConnection,
    rotation: &Rotation,
) -> Result<Option<UserId>, StoreError> {
    let user: Option<Uuid> = sqlx::query_scalar(
        "update session set
             digest = $3,
             expires_at = $5
         where id = $1
           and digest in ($2, $3)
           and expires_at > $4
         returning user_id",
    )
    .bind(rotation.session.0)
    .bind(rotation.presented.to_vec())
    .bind(rotation.next.to_vec())
    .bind(rotation.now.as_millisecond())
    .bind(rotation.expires_at.as_millisecond())
    .fetch_optional(tx)
    .await?;
    Ok(user.map(UserId))
}

/// The user of the session that ends here, if it still lived.
async fn end_reused(
    tx: &mut PgConnection,
    rotation: &Rotation,
) -> Result<Option<UserId>, StoreError> {
    let user: Option<Uuid> = sqlx::query_scalar(
        "delete from session
         where id = $1
           and expires_at > $2
         returning user_id",
    )
    .bind(rotation.session.0)
    .bind(rotation.now.as_millisecond())
    .fetch_optional(tx)
    .await?;
    Ok(user.map(UserId))
}
