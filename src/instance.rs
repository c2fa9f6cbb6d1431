//! The data folder of an embedded instance: its lock, its generated secret, and where it listens.

use crate::upstream::catalog::Secret;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;

/// The folder beside the SQLite file.
#[derive(Debug, Clone)]
pub struct DataFolder {}

/// Held while an instance runs; a second instance cannot take it.
#[derive(Debug)]
pub struct Lock {}

/// A running instance, as it announces itself to the other commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub pid: u32,
    pub public_addr: SocketAddr,
    pub admin_addr: Option<SocketAddr>,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error(
        "another knockx (process {pid}) is using {folder}; stop it, or give this one its own DATABASE_URL"
    )]
    InUse { pid: String, folder: String },
    #[error("cannot use the data folder {folder}: {source}")]
    Io { folder: String, source: std::io::Error },
}

impl DataFolder {
    /// The folder, made when it is not there.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        let _ = folder;
        Ok(Self {})
    }

    /// Takes the lock. It is freed when the process ends, however it ends.
    pub fn lock(&self) -> Result<Lock, FolderError> {
        Ok(Lock {})
    }

    /// The secret kept in the folder (mode 0600), made on first use.
    pub fn secret_key(&self) -> Result<Secret, FolderError> {
        Ok(Secret::new(""))
    }

    /// Tells other commands where this instance listens.
    pub fn announce(&self, instance: &Instance) -> Result<(), FolderError> {
        let _ = instance;
        Ok(())
    }

    /// The instance that holds the lock now, if any.
    pub fn running(&self) -> Option<Instance> {
        None
    }
}
