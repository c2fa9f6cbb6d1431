//! Everything with a socket or a process: real gateways on free ports, the simulator behind them.

mod support;
mod proxy;
