//! One suite for every back end.

mod counters;
mod demotion;
mod losses;
mod silence;
mod rebuild;
mod history;
mod resets;
mod preflight;
mod sentinel;
mod sqlite;
mod postgres;
mod store;
mod invalidation;
mod bulk;
