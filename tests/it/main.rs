//! Everything with a file, a socket or a process: stores in temporary folders, real gateways on
//! free ports, the simulator behind them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by failing")]

mod support;
mod layering;
mod backends;
mod proxy;
