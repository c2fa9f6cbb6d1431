//! Messages, in Anthropic's shape: requests read, replies written. No upstream that needs translation offers them.

pub(super) mod read_request;
pub(super) mod read_content;
pub(super) mod write_reply;
pub(super) mod write_stream;
