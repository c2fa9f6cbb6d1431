//! One suite for every back end.

mod counters;
mod silence;
mod history;
mod sqlite;
mod postgres;
mod store;
