//! Inserts of many rows by one statement.
//!
//! A statement is a message to SQLite's thread and back, so one a row would cost more than the row. A text for each
//! number of rows would be prepared again for each batch, so there is one for each power of two.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection};
use std::array;

/// Powers of two from one row to 128.
const SIZES: usize = 8;

/// The texts of one insert, by the logarithm of their rows.
pub(super) struct BulkInsert([String; SIZES]);

/// An insert statement and the values bound so far.
pub(super) type Insert = Query<'static, Sqlite, SqliteArguments>;

impl BulkInsert {
    /// Inserts rows with these columns; the clause `on_conflict` says what becomes of those that exist.
    pub(super) fn new(table: &str, columns: &[&str], on_conflict: &str) -> Self {
        let names = columns.join(", ");
        let row = format!("({})", vec!["?"; columns.len()].join(", "));
        Self(array::from_fn(|size| {
            let rows = vec![row.as_str(); 1 << size].join(", ");
            format!("insert into {table} ({names}) values {rows} {on_conflict}")
        }))
    }

    /// Inserts rows with the columns of the key and others, or updates those that exist by `update`.
    pub(super) fn upsert(table: &str, key: &[&str], others: &[&str], update: &str) -> Self {
        let on_conflict = format!("on conflict ({}) do update set {update}", key.join(", "));
        Self::new(table, &[key, others].concat(), &on_conflict)
    }

    /// Inserts the rows in order; `bind` binds the columns of one. Returns how many rows were inserted or updated.
    pub(super) async fn execute<Row>(
        &'static self,
        mut rows: &[Row],
        bind: impl Fn(Insert, &Row) -> Insert,
        connection: &mut SqliteConnection,
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        while let Some(exponent) = rows.len().checked_ilog2() {
            let size = (exponent as usize).min(SIZES - 1);
            let (head, rest) = rows.split_at(1 << size);
            let insert = head.iter().fold(sqlx::query(self.0[size].as_str()), &bind);
            changed += insert.execute(&mut *connection).await?.rows_affected();
            rows = rest;
        }
        Ok(changed)
    }
}
