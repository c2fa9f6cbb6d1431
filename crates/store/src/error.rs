//! Errors of the store, and how those of the drivers become them.

use super::keys::LIVE_KEYS;
use super::{postgres, sqlite};
use sqlx::Error;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;
use std::io::ErrorKind;

/// The reason for which a verb of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is busy, full or unreachable; a retry may succeed.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Another instance has acquired the instance lock.
    #[error("another knockx instance has taken over this database")]
    Superseded,
    /// The entry or row itself is invalid; a retry fails again.
    #[error("the store contains unexpected data: {0}")]
    Corrupt(String),
    /// A key, plan or user that the change refers to does not exist.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// The user has [`LIVE_KEYS`] already.
    #[error("a user can have {LIVE_KEYS} live keys at most")]
    TooManyKeys,
}

impl From<Error> for StoreError {
    /// [`StoreError::Corrupt`] only where the entry or row itself is invalid. A store that is damaged, full or
    /// unreachable is [`StoreError::Unavailable`]: no charge may be given up because of it.
    fn from(error: Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code);
        if code.is_some_and(|code| code == postgres::SUPERSEDED) {
            return Self::Superseded;
        }
        let blames_the_data = match &error {
            Error::Database(e) => match e.try_downcast_ref::<SqliteError>() {
                Some(e) => sqlite::blames_the_data(e),
                None => e.code().is_some_and(|code| postgres::blames_the_data(&code)),
            },
            Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. } => true,
            _ => false,
        };
        if blames_the_data {
            Self::Corrupt(error.to_string())
        } else {
            Self::Unavailable(message(&error))
        }
    }
}

pub(super) const IS_READ_ONLY: &str = "this Postgres server is read-only: it is a standby, or \
    default_transaction_read_only is on; name the primary in DATABASE_URL";

/// Returns a one-line message for an error of either driver.
pub(super) fn message(error: &Error) -> String {
    let text = match error {
        Error::Database(e) => match e.try_downcast_ref::<SqliteError>() {
            Some(e) => sqlite_message(e),
            None => postgres_message(&e.code().unwrap_or_default(), e.message()),
        },
        Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
            "the database server refuses connections; is it running, and does DATABASE_URL name its host \
             and port?"
                .to_owned()
        }
        Error::Io(e) => {
            format!("the connection to the database failed ({e}); check the host in DATABASE_URL and the network")
        }
        Error::Tls(e) => format!(
            "cannot establish a TLS connection to the database ({e}); check sslmode and sslrootcert in DATABASE_URL"
        ),
        Error::PoolTimedOut => {
            "timed out waiting for a database connection; the server does not respond, or all connections are in use".to_owned()
        }
        other => other.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Message by SQLSTATE, with the server's own text.
fn postgres_message(code: &str, message: &str) -> String {
    let advice = match code {
        postgres::READ_ONLY => return IS_READ_ONLY.to_owned(),
        "42501" => {
            "grant that privilege to the user in DATABASE_URL, or make it the owner of the database \
             (`alter database NAME owner to USER`)"
        }
        "28P01" | "28000" => {
            "check user and password in DATABASE_URL, and the server's pg_hba.conf"
        }
        "3D000" => "create it (`createdb NAME`), or name another in DATABASE_URL",
        "53300" => "raise the server's max_connections, or lower `database.connections`",
        "53100" => "free or add disk space on the server",
        "57P03" => "the server is starting or stopping; retry in a moment",
        "57P01" | "57P02" => "the server was stopped or closed the connection; retry in a moment",
        "3F000" => "create a schema for the user in DATABASE_URL (`create schema public`)",
        _ => return format!("Postgres: {message} (SQLSTATE {code})"),
    };
    format!("Postgres: {message}; {advice}")
}

/// Message by primary result code.
fn sqlite_message(error: &SqliteError) -> String {
    const READONLY: i32 = 8;
    let message = error.message();
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    let advice = match code & 0xff {
        5 | 6 => "another process holds the write lock; retry in a moment",
        READONLY => {
            "the database file or its folder is not writable by this user: change its owner or mode"
        }
        10 => "the disk failed, or a file size limit was reached; check the system log",
        11 | 26 => {
            "the file is corrupt or not a database: restore a backup, or name another in DATABASE_URL"
        }
        13 => "the disk is full: free some space",
        14 => {
            "the file cannot be opened: check that it and its folder exist and belong to this user"
        }
        _ => return format!("SQLite: {message}"),
    };
    format!("SQLite: {message}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_one_line_that_says_what_to_do() {
        for (code, message, words) in [
            ("25006", "cannot execute CREATE TABLE in a read-only transaction", "name the primary"),
            ("42501", "permission denied for schema public", "grant that privilege"),
            ("28P01", "password authentication failed for user \"u\"", "user and password"),
            ("3D000", "database \"none\" does not exist", "\"none\" does not exist; create it"),
            ("53300", "sorry, too many clients already", "database.connections"),
            ("53100", "could not extend file", "space"),
            ("57P03", "the database system is starting up", "retry"),
            ("42P01", "relation \"x\" does not exist", "SQLSTATE 42P01"),
        ] {
            let text = postgres_message(code, message);
            assert!(text.contains(words) && !text.contains('\n'), "{text}");
        }
        let refused = Error::Io(std::io::Error::from(ErrorKind::ConnectionRefused));
        assert!(message(&refused).contains("refuses connections"));
        let tls = Error::Tls("certificate\n  unknown".into());
        assert!(message(&tls).contains("(certificate unknown)"), "{}", message(&tls));
    }
}
