//! One suite for every back end.

mod counters;
mod silence;
mod history;
mod reports;
mod rows;
mod redis_look;
mod sentinel;
mod sqlite;
mod postgres;
mod store;
