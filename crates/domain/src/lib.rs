//! Plain data of the domain: users, plans, keys, leases and charges.
//!
//! Nothing here does I/O, is async, or reads the clock.

pub mod id;
pub mod actor;
pub mod cached_tokens;
pub mod plan;
pub mod limit;
pub mod user;
pub mod key;
pub mod label;
pub mod secret;
pub mod server_secret;
pub mod refresh_token;
pub mod one_time_link;
pub mod password;
pub mod second_factor;
pub mod day;
pub mod charge;
pub mod stored_response;
pub mod caller;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
