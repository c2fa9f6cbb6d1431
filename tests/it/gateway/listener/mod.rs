//! Connections, request heads and request bodies.

mod request_framing;
mod request_bodies;
mod paths_and_methods;
mod http2;
mod slow_clients;
mod fair_shares;
