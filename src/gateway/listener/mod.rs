//! Sockets of callers: TLS, connections of HTTP/1.1 and HTTP/2, and one request with its response on them.

pub mod connection;
pub mod tls;
pub mod address_limit;
pub mod http1;
pub mod http2;
pub mod gate;
pub mod framing;
pub mod session;
pub mod pipe;
pub mod rounds;
pub mod alarm;
