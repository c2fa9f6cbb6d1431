//! The audit log.

use super::SqliteStore;
use crate::account::by::By;
use crate::account::id;
use crate::store::StoreError;
use crate::store::audit::{Audit, AuditEntry, AuditFilter, Change};
use crate::store::columns;
use async_trait::async_trait;
use sqlx::{QueryBuilder, SqliteConnection};
use uuid::Uuid;

/// An entry as it is stored.
#[derive(sqlx::FromRow)]
struct EntryRow {
    id: Vec<u8>,
    at: i64,
    actor: String,
    action: String,
    subject: String,
    before: Option<String>,
    after: Option<String>,
    request: Option<String>,
}

#[async_trait]
impl Audit for SqliteStore {
    async fn note(&self, change: &Change, by: &By) -> Result<(), StoreError> {
        let mut turn = self.writer.turn().await?;
        let mut tx = turn.begin().await?;
        write(&mut tx, change, by).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        // Only the conditions that hold, so that each has its index.
        let mut query = QueryBuilder::new(
            "select id, at, actor, action, subject, before, after, request from audit where true",
        );
        if let Some(actor) = &filter.actor {
            query.push(" and actor = ").push_bind(actor);
        }
        if let Some(subject) = &filter.subject {
            query.push(" and subject = ").push_bind(subject);
        }
        if let Some(before) = before {
            query.push(" and id < ").push_bind(columns::blob(before));
        }
        query.push(" order by id desc limit ").push_bind(limit);
        let rows: Vec<EntryRow> = query.build_query_as().fetch_all(&self.readers).await?;
        rows.into_iter().map(AuditEntry::try_from).collect()
    }
}

/// Adds the entry of a change to the transaction that makes it; none when nothing has changed.
pub(super) async fn write(
    tx: &mut SqliteConnection,
    change: &Change,
    by: &By,
) -> Result<(), StoreError> {
    if change.is_none() {
        return Ok(());
    }
    sqlx::query(
        "insert into audit (id, at, actor, action, subject, before, after, request)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(columns::blob(id::sorted_by_time()))
    .bind(by.at.as_millisecond())
    .bind(by.actor.to_string())
    .bind(change.action)
    .bind(columns::text(&change.subject))
    .bind(columns::json_text(change.before.as_ref()))
    .bind(columns::json_text(change.after.as_ref()))
    .bind(by.request.as_deref().map(columns::text))
    .execute(tx)
    .await?;
    Ok(())
}

impl TryFrom<EntryRow> for AuditEntry {
    type Error = StoreError;

    fn try_from(row: EntryRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: columns::uuid(&row.id)?,
            at: columns::instant(row.at)?,
            actor: row.actor,
            action: row.action,
            subject: row.subject,
            before: columns::json(row.before.as_deref())?,
            after: columns::json(row.after.as_deref())?,
            request: row.request,
        })
    }
}
