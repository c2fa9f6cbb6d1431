//! One suite for every back end.

mod counters;
mod silence;
mod history;
mod redis_look;
mod sentinel;
mod sqlite;
mod postgres;
mod store;
mod announced;
