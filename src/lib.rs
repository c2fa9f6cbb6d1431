//! KnockXPrime: an OpenAI-compatible gateway for Grok with exact quotas and a durable ledger.
//!
//! One call, read in the order of the modules below: [`gateway`] takes a request head, finds the
//! [`callers`] record behind its key, reads the body ([`wire`]), reserves from the caller's [`quota`],
//! forwards to an [`upstream`], relays the response and settles; the charge goes through the [`journal`]
//! into the [`store`]. [`control`] serves everything outside `/v1`.
//!
//! Arrows between modules point down this list only; `tests/it/layering.rs` keeps it so. Code that does not
//! depend on the product is in library crates below `crates/`, where Cargo keeps the arrows:
//! [`system`] and [`domain`] at the bottom, then [`wire`], [`telemetry`], [`store`], [`journal`], [`quota`];
//! [`mock_xai`] stands apart.

pub mod cli;
pub mod app;
pub mod hot_restart;
pub mod gateway;
pub mod console;
pub mod control;
pub mod mail;
pub mod links;
pub mod oidc;
pub mod jwt;
pub mod callers;
pub mod response_owners;
pub mod data_dir;
pub mod logging;
pub mod config;
pub mod upstream;
pub mod http;
