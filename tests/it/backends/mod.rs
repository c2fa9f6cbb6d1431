//! One suite for every back end.

mod counters;
mod history;
mod sentinel;
mod sqlite;
mod postgres;
mod store;
