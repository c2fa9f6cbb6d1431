//! Detects commits to the file, by any process, without a query.
//!
//! In WAL mode the first bytes of the file `-shm` change with every commit, before it returns: the header of
//! the index, with a count of the changes. Only whether they differ matters here. They are read from the
//! same page cache that SQLite has mapped.

use crate::callers::CommitStamp;
use parking_lot::Mutex;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use system::private_files;

#[derive(Debug)]
pub(super) struct Commits {
    path: PathBuf,
    /// `None` before the first read, and after the file was replaced.
    file: Mutex<Option<Arc<File>>>,
}

impl Commits {
    /// Commits to the database at `path`.
    pub(super) fn of(path: &Path) -> Self {
        let mut shared = path.as_os_str().to_owned();
        shared.push("-shm");
        Self { path: PathBuf::from(shared), file: Mutex::default() }
    }

    pub(super) fn stamp(&self) -> CommitStamp {
        let mut header = [0; 48];
        let read = self.file().map(|file| file.read_exact_at(&mut header, 0));
        match read {
            Some(Ok(())) => CommitStamp::At(header),
            _ => CommitStamp::Unknown,
        }
    }

    /// The file, opened again when the last connection has deleted it meanwhile.
    fn file(&self) -> Option<Arc<File>> {
        let mut known = self.file.lock();
        let is_there = |file: &Arc<File>| file.metadata().is_ok_and(|found| found.nlink() > 0);
        if !known.as_ref().is_some_and(is_there) {
            *known = private_files::read(&self.path).ok().map(Arc::new);
        }
        known.clone()
    }
}
