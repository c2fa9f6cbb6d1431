//! The plumbing between HTTP and the handlers: layers around every route, extractors, pages, caching.

pub mod middleware;
pub mod extract;
pub mod pagination;
pub mod csv;
pub mod etag;
pub mod stale_cache;
