//! Routes that are promised but not built yet: they say so (501), rather than seem not to exist.

use super::ControlState;
use super::api_error::ApiError;
use axum::routing::{MethodFilter, MethodRouter, on};

const GET: MethodFilter = MethodFilter::GET;
const POST: MethodFilter = MethodFilter::POST;
const PATCH: MethodFilter = MethodFilter::PATCH;
const DELETE: MethodFilter = MethodFilter::DELETE;

/// Path, methods, and what to call it in a sentence.
const ROUTES: [(&str, MethodFilter, &str); 31] = [
    ("/console", GET, "The console"),
    ("/api/openapi.json", GET, "The OpenAPI description"),
    ("/api/v1/users/register", POST, "Registration"),
    ("/api/v1/users/login", POST, "Login"),
    ("/api/v1/users/refresh", POST, "Login"),
    ("/api/v1/users/logout", POST, "Login"),
    ("/api/v1/users/profile", GET.or(PATCH), "The profile"),
    ("/api/v1/users/change-password", POST, "Changing passwords"),
    ("/api/v1/users/regenerate-api-key", POST, "Key management"),
    ("/api/v1/keys", GET.or(POST), "Key management"),
    ("/api/v1/keys/{id}", PATCH.or(DELETE), "Key management"),
    ("/api/v1/plans/compare/pricing", GET, "Comparison of plans"),
    ("/api/v1/plans/upgrade", POST, "Changing plans"),
    ("/api/v1/usage/current", GET, "Usage history"),
    ("/api/v1/usage/daily", GET, "Usage history"),
    ("/api/v1/usage/monthly", GET, "Usage history"),
    ("/api/v1/usage/history", GET, "Usage history"),
    ("/api/v1/usage/stats", GET, "Usage history"),
    ("/api/v1/admin/stats/overview", GET, "Administration"),
    ("/api/v1/admin/users", GET, "Administration"),
    ("/api/v1/admin/users/{id}", GET.or(PATCH), "Administration"),
    ("/api/v1/admin/users/{id}/reset-usage", POST, "Administration"),
    ("/api/v1/admin/usage/top-users", GET, "Administration"),
    ("/api/v1/admin/system/health", GET, "Administration"),
    ("/api/v1/admin/plans", POST, "Administration"),
    ("/api/v1/admin/plans/{id}", PATCH.or(DELETE), "Administration"),
    ("/api/v1/admin/audit", GET, "Administration"),
    ("/api/v1/admin/upgrades", GET, "Administration"),
    ("/api/v1/admin/upgrades/{id}/approve", POST, "Administration"),
    ("/api/v1/admin/upgrades/{id}/reject", POST, "Administration"),
    ("/api/v1/admin/config/reload", POST, "Reloading the configuration"),
];

/// The table as routes that answer 501.
pub fn routes() -> impl Iterator<Item = (&'static str, MethodRouter<ControlState>)> {
    ROUTES.into_iter().map(|(path, methods, what)| {
        (path, on(methods, move || async move { ApiError::NotBuilt(what) }))
    })
}
