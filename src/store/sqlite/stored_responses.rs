//! The owners of responses that upstreams store.

use super::SqliteStore;
use crate::account::id::UserId;
use crate::account::stored_response::StoredResponse;
use crate::store::StoreError;
use crate::store::columns;
use crate::store::stored_responses::{EXPIRED_BATCH, StoredResponses};
use async_trait::async_trait;
use jiff::Timestamp;

/// A response as it is stored.
#[derive(sqlx::FromRow)]
struct StoredResponseRow {
    id: String,
    user_id: Vec<u8>,
    upstream: String,
    model: String,
    tokens: i64,
    expires_at: i64,
    unsettled_call: Option<Vec<u8>>,
}

#[async_trait]
impl StoredResponses for SqliteStore {
    async fn record_response(
        &self,
        reply: &StoredResponse,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut turn = self.writer.turn().await?;
        let mut tx = turn.begin().await?;
        sqlx::query(
            "delete from stored_response
             where id in (select id from stored_response where expires_at <= ?1 limit ?2)
                or (id = ?3 and expires_at <= ?1)",
        )
        .bind(now.as_millisecond())
        .bind(EXPIRED_BATCH)
        .bind(&reply.id)
        .execute(&mut *tx)
        .await?;
        let is_ambiguous: bool = sqlx::query_scalar(
            "insert into stored_response (
                 id, user_id, upstream, model, tokens, expires_at, unsettled_call
             )
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             on conflict (id) do update set
                 tokens = max(tokens, excluded.tokens),
                 unsettled_call = excluded.unsettled_call,
                 is_ambiguous = is_ambiguous
                     or user_id <> excluded.user_id or upstream <> excluded.upstream
             returning is_ambiguous",
        )
        .bind(&reply.id)
        .bind(columns::blob(reply.user.0))
        .bind(&reply.upstream)
        .bind(&reply.model)
        .bind(columns::integer(reply.tokens))
        .bind(reply.expires_at.as_millisecond())
        .bind(reply.unsettled.map(|call| columns::blob(call.0)))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
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
             where id = ?1 and expires_at > ?2 and not is_ambiguous",
        )
        .bind(id)
        .bind(now.as_millisecond())
        .fetch_optional(&self.readers)
        .await?;
        row.map(StoredResponse::try_from).transpose()
    }

    async fn claim_response(
        &self,
        id: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut turn = self.writer.turn().await?;
        let claimed = sqlx::query(
            "update stored_response
             set claimed_until = ?3
             where id = ?1 and expires_at > ?2 and claimed_until <= ?2 and not is_ambiguous",
        )
        .bind(id)
        .bind(now.as_millisecond())
        .bind(until.as_millisecond())
        .execute(&mut *turn)
        .await?;
        Ok(claimed.rows_affected() > 0)
    }

    async fn release_response(&self, id: &str) -> Result<(), StoreError> {
        let mut turn = self.writer.turn().await?;
        sqlx::query("update stored_response set claimed_until = 0 where id = ?1")
            .bind(id)
            .execute(&mut *turn)
            .await?;
        Ok(())
    }

    async fn delete_response(&self, id: &str) -> Result<(), StoreError> {
        let mut turn = self.writer.turn().await?;
        sqlx::query("delete from stored_response where id = ?1")
            .bind(id)
            .execute(&mut *turn)
            .await?;
        Ok(())
    }
}

impl TryFrom<StoredResponseRow> for StoredResponse {
    type Error = StoreError;

    fn try_from(row: StoredResponseRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            user: UserId(columns::uuid(&row.user_id)?),
            upstream: row.upstream,
            model: row.model,
            tokens: columns::count(row.tokens)?,
            expires_at: columns::instant(row.expires_at)?,
            unsettled: row.unsettled_call.as_deref().map(columns::request_id).transpose()?,
        })
    }
}
