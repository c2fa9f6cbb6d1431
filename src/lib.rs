//! KnockXPrime: an OpenAI-compatible gateway for Grok with exact quotas and a durable ledger.
//!
//! One call, read in the order of the modules below: [`proxy`] takes a request head, finds the
//! [`callers`] record behind its key, reads the body ([`openai`], [`tokens`]), reserves from the
//! caller's [`quota`], forwards to an [`upstream`], relays the reply and settles; the charge goes
//! through the [`journal`] into the [`store`]. [`control`] serves everything outside `/v1`.
//!
//! Arrows between modules point down this list only; `tests/it/layering.rs` keeps it so.

pub mod cli;
pub mod app;
pub mod hot_restart;
pub mod proxy;
pub mod control;
pub mod simulator;
pub mod quota;
pub mod callers;
pub mod response_owners;
pub mod journal;
pub mod store;
pub mod instance;
pub mod private_files;
pub mod workers;
pub mod telemetry;
pub mod config;
pub mod redis;
pub mod upstream;
pub mod tokens;
pub mod openai;
pub mod account;
pub mod http;
pub mod clock;
