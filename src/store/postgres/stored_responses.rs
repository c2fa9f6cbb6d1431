//! The owners of responses that upstreams store.

use super::PostgresStore;
use crate::account::id::{RequestId, UserId};
use crate::account::stored_response::StoredResponse;
use crate::store::StoreError;
use crate::store::columns;
use crate::store::stored_responses::{EXPIRED_BATCH, StoredResponses};
use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

/// A response as it is stored.
#[derive(sqlx::FromRow)]
struct StoredResponseRow {
    id: String,
    user_id: Uuid,
    upstream: String,
    model: String,
    tokens: i64,
    expires_at: i64,
    unsettled_call: Option<Uuid>,
}

#[async_trait]
impl StoredResponses for PostgresStore {
    async fn record_response(
        &self,
        reply: &StoredResponse,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        // By itself, and past rows that somebody else takes away: nobody waits for another here.
        sqlx::query(
            "delete from stored_response
             where id in (
                 select id from stored_response where expires_at <= $1 limit $2 for update skip locked
             )",
        )
        .bind(now.as_millisecond())
        .bind(i64::from(EXPIRED_BATCH))
        .execute(&self.pool)
        .await?;
        // Its own id may have been somebody else's once.
        sqlx::query("delete from stored_response where id = $1 and expires_at <= $2")
            .bind(columns::text(&reply.id))
            .bind(now.as_millisecond())
            .execute(&self.pool)
            .await?;
        let is_ambiguous: bool = sqlx::query_scalar(
            "insert into stored_response (
                 id, user_id, upstream, model, tokens, expires_at, unsettled_call
             )
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (id) do update set
                 tokens = greatest(stored_response.tokens, excluded.tokens),
                 unsettled_call = excluded.unsettled_call,
                 is_ambiguous = stored_response.is_ambiguous
                     or stored_response.user_id <> excluded.user_id
                     or stored_response.upstream <> excluded.upstream
             returning is_ambiguous",
        )
        .bind(columns::text(&reply.id))
        .bind(reply.user.0)
        .bind(&reply.upstream)
        .bind(&reply.model)
        .bind(columns::integer(reply.tokens))
        .bind(reply.expires_at.as_millisecond())
        .bind(reply.unsettled.map(|call| call.0))
        .fetch_one(&self.pool)
        .await?;
        Ok(!is_ambiguous)
    }

    async fn stored_response(
        &self,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<StoredResponse>, StoreError> {
        let row: Option<StoredResponseRow> = sqlx::query_as(
            "select id, user_id, upstream, model, tokens, expires_at, unsettled_call
             from stored_response
             where id = $1 and expires_at > $2 and not is_ambiguous",
        )
        .bind(columns::text(id))
        .bind(now.as_millisecond())
        .fetch_optional(&self.pool)
        .await?;
        row.map(StoredResponse::try_from).transpose()
    }

    async fn claim_response(
        &self,
        id: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let claimed = sqlx::query(
            "update stored_response
             set claimed_until = $3
             where id = $1 and expires_at > $2 and claimed_until <= $2 and not is_ambiguous",
        )
        .bind(columns::text(id))
        .bind(now.as_millisecond())
        .bind(until.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(claimed.rows_affected() > 0)
    }

    async fn release_response(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("update stored_response set claimed_until = 0 where id = $1")
            .bind(columns::text(id))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn delete_response(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("delete from stored_response where id = $1")
            .bind(columns::text(id))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

impl TryFrom<StoredResponseRow> for StoredResponse {
    type Error = StoreError;

    fn try_from(row: StoredResponseRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            upstream: row.upstream,
            model: row.model,
            tokens: columns::count(row.tokens)?,
            expires_at: columns::instant(row.expires_at)?,
            unsettled: row.unsettled_call.map(RequestId),
        })
    }
}
