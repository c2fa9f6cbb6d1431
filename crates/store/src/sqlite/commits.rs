//! Detects commits to the file, by any process, without a query.
//!
//! In WAL mode the first bytes of the file `-shm` change with every commit, before it returns: the header of
//! the index, with a count of the changes. Only whether they differ matters here. They are read from the
//! same page cache that SQLite has mapped.
//!
//! The last connection that closes deletes the file, and the next one makes another. A connection that stays open
//! for as long as the store prevents that, so that nothing but the header must be read for each call. It does so by
//! its lock on the database, which POSIX would release if this process closed any other descriptor of that file.

use crate::StoreError;
use crate::callers::CommitStamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use system::private_files;
use tokio::sync::Mutex;

#[derive(Debug)]
pub(super) struct Commits {
    /// Only keeps the file in place; `None` once closed. Declared first, so that it is dropped before `shared`: closing
    /// that file releases SQLite's locks on it.
    keeper: Mutex<Option<SqliteConnection>>,
    shared: File,
}

impl Commits {
    /// Commits to the database at `path`, which is in WAL mode.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(super) async fn of(
        path: &Path,
        options: &SqliteConnectOptions,
    ) -> Result<Self, StoreError> {
        let mut keeper = options.connect().await?;
        // A connection opens the log and its index with its first read.
        keeper.execute("select count(*) from sqlite_master").await?;
        let mut shared = path.as_os_str().to_owned();
        shared.push("-shm");
        let shared = PathBuf::from(shared);
        let opened = private_files::read(&shared);
        let file = opened.map_err(|e| {
            StoreError::Unavailable(format!("{} cannot be opened: {e}", shared.display()))
        })?;
        Ok(Self { keeper: Mutex::new(Some(keeper)), shared: file })
    }

    pub(super) fn stamp(&self) -> CommitStamp {
        let mut header = [0; 48];
        match self.shared.read_exact_at(&mut header, 0) {
            Ok(()) => CommitStamp::At(header),
            Err(_) => CommitStamp::Unknown,
        }
    }

    /// Closes the connection. Stamps must not be used afterwards.
    pub(super) async fn close(&self) {
        if let Some(keeper) = self.keeper.lock().await.take() {
            let _ = keeper.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Durability;
    use crate::sqlite::connect_options;

    #[tokio::test]
    async fn stamps_change_although_all_other_connections_close_between_commits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("knockx.db");
        let options = connect_options(&path, Durability::Process);
        let commits = Commits::of(&path, &options).await.unwrap();
        let mut stamps = vec![commits.stamp()];
        for sql in ["create table t (n)", "insert into t values (1)", "delete from t"] {
            let mut other = options.connect().await.unwrap();
            other.execute(sql).await.unwrap();
            other.close().await.unwrap();
            assert!(matches!(commits.stamp(), CommitStamp::At(_)));
            assert!(!stamps.contains(&commits.stamp()), "{sql}");
            stamps.push(commits.stamp());
        }
        commits.close().await;
    }
}
