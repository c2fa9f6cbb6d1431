//! Everything with a socket, a file or a process: real gateways on free ports, the simulator
//! behind them.

mod support;
mod backends;
mod proxy;
