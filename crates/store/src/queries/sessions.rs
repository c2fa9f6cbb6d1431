//! Log-ins and their sessions.

use super::dialect::{Backend, Connection};
use super::users::{CredentialsRow, UserRow, find, lock};
use super::{second_factors, secret};
use crate::sessions::{
    ConsoleSession, Rotated, Rotation, SessionClient, SessionInfo, Sessions, TokenDigest,
};
use crate::sessions::{Credentials, NewSession, SESSIONS_PER_USER, SecretAdoption};
use crate::{StoreError, encode};
use async_trait::async_trait;
use domain::id::{SessionId, UserId};
use domain::server_secret::{Fingerprint, ServerSecret};
use domain::user::User;
use jiff::Timestamp;
use telemetry::labels::StoreOp;
use uuid::Uuid;

#[async_trait]
impl Sessions for Backend {
    async fn credentials(&self, email: &str) -> Result<Option<Credentials>, StoreError> {
        self.read(StoreOp::Sessions, async {
            let row: Option<CredentialsRow> = sqlx::query_as(
                "select
                     id, email, username, role, status, plan_id, overrides, email_verified_at,
                     version, created_at, password_hash
                 from users
                 where email = $1",
            )
            .bind(email)
            .fetch_optional(&self.pool)
            .await?;
            row.map(Credentials::try_from).transpose()
        })
        .await
    }

    async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        self.read(StoreOp::Sessions, find(&self.pool, user)).await
    }

    async fn rehash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        self.write(StoreOp::Sessions, async |connection| {
            sqlx::query("update users set password_hash = $3 where id = $1 and password_hash = $2")
                .bind(user.0)
                .bind(old)
                .bind(new)
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }

    async fn open_session(&self, session: &NewSession) -> Result<(), StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            let found = lock(tx, session.user).await?;
            if !found.is_some_and(|found| session.is_for(&found)) {
                return Err(StoreError::Missing("user"));
            }
            // It may have been enabled since the password was checked. Enabling locks the user's row as well.
            if !session.has_passed_factor && second_factors::is_enabled(tx, session.user).await? {
                return Err(StoreError::Missing("user"));
            }
            sqlx::query(
                "insert into session
                     (id, user_id, digest, created_at, expires_at, kind, address, user_agent)
                 values ($1, $2, $3, $4, $5, $6, $7, $8)
                 on conflict (id) do nothing",
            )
            .bind(session.id.0)
            .bind(session.user.0)
            .bind(session.digest.to_vec())
            .bind(session.created_at.as_millisecond())
            .bind(session.expires_at.as_millisecond())
            .bind(session.kind.as_str())
            .bind(session.client.address.as_deref())
            .bind(session.client.user_agent.as_deref())
            .execute(&mut *tx)
            .await?;
            end_surplus(tx, session).await
        })
        .await
    }

    async fn session_user(
        &self,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<User>, StoreError> {
        self.read(StoreOp::Sessions, async {
            let row: Option<UserRow> = sqlx::query_as(
                "select
                     users.id, email, username, role, status, plan_id, overrides,
                     email_verified_at, version, users.created_at
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
        })
        .await
    }

    async fn console_session(
        &self,
        session: SessionId,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<ConsoleSession>, StoreError> {
        self.read(StoreOp::Sessions, async {
            let row: Option<ConsoleSessionRow> = sqlx::query_as(
                "select
                     users.id, email, username, role, status, plan_id, overrides,
                     email_verified_at, version, users.created_at,
                     coalesce(seen_at, session.created_at) as seen_at,
                     coalesce(confirmed_at, session.created_at) as confirmed_at
                 from session
                 join users on users.id = session.user_id
                 where session.id = $1
                   and session.digest = $2
                   and session.kind = 'console'
                   and session.expires_at > $3",
            )
            .bind(session.0)
            .bind(digest.to_vec())
            .bind(now.as_millisecond())
            .fetch_optional(&self.pool)
            .await?;
            row.map(ConsoleSession::try_from).transpose()
        })
        .await
    }

    async fn extend_session(
        &self,
        session: SessionId,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(StoreOp::Sessions, async |connection| {
            sqlx::query("update session set seen_at = $2, expires_at = $3 where id = $1")
                .bind(session.0)
                .bind(now.as_millisecond())
                .bind(expires_at.as_millisecond())
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }

    async fn confirm_session(&self, session: SessionId, now: Timestamp) -> Result<(), StoreError> {
        self.write(StoreOp::Sessions, async |connection| {
            sqlx::query("update session set confirmed_at = $2 where id = $1")
                .bind(session.0)
                .bind(now.as_millisecond())
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }

    async fn rotate_session(&self, rotation: &Rotation) -> Result<Rotated, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| {
            if let Some(user) = exchange(tx, rotation).await? {
                let found = find(&mut *tx, user).await?;
                return Ok(found.map_or(Rotated::Unknown, |found| Rotated::Done(found.user)));
            }
            Ok(end_reused(tx, rotation).await?.map_or(Rotated::Unknown, Rotated::Reused))
        })
        .await
    }

    async fn end_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.write(StoreOp::Sessions, async |connection| {
            sqlx::query("delete from session where id = $1")
                .bind(session.0)
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }

    async fn sessions_of(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<SessionInfo>, StoreError> {
        self.read(StoreOp::Sessions, async {
            let rows: Vec<SessionInfoRow> = sqlx::query_as(
                "select
                     id, kind, created_at, coalesce(seen_at, created_at) as seen_at, expires_at,
                     address, user_agent
                 from session
                 where user_id = $1
                   and expires_at > $2
                 order by created_at desc, id desc",
            )
            .bind(user.0)
            .bind(now.as_millisecond())
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(SessionInfo::try_from).collect()
        })
        .await
    }

    async fn end_session_of(&self, user: UserId, session: SessionId) -> Result<bool, StoreError> {
        self.write(StoreOp::Sessions, async |connection| {
            let done = sqlx::query("delete from session where user_id = $1 and id = $2")
                .bind(user.0)
                .bind(session.0)
                .execute(connection)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn end_other_sessions(&self, user: UserId, kept: SessionId) -> Result<u64, StoreError> {
        self.write(StoreOp::Sessions, async |connection| end_others(connection, user, kept).await)
            .await
    }

    async fn adopt_secret(
        &self,
        secret: &ServerSecret,
        now: Timestamp,
    ) -> Result<SecretAdoption, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| secret::adopt(tx, secret, now).await).await
    }

    async fn secret_in_use(
        &self,
        mine: Option<Fingerprint>,
        now: Timestamp,
    ) -> Result<Option<Fingerprint>, StoreError> {
        self.transaction(StoreOp::Sessions, async |tx| secret::in_use(tx, mine, now).await).await
    }
}

#[derive(sqlx_macros::FromRow)]
struct SessionInfoRow {
    id: Uuid,
    kind: String,
    created_at: i64,
    seen_at: i64,
    expires_at: i64,
    address: Option<String>,
    user_agent: Option<String>,
}

impl TryFrom<SessionInfoRow> for SessionInfo {
    type Error = StoreError;

    fn try_from(row: SessionInfoRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: SessionId(row.id),
            kind: encode::session_kind(&row.kind)?,
            created_at: encode::instant(row.created_at)?,
            seen_at: encode::instant(row.seen_at)?,
            expires_at: encode::instant(row.expires_at)?,
            client: SessionClient { address: row.address, user_agent: row.user_agent },
        })
    }
}

#[derive(sqlx_macros::FromRow)]
struct ConsoleSessionRow {
    #[sqlx(flatten)]
    user: UserRow,
    seen_at: i64,
    confirmed_at: i64,
}

impl TryFrom<ConsoleSessionRow> for ConsoleSession {
    type Error = StoreError;

    fn try_from(row: ConsoleSessionRow) -> Result<Self, StoreError> {
        Ok(Self {
            user: row.user.try_into()?,
            seen_at: encode::instant(row.seen_at)?,
            confirmed_at: encode::instant(row.confirmed_at)?,
        })
    }
}

/// Ends the sessions of a user but one. Returns their number.
pub(super) async fn end_others(
    connection: &mut Connection,
    user: UserId,
    kept: SessionId,
) -> Result<u64, StoreError> {
    let done = sqlx::query("delete from session where user_id = $1 and id <> $2")
        .bind(user.0)
        .bind(kept.0)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Ends all sessions of a user.
pub(super) async fn end_all(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
    sqlx::query("delete from session where user_id = $1").bind(user.0).execute(tx).await?;
    Ok(())
}

/// Ends the user's expired sessions, and the oldest beyond [`SESSIONS_PER_USER`].
async fn end_surplus(tx: &mut Connection, newest: &NewSession) -> Result<(), StoreError> {
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
    .bind(i64::from(SESSIONS_PER_USER))
    .execute(tx)
    .await?;
    Ok(())
}

/// The session's user, if the presented token is the current one. A repetition with the same next token,
/// which only the store and its caller know, succeeds too.
async fn exchange(tx: &mut Connection, rotation: &Rotation) -> Result<Option<UserId>, StoreError> {
    let user: Option<Uuid> = sqlx::query_scalar(
        "update session set
             digest = $3,
             expires_at = $5,
             seen_at = $4,
             address = coalesce($6, address),
             user_agent = coalesce($7, user_agent)
         where id = $1
           and kind = 'api'
           and digest in ($2, $3)
           and expires_at > $4
         returning user_id",
    )
    .bind(rotation.session.0)
    .bind(rotation.presented.to_vec())
    .bind(rotation.next.to_vec())
    .bind(rotation.now.as_millisecond())
    .bind(rotation.expires_at.as_millisecond())
    .bind(rotation.client.address.as_deref())
    .bind(rotation.client.user_agent.as_deref())
    .fetch_optional(tx)
    .await?;
    Ok(user.map(UserId))
}

/// Ends the session, and returns its user if it had not expired.
async fn end_reused(
    tx: &mut Connection,
    rotation: &Rotation,
) -> Result<Option<UserId>, StoreError> {
    let user: Option<Uuid> = sqlx::query_scalar(
        "delete from session
         where id = $1
           and kind = 'api'
           and expires_at > $2
         returning user_id",
    )
    .bind(rotation.session.0)
    .bind(rotation.now.as_millisecond())
    .fetch_optional(tx)
    .await?;
    Ok(user.map(UserId))
}
