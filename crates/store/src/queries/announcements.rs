//! Announcements.

use super::audit;
use super::dialect::{Backend, Connection, Driver, for_update};
use crate::StoreError;
use crate::announcements::{Announcement, AnnouncementChange, AnnouncementError};
use crate::announcements::{Announcements, SHOWN};
use crate::audit::Change;
use crate::encode;
use async_trait::async_trait;
use domain::actor::AuditContext;
use jiff::Timestamp;
use sqlx::QueryBuilder;
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// An announcement as it is stored.
#[derive(sqlx_macros::FromRow)]
struct AnnouncementRow {
    id: Uuid,
    text: String,
    level: String,
    starts_at: i64,
    ends_at: Option<i64>,
    created_by: String,
    created_at: i64,
}

#[async_trait]
impl Announcements for Backend {
    async fn add_announcement(
        &self,
        announcement: &Announcement,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        self.transaction(StoreOp::Accounts, async |tx| {
            if insert(tx, announcement).await? {
                let change = Change::of_announcement(None, Some(announcement));
                audit::append(tx, &change, by).await?;
            }
            Ok(())
        })
        .await
    }

    async fn change_announcement(
        &self,
        id: Uuid,
        change: &AnnouncementChange,
        by: &AuditContext,
    ) -> Result<Option<Announcement>, AnnouncementError> {
        self.transaction(StoreOp::Accounts, async |tx| {
            let Some(before) = lock(tx, id).await? else { return Ok(None) };
            let after = change.applied_to(before.clone());
            if !after.ends_after_start() {
                return Err(AnnouncementError::EndsBeforeStart);
            }
            update(tx, &after).await?;
            let change = Change::of_announcement(Some(&before), Some(&after));
            audit::append(tx, &change, by).await?;
            Ok(Some(after))
        })
        .await
    }

    async fn delete_announcement(&self, id: Uuid, by: &AuditContext) -> Result<bool, StoreError> {
        self.transaction(StoreOp::Accounts, async |tx| {
            let Some(before) = lock(tx, id).await? else { return Ok(false) };
            sqlx::query("delete from announcement where id = $1")
                .bind(id)
                .execute(&mut *tx)
                .await?;
            audit::append(tx, &Change::of_announcement(Some(&before), None), by).await?;
            Ok(true)
        })
        .await
    }

    async fn announcements(
        &self,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Announcement>, StoreError> {
        self.read(StoreOp::Accounts, async {
            let mut query = QueryBuilder::<Driver>::new(
                "select id, text, level, starts_at, ends_at, created_by, created_at
                 from announcement
                 where true",
            );
            if let Some(before) = before {
                query.push(" and id < ").push_bind(before);
            }
            query.push(" order by id desc limit ").push_bind(i64::from(limit));
            let rows: Vec<AnnouncementRow> = query.build_query_as().fetch_all(&self.pool).await?;
            rows.into_iter().map(Announcement::try_from).collect()
        })
        .await
    }

    async fn current_announcements(&self, now: Timestamp) -> Result<Vec<Announcement>, StoreError> {
        self.read(StoreOp::Accounts, async {
            let rows: Vec<AnnouncementRow> = sqlx::query_as(
                "select id, text, level, starts_at, ends_at, created_by, created_at
                 from announcement
                 where starts_at <= $1 and (ends_at is null or ends_at > $1)
                 order by starts_at desc, id desc
                 limit $2",
            )
            .bind(now.as_millisecond())
            .bind(i64::from(SHOWN))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(Announcement::try_from).collect()
        })
        .await
    }
}

/// Adds the announcement; false if there is one with this id.
async fn insert(tx: &mut Connection, announcement: &Announcement) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "insert into announcement (id, text, level, starts_at, ends_at, created_by, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (id) do nothing",
    )
    .bind(announcement.id)
    .bind(encode::text(&announcement.text))
    .bind(announcement.level.as_str())
    .bind(announcement.starts_at.as_millisecond())
    .bind(announcement.ends_at.map(Timestamp::as_millisecond))
    .bind(&announcement.created_by)
    .bind(announcement.created_at.as_millisecond())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

async fn lock(tx: &mut Connection, id: Uuid) -> Result<Option<Announcement>, StoreError> {
    let row: Option<AnnouncementRow> = sqlx::query_as(concat!(
        "select id, text, level, starts_at, ends_at, created_by, created_at
         from announcement
         where id = $1",
        for_update!()
    ))
    .bind(id)
    .fetch_optional(tx)
    .await?;
    row.map(Announcement::try_from).transpose()
}

async fn update(tx: &mut Connection, announcement: &Announcement) -> Result<(), StoreError> {
    sqlx::query(
        "update announcement set text = $2, level = $3, starts_at = $4, ends_at = $5
         where id = $1",
    )
    .bind(announcement.id)
    .bind(encode::text(&announcement.text))
    .bind(announcement.level.as_str())
    .bind(announcement.starts_at.as_millisecond())
    .bind(announcement.ends_at.map(Timestamp::as_millisecond))
    .execute(tx)
    .await?;
    Ok(())
}

impl TryFrom<AnnouncementRow> for Announcement {
    type Error = StoreError;

    fn try_from(row: AnnouncementRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            text: row.text,
            level: encode::level(&row.level)?,
            starts_at: encode::instant(row.starts_at)?,
            ends_at: row.ends_at.map(encode::instant).transpose()?,
            created_by: row.created_by,
            created_at: encode::instant(row.created_at)?,
        })
    }
}
