//! The handlers, one file for each noun of the API.

pub mod root;
pub mod health;
pub mod session;
pub mod account_links;
pub mod setup;
pub mod sessions;
pub mod profile;
pub mod second_factor;
pub mod identities;
pub mod account;
pub mod export;
pub mod keys;
pub mod plans;
pub mod usage;
pub mod announcements;
pub mod admin;
