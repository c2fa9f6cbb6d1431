//! Everything with a file, a socket or a process: stores in temporary folders, real gateways on
//! free ports, the simulator behind them.

mod support;
mod backends;
mod proxy;
