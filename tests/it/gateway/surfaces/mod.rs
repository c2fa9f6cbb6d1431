//! The surfaces and endpoints that a caller has.

mod happy_path;
mod every_surface;
mod recorded_replies;
mod stored_responses;
mod agent_clients;
mod headers;
mod translated;
