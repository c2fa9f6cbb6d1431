//! Inserts of many rows by one statement.
//!
//! A statement is a message to SQLite's thread and back, so one a row would cost more than the row. A text for each
//! number of rows would be prepared again for each batch, so there is one for each power of two.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection};
use std::array;

/// Powers of two from one row to 128, which keeps the prepared statements below half a megabyte.
const SIZES: usize = 8;

/// The texts of one insert, by the logarithm of their rows.
pub(super) struct BulkInsert([String; SIZES]);

type Insert = Query<'static, Sqlite, SqliteArguments>;

impl BulkInsert {
    /// `insert` up to the word `values`, the number of `columns`, and the clause `on_conflict`.
    pub(super) fn new(insert: &str, columns: usize, on_conflict: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        Self(array::from_fn(|size| {
            let rows = vec![row.as_str(); 1 << size].join(", ");
            format!("{insert} values {rows} {on_conflict}")
        }))
    }

    /// Inserts the rows in order; `bind` binds the columns of one. Returns how many rows were inserted or updated.
    pub(super) async fn execute<Row>(
        &'static self,
        mut rows: &[Row],
        bind: impl Fn(Insert, &Row) -> Insert,
        connection: &mut SqliteConnection,
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        while let Some(log) = rows.len().checked_ilog2() {
            let size = (log as usize).min(SIZES - 1);
            let (now, later) = rows.split_at(1 << size);
            let insert = now.iter().fold(sqlx::query(self.0[size].as_str()), &bind);
            changed += insert.execute(&mut *connection).await?.rows_affected();
            rows = later;
        }
        Ok(changed)
    }
}
