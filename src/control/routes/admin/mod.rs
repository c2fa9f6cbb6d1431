//! Administration. Every handler that reads takes an [`crate::control::auth::AdminReader`]; every handler that
//! changes, tests or reloads something takes an [`crate::control::auth::Admin`], and every change is audited.

pub mod overview;
pub mod stats;
pub mod users;
pub mod invitations;
pub mod keys;
pub mod calls;
pub mod second_factor;
pub mod deletion;
pub mod reset;
pub mod top_users;
pub mod plans;
pub mod upgrades;
pub mod announcements;
pub mod usage;
pub mod upstreams;
pub mod config;
pub mod models;
pub mod audit;
pub mod system;
pub mod reload;
