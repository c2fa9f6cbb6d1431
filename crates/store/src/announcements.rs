//! Announcements: lines of plain text that are shown to all callers for a time.

use super::StoreError;
use async_trait::async_trait;
use domain::actor::AuditContext;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest text, in characters.
pub const MAX_CHARACTERS: usize = 500;
/// Most announcements that are shown at the same time: the latest ones.
pub const SHOWN: u32 = 20;

/// Reading and changing announcements. Every change is audited (`announcement.add`, `announcement.change`,
/// `announcement.delete`, on `announcement:ID`).
#[async_trait]
pub trait Announcements: Send + Sync + 'static {
    /// Adds an announcement. Adding one with the same id again changes nothing.
    async fn add_announcement(
        &self,
        announcement: &Announcement,
        by: &AuditContext,
    ) -> Result<(), StoreError>;

    /// Changes an announcement; `None` when there is none with this id.
    ///
    /// # Errors
    /// [`AnnouncementError::EndsBeforeStart`] if it would end before it begins.
    async fn change_announcement(
        &self,
        id: Uuid,
        change: &AnnouncementChange,
        by: &AuditContext,
    ) -> Result<Option<Announcement>, AnnouncementError>;

    /// Deletes an announcement; false when there is none with this id.
    async fn delete_announcement(&self, id: Uuid, by: &AuditContext) -> Result<bool, StoreError>;

    /// At most `limit` announcements older than `before`, the newest first.
    async fn announcements(
        &self,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Announcement>, StoreError>;

    /// The [`SHOWN`] latest announcements that have begun and not ended at `now`, the latest first.
    async fn current_announcements(&self, now: Timestamp) -> Result<Vec<Announcement>, StoreError>;
}

/// A line that is shown to all callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// A `UUIDv7`: sorted by the time at which it was made.
    pub id: Uuid,
    /// Plain text.
    pub text: String,
    pub level: Level,
    pub starts_at: Timestamp,
    /// `None` = until it is deleted.
    pub ends_at: Option<Timestamp>,
    /// The actor: `user:ID` or `operator`.
    pub created_by: String,
    pub created_at: Timestamp,
}

/// Importance of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
}

/// New values; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct AnnouncementChange {
    pub text: Option<String>,
    pub level: Option<Level>,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Option<Timestamp>>,
}

/// The reason why an announcement was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AnnouncementError {
    #[error("an announcement must end after it begins")]
    EndsBeforeStart,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Announcement {
    /// True unless it ends before it begins, or as it begins.
    #[must_use]
    pub fn ends_after_start(&self) -> bool {
        self.ends_at.is_none_or(|end| end > self.starts_at)
    }
}

impl Level {
    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
        }
    }
}

impl AnnouncementChange {
    /// The announcement with these changes.
    #[must_use]
    pub fn applied_to(&self, announcement: Announcement) -> Announcement {
        Announcement {
            text: self.text.clone().unwrap_or(announcement.text),
            level: self.level.unwrap_or(announcement.level),
            starts_at: self.starts_at.unwrap_or(announcement.starts_at),
            ends_at: self.ends_at.unwrap_or(announcement.ends_at),
            ..announcement
        }
    }
}
