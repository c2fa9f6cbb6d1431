//! Deletes users.

use super::dialect::{self, Backend, Connection, next_change};
use super::{audit, external_identities, one_time_links, released_addresses};
use super::{second_factors, sessions, users};
use crate::StoreError;
use crate::audit::Change;
use crate::erasure::{Erased, Erasure, SECOND_VISIT_DAYS, VISIT_BATCH};
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::UserId;
use domain::server_secret::ServerSecret;
use domain::user::{Role, UserStatus, erased_email};
use jiff::{SignedDuration, Timestamp};
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// A deleted user with ledger rows that are still to be cleared.
type DueVisit = (Uuid, i64, i64, i64);

#[async_trait]
impl Erasure for Backend {
    async fn erase_user(
        &self,
        user: UserId,
        secret: &ServerSecret,
        by: &AuditContext,
    ) -> Result<Erased, StoreError> {
        let erased = self
            .transaction(StoreOp::Accounts, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                let found = users::lock(tx, user).await?.map(|found| found.user);
                match found {
                    Some(found) if found.status != UserStatus::Deleted => {
                        if users::is_last_admin(tx, &found).await? {
                            return Ok(Erased::LastAdmin);
                        }
                        released_addresses::release(tx, &found, secret, by.at).await?;
                        erase(tx, user, by).await?;
                        Ok(Erased::Done)
                    }
                    _ => Ok::<_, StoreError>(Erased::Absent),
                }
            })
            .await?;
        // Also if it was deleted before: publishing may be what failed then.
        self.handle.publish(Some(user)).await?;
        Ok(erased)
    }
}

async fn erase(tx: &mut Connection, user: UserId, by: &AuditContext) -> Result<(), StoreError> {
    redact_audit(tx, user).await?;
    sessions::end_all(tx, user).await?;
    one_time_links::end_all(tx, user).await?;
    second_factors::remove(tx, user).await?;
    external_identities::erase(tx, user).await?;
    let now = by.at.as_millisecond();
    for statement in [
        "update api_key set
             name = 'deleted',
             revoked_at = coalesce(revoked_at, $2)
         where user_id = $1",
        "update upgrade set
             status = 'superseded',
             decided_at = $2
         where user_id = $1
           and status = 'pending'",
        "insert into erasure (user_id, erased_at, due_at) values ($1, $2, $2)",
    ] {
        sqlx::query(statement).bind(user.0).bind(now).execute(&mut *tx).await?;
    }
    sqlx::query("delete from stored_response where user_id = $1")
        .bind(user.0)
        .execute(&mut *tx)
        .await?;
    erase_row(tx, user).await?;
    audit::append(tx, &Change::of_deleted_user(user), by).await?;
    visit(tx, (user.0, now, now, -1)).await?;
    Ok(())
}

async fn erase_row(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
    sqlx::query(concat!(
        next_change!(),
        "update users set
             email = $2,
             username = null,
             password_hash = null,
             role = $3,
             status = $4,
             overrides = null,
             email_verified_at = null,
             version = version + 1,
             change_seq = number.last
         from number
         where id = $1",
    ))
    .bind(user.0)
    .bind(erased_email(user))
    .bind(Role::User.as_str())
    .bind(UserStatus::Deleted.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes the values of audit entries about the user and the user's keys, which have names. What was done,
/// when and by whom stays.
async fn redact_audit(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
    let keys: Vec<String> = sqlx::query_scalar("select id from api_key where user_id = $1")
        .bind(user.0)
        .fetch_all(&mut *tx)
        .await?;
    let subjects = keys.iter().map(|key| format!("key:{key}"));
    for subject in subjects.chain([format!("user:{user}")]) {
        sqlx::query("update audit set before = null, after = null where subject = $1")
            .bind(subject)
            .execute(&mut *tx)
            .await?;
    }
    // Keys that were pruned, which the user added or changed.
    sqlx::query(
        "update audit set before = null, after = null
         where actor = $1
           and subject like 'key:%'
           and exists (select 1 from users where id = $2 and role <> 'admin')",
    )
    .bind(format!("user:{user}"))
    .bind(user.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Visits ledger rows of one deleted user, if any are due. Returns a number above 0 if there was one.
pub(super) async fn visit_due(tx: &mut Connection, now: Timestamp) -> Result<u64, StoreError> {
    let due: Option<DueVisit> = sqlx::query_as(
        "select user_id, erased_at, due_at, visited_until
         from erasure
         where due_at <= $1
         order by due_at
         limit 1",
    )
    .bind(now.as_millisecond())
    .fetch_optional(&mut *tx)
    .await?;
    match due {
        Some(due) => visit(tx, due).await.map(|rows| rows.max(1)),
        None => Ok(0),
    }
}

/// Deletes the request ids of the next [`VISIT_BATCH`] rows. Returns their number.
async fn visit(
    tx: &mut Connection,
    (user, erased_at, due_at, visited_until): DueVisit,
) -> Result<u64, StoreError> {
    let (rows, until): (i64, Option<i64>) = sqlx::query_as(
        "select count(*), max(admitted_at)
         from (
             select admitted_at
             from usage_event
             where user_id = $1 and admitted_at > $2
             order by admitted_at
             limit $3
         ) as next_rows",
    )
    .bind(user)
    .bind(visited_until)
    .bind(i64::from(VISIT_BATCH))
    .fetch_one(&mut *tx)
    .await?;
    let until = until.unwrap_or(visited_until);
    sqlx::query(
        "update usage_event set client_request_id = null
         where user_id = $1
           and admitted_at > $2
           and admitted_at <= $3
           and client_request_id is not null",
    )
    .bind(user)
    .bind(visited_until)
    .bind(until)
    .execute(&mut *tx)
    .await?;
    let second = erased_at + SignedDuration::from_hours(24 * SECOND_VISIT_DAYS).as_secs() * 1000;
    if rows >= i64::from(VISIT_BATCH) {
        reschedule(tx, user, (due_at, until)).await?;
    } else if due_at < second {
        reschedule(tx, user, (second, -1)).await?;
    } else {
        sqlx::query("delete from erasure where user_id = $1").bind(user).execute(tx).await?;
    }
    Ok(rows.unsigned_abs())
}

async fn reschedule(
    tx: &mut Connection,
    user: Uuid,
    (due_at, visited_until): (i64, i64),
) -> Result<(), StoreError> {
    sqlx::query("update erasure set due_at = $2, visited_until = $3 where user_id = $1")
        .bind(user)
        .bind(due_at)
        .bind(visited_until)
        .execute(tx)
        .await?;
    Ok(())
}
