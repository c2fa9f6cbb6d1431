//! Everything with a file, a socket or a process: stores in temporary folders, real gateways on
//! free ports, the simulator behind them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by failing")]
#![allow(clippy::disallowed_methods, reason = "a test plays the part of the outside world")]
#![allow(clippy::pedantic, reason = "tests are read as prose")]

mod support;
mod layering;
mod docs;
mod wording;
mod backends;
mod gateway;
mod mail;
mod process;
