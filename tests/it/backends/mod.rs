//! One suite for every back end.

mod counters;
mod demotion;
mod losses;
mod silence;
mod rebuild;
mod history;
mod resets;
mod redis_look;
mod sentinel;
mod sqlite;
mod postgres;
mod store;
mod invalidation;
mod bulk;
