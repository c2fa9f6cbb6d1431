//! Searches that must not reach the live web.

use crate::json;
use serde_json::value::RawValue;

/// True for a tool that searches cached pages only.
pub(super) fn is_cached_search(tool: &RawValue) -> bool {
    let names = ["type", "external_web_access"];
    let Some([Some(kind), Some(access)]) = json::members(tool.get().as_bytes(), names) else {
        return false;
    };
    json::text(kind).starts_with("web_search") && access.get() == "false"
}
