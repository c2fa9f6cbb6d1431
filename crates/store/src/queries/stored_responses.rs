//! The owners of responses that upstreams store.

use super::dialect::{Backend, Connection, skip_locked};
use crate::StoreError;
use crate::encode;
use crate::stored_responses::{EXPIRED_BATCH, StoredResponses};
use async_trait::async_trait;
use domain::id::{RequestId, UserId};
use domain::stored_response::StoredResponse;
use jiff::Timestamp;
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// A response as it is stored.
#[derive(sqlx_macros::FromRow)]
struct StoredResponseRow {
    id: String,
    user_id: Uuid,
    upstream: String,
    model: String,
    tokens: i64,
    expires_at: i64,
    unsettled_call: Option<Uuid>,
    cached_token_thousandths: i64,
}

#[async_trait]
impl StoredResponses for Backend {
    /// Three statements that commit by themselves: in one transaction, two calls that delete each other's
    /// expired rows could deadlock.
    async fn record_response(
        &self,
        response: &StoredResponse,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(StoreOp::StoredResponses, async |connection| {
            delete_expired(&mut *connection, &response.id, now).await?;
            let is_ambiguous: bool = sqlx::query_scalar(
                "insert into stored_response (
                     id, user_id, upstream, model, tokens, expires_at, unsettled_call,
                     cached_token_thousandths
                 )
                 values ($1, $2, $3, $4, $5, $6, $7, $8)
                 on conflict (id) do update set
                     tokens = case
                         when excluded.tokens > stored_response.tokens then excluded.tokens
                         else stored_response.tokens
                     end,
                     unsettled_call = excluded.unsettled_call,
                     cached_token_thousandths = excluded.cached_token_thousandths,
                     is_ambiguous = stored_response.is_ambiguous
                         or stored_response.user_id <> excluded.user_id
                         or stored_response.upstream <> excluded.upstream
                 returning is_ambiguous",
            )
            .bind(encode::text(&response.id))
            .bind(response.user.0)
            .bind(&response.upstream)
            .bind(&response.model)
            .bind(encode::integer(response.tokens))
            .bind(response.expires_at.as_millisecond())
            .bind(response.unsettled.map(|call| call.0))
            .bind(i64::from(response.cached_token_fraction.thousandths()))
            .fetch_one(connection)
            .await?;
            Ok(!is_ambiguous)
        })
        .await
    }

    async fn stored_response(
        &self,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<StoredResponse>, StoreError> {
        self.read(StoreOp::StoredResponses, async {
            let row: Option<StoredResponseRow> = sqlx::query_as(
                "select
                     id, user_id, upstream, model, tokens, expires_at, unsettled_call,
                     cached_token_thousandths
                 from stored_response
                 where id = $1 and expires_at > $2 and not is_ambiguous",
            )
            .bind(encode::text(id))
            .bind(now.as_millisecond())
            .fetch_optional(&self.pool)
            .await?;
            row.map(StoredResponse::try_from).transpose()
        })
        .await
    }

    async fn claim_response(
        &self,
        id: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(StoreOp::StoredResponses, async |connection| {
            let done = sqlx::query(
                "update stored_response
                 set claimed_until = $3
                 where id = $1 and expires_at > $2 and claimed_until <= $2 and not is_ambiguous",
            )
            .bind(encode::text(id))
            .bind(now.as_millisecond())
            .bind(until.as_millisecond())
            .execute(connection)
            .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn release_response(&self, id: &str) -> Result<(), StoreError> {
        self.write(StoreOp::StoredResponses, async |connection| {
            sqlx::query("update stored_response set claimed_until = 0 where id = $1")
                .bind(encode::text(id))
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }

    async fn delete_response(&self, id: &str) -> Result<(), StoreError> {
        self.write(StoreOp::StoredResponses, async |connection| {
            sqlx::query("delete from stored_response where id = $1")
                .bind(encode::text(id))
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }
}

/// Deletes a batch of expired rows, and the row of `id` if it has expired: it may belong to another user.
async fn delete_expired(
    connection: &mut Connection,
    id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(concat!(
        "delete from stored_response
         where id in (
             select id from stored_response where expires_at <= $1 limit $2",
        skip_locked!(),
        ")"
    ))
    .bind(now.as_millisecond())
    .bind(i64::from(EXPIRED_BATCH))
    .execute(&mut *connection)
    .await?;
    sqlx::query("delete from stored_response where id = $1 and expires_at <= $2")
        .bind(encode::text(id))
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    Ok(())
}

impl TryFrom<StoredResponseRow> for StoredResponse {
    type Error = StoreError;

    fn try_from(row: StoredResponseRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            upstream: row.upstream,
            model: row.model,
            tokens: encode::count(row.tokens)?,
            expires_at: encode::instant(row.expires_at)?,
            unsettled: row.unsettled_call.map(RequestId),
            cached_token_fraction: encode::fraction(row.cached_token_thousandths)?,
        })
    }
}
