//! Chat completions: requests and replies, read and written.

pub(super) mod read_request;
pub(super) mod write_request;
pub(super) mod read_reply;
pub(super) mod write_reply;
pub(super) mod write_stream;
