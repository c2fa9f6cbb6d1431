//! Searches that must not reach the live web.

use crate::json::{self, each_element};
use serde_json::value::RawValue;

/// True for a tool that searches cached pages only.
pub(super) fn is_cached_search(tool: &RawValue) -> bool {
    let names = ["type", "external_web_access"];
    let Some([Some(kind), Some(access)]) = json::members(tool.get().as_bytes(), names) else {
        return false;
    };
    json::text(kind).starts_with("web_search") && access.get() == "false"
}

/// True if a request's only searches are of cached pages, so that none is left.
pub(super) fn drops_search(body: &str) -> bool {
    let Some([Some(tools)]) = json::members(body.as_bytes(), ["tools"]) else { return false };
    let (mut cached, mut others) = (false, false);
    let _ = each_element(tools.get(), |tool| {
        let [kind] = json::members(tool.get().as_bytes(), ["type"]).unwrap_or_default();
        if kind.is_some_and(|kind| json::text(kind).starts_with("web_search")) {
            let is_cached = is_cached_search(tool);
            cached |= is_cached;
            others |= !is_cached;
        }
    });
    cached && !others
}
