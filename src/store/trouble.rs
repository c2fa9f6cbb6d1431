//! What went wrong in a store, as one sentence that says what to do.

use super::postgres::READ_ONLY;
use sqlx::Error;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;
use std::io::ErrorKind;

pub(super) const IS_READ_ONLY: &str = "this Postgres takes no writes now: it is a standby, or \
    default_transaction_read_only is on; name the primary in DATABASE_URL";

/// The sentence for an error of either driver. It stands on one line.
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
            "no TLS connection to the database could be made ({e}); check sslmode and sslrootcert in DATABASE_URL"
        ),
        Error::PoolTimedOut => {
            "no connection to the database could be had in time; it does not answer, or all are in use".to_owned()
        }
        other => other.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// By SQLSTATE, with the server's own words where they name what is meant.
fn of_postgres(code: &str, message: &str) -> String {
    let advice = match code {
        READ_ONLY => return IS_READ_ONLY.to_owned(),
        "42501" => {
            "give the account of DATABASE_URL that right, or the ownership of the database \
             (`alter database NAME owner to ACCOUNT`)"
        }
        "28P01" | "28000" => {
            "check user and password in DATABASE_URL, and pg_hba.conf of the server"
        }
        "3D000" => "create it (`createdb NAME`), or name another in DATABASE_URL",
        "53300" => "raise max_connections of the server, or lower `database.connections`",
        "53100" => "free or add space on the disk of the server",
        "57P03" => "it is starting or stopping; try again in a moment",
        "57P01" | "57P02" => {
            "it was stopped, or the connection was ended there; try again in a moment"
        }
        "3F000" => "create a schema for the account of DATABASE_URL (`create schema public`)",
        _ => return format!("Postgres says: {message} (SQLSTATE {code})"),
    };
    format!("Postgres says: {message}; {advice}")
}

/// By primary error code.
fn of_sqlite(error: &SqliteError) -> String {
    const READONLY: i32 = 8;
    let message = error.message();
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    let advice = match code & 0xff {
        5 | 6 => "another process is writing for long; try again in a moment",
        READONLY => {
            "the file of the database, or its folder, may not be written by this account: change its owner \
             or mode"
        }
        10 => {
            "the disk failed, or a limit on the size of files was reached; look at the system's log"
        }
        11 | 26 => {
            "the file is damaged or no database: put back a backup, or name another in DATABASE_URL"
        }
        13 => "the disk is full: free some space",
        14 => {
            "the file cannot be opened: check that it and its folder exist and belong to this account"
        }
        _ => return format!("SQLite says: {message}"),
    };
    format!("SQLite says: {message}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_a_sentence_with_something_to_do() {
        for (code, message, words) in [
            ("25006", "cannot execute CREATE TABLE in a read-only transaction", "name the primary"),
            ("42501", "permission denied for schema public", "give the account"),
            ("28P01", "password authentication failed for user \"u\"", "user and password"),
            ("3D000", "database \"none\" does not exist", "\"none\" does not exist; create it"),
            ("53300", "sorry, too many clients already", "database.connections"),
            ("53100", "could not extend file", "space"),
            ("57P03", "the database system is starting up", "try again"),
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
