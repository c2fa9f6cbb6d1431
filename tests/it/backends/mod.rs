//! One suite for every back end.

mod history;
mod sqlite;
mod postgres;
mod store;
