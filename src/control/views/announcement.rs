//! An announcement, as callers and admins see it.

use jiff::Timestamp;
use serde::Serialize;
use store::announcements::{Announcement, Level};
use utoipa::ToSchema;
use uuid::Uuid;

/// An announcement that is shown now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AnnouncementView {
    pub id: Uuid,
    /// Plain text: to be escaped where it is shown.
    #[schema(example = "Maintenance on Sunday, 02:00 to 03:00 UTC.")]
    pub text: String,
    #[schema(value_type = String, pattern = "^(info|warning)$", example = "info")]
    pub level: Level,
    pub starts_at: Timestamp,
    /// `null` if it is shown until it is deleted.
    #[schema(required)]
    pub ends_at: Option<Timestamp>,
}

/// An announcement with its author.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AnnouncementInFull {
    #[serde(flatten)]
    pub announcement: AnnouncementView,
    /// `user:ID` or `operator`.
    #[schema(example = "operator")]
    pub created_by: String,
    pub created_at: Timestamp,
}

impl From<Announcement> for AnnouncementView {
    fn from(announcement: Announcement) -> Self {
        let Announcement { id, text, level, starts_at, ends_at, .. } = announcement;
        Self { id, text, level, starts_at, ends_at }
    }
}

impl From<Announcement> for AnnouncementInFull {
    fn from(announcement: Announcement) -> Self {
        Self {
            created_by: announcement.created_by.clone(),
            created_at: announcement.created_at,
            announcement: announcement.into(),
        }
    }
}
