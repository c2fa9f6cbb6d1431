//! Where the store is, and what survives there.

use domain::secret::Secret;
use std::path::{Path, PathBuf};

/// Location of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// The file and its folder, which also holds the lock and the generated secret.
    Sqlite {
        path: PathBuf,
        durability: Durability,
    },
    Postgres(PostgresServer),
}

/// A Postgres server, as `DATABASE_URL` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresServer {
    /// Contains the password; its `sslmode` is the effective one.
    pub url: Secret,
    /// Host and database, fit to be shown.
    pub place: String,
    /// True if the name of the host is that of a connection pooler.
    pub pooled: bool,
    /// Most connections at a time, without the one that writes the journal.
    pub connections: u32,
}

/// The failure that writes to the journal, and commits to SQLite, survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Writes survive a killed process, but may be lost in a power cut.
    Process,
    /// A power cut too: every write is synced.
    Power,
}

impl Database {
    /// The folder that holds the database file, the lock and the generated secret; `None` where a
    /// server has taken their place.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Sqlite { path, .. } => match path.parent() {
                Some(folder) if folder != Path::new("") => Some(folder),
                _ => Some(Path::new(".")),
            },
            Self::Postgres(_) => None,
        }
    }

    /// The database file where there is none yet, as far as can be determined: a command that was
    /// started in a wrong folder looks for it in a wrong place.
    #[must_use]
    pub fn missing_file(&self) -> Option<PathBuf> {
        match self {
            // A file that cannot be inspected is not missing; opening it returns the error.
            Self::Sqlite { path, .. } if matches!(path.try_exists(), Ok(false)) => {
                Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
            _ => None,
        }
    }
}
