//! Turns database errors into one-line messages that say what to do.

use super::postgres::READ_ONLY;
use sqlx::Error;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;
use std::io::ErrorKind;

pub(super) const IS_READ_ONLY: &str = "this Postgres server is read-only: it is a standby, or \
    default_transaction_read_only is on; name the primary in DATABASE_URL";

/// Returns a one-line message for an error of either driver.
pub(super) fn sentence(error: &Error) -> String {
    let text = match error {
        Error::Database(e) => match e.try_downcast_ref::<SqliteError>() {
            Some(e) => of_sqlite(e),
            None => of_postgres(&e.code().unwrap_or_default(), e.message()),
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
fn of_postgres(code: &str, message: &str) -> String {
    let advice = match code {
        READ_ONLY => return IS_READ_ONLY.to_owned(),
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
fn of_sqlite(error: &SqliteError) -> String {
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
    fn each_trouble_is_a_sentence_with_something_to_do() {
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
            let told = of_postgres(code, message);
            assert!(told.contains(words) && !told.contains('\n'), "{told}");
        }
        let refused = Error::Io(std::io::Error::from(ErrorKind::ConnectionRefused));
        assert!(sentence(&refused).contains("refuses connections"));
        let tls = Error::Tls("certificate\n  unknown".into());
        assert!(sentence(&tls).contains("(certificate unknown)"), "{}", sentence(&tls));
    }
}
