//! One suite for every back end.

mod counters;
mod silence;
mod rebuild;
mod history;
mod redis_look;
mod sentinel;
mod sqlite;
mod postgres;
mod store;
