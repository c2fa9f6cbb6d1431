//! The endpoints of the data plane that are not calls, and the way to the control plane.

pub mod models;
pub mod stored_responses;
pub mod token_count;
pub mod deferred_completion;
pub mod preflight;
pub mod control_plane;
