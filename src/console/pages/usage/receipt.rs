//! The receipt of one call: what it used, at what price, when, and how it ended.

use crate::console::error::{PageError, html};
use crate::console::format::{Time, count, dollars, duration};
use crate::console::outcome;
use crate::console::page::Page;
use crate::console::session::{AdminOrAuditor, SignedIn};
use crate::control::api_error::ApiError;
use crate::control::http::extract::PathParam;
use crate::control::routes::usage::receipt::{self, PriceLine, Receipt};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::key::Key;
use domain::user::User;

#[derive(Template)]
#[template(path = "console/usage/receipt.html")]
struct ReceiptPage {
    page: Page,
    /// The user who made the call, for admins.
    owner: Option<User>,
    /// The key of the call, if it still exists.
    key: Option<Key>,
    status: String,
    class: &'static str,
    reason: String,
    source: String,
    lines: Vec<ReceiptLine>,
    /// What was charged beyond the price list; empty if nothing was.
    rest: String,
    cost: String,
    /// Tokens that the plan does not count.
    uncounted: String,
    admitted: Time,
    first_token: String,
    took: String,
    resets: Vec<Reset>,
    receipt: Receipt,
}

/// Tokens of one kind.
struct ReceiptLine {
    kind: String,
    tokens: u64,
    price: String,
    cost: String,
}

/// A reset of the day's usage.
struct Reset {
    at: Time,
    tokens: i64,
    requests: i64,
}

/// There is no such call, or not yet.
#[derive(Template)]
#[template(path = "console/usage/no_receipt.html")]
struct NoReceiptPage {
    page: Page,
    request: String,
    /// True for a call of any user, which an admin looks for.
    is_of_any: bool,
}

/// `GET /console/usage/{request}`.
pub async fn show(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    request: Result<PathParam, ApiError>,
) -> Result<Response, PageError> {
    let PathParam(request) = request?;
    let SignedIn { page, current, .. } = signed_in;
    let user = current.user.id;
    let receipt = match receipt::own(&state, user, &request).await {
        Ok(receipt) => receipt,
        Err(ApiError::NotFound(_)) => {
            // A call that has just ended is written within seconds. Nothing tells one of another user apart.
            return no_receipt(page, request, false);
        }
        Err(error) => return Err(error.into()),
    };
    let key = state.store.key(user, &receipt.call.key_id).await?;
    html(&ReceiptPage::new(page, receipt, key))
}

/// `GET /console/admin/calls/{request}`: the call of any user.
pub async fn show_any(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PathParam(request): PathParam,
) -> Result<Response, PageError> {
    let page = reader.page;
    let receipt = match receipt::any(&state, &request).await {
        Ok(receipt) => receipt,
        Err(ApiError::NotFound(_)) => return no_receipt(page, request, true),
        Err(error) => return Err(error.into()),
    };
    let key = state.store.key(receipt.user_id, &receipt.call.key_id).await?;
    let owner = state.store.user(receipt.user_id).await?;
    html(&ReceiptPage { owner, ..ReceiptPage::new(page, receipt, key) })
}

fn no_receipt(page: Page, request: String, is_of_any: bool) -> Result<Response, PageError> {
    let mut response = html(&NoReceiptPage { page, request, is_of_any })?;
    *response.status_mut() = StatusCode::NOT_FOUND;
    Ok(response)
}

impl ReceiptPage {
    fn new(page: Page, receipt: Receipt, key: Option<Key>) -> Self {
        let call = &receipt.call;
        let status = call.status;
        let cost = call.cost_micro_dollars;
        let listed = receipt.prices.as_ref().map(|prices| prices.total_micro_dollars);
        let rest = listed.map_or(0, |listed| cost - listed);
        Self {
            owner: None,
            key,
            status: outcome::name(&page, status).to_owned(),
            class: outcome::class(status),
            reason: outcome::reason(&page, status).to_owned(),
            source: outcome::source(&page, call.source).to_owned(),
            lines: lines(&page, &receipt),
            rest: if rest == 0 { String::new() } else { dollars(rest) },
            cost: dollars(cost),
            uncounted: page.fill("{} cached prompt tokens", &[&count(call.uncounted_tokens)]),
            admitted: Time(call.admitted_at),
            first_token: call.first_token_ms.map(duration).unwrap_or_default(),
            took: duration(call.total_ms),
            resets: receipt.adjustments.iter().map(Reset::of).collect(),
            page,
            receipt,
        }
    }
}

/// The tokens by kind: with prices where the model is still configured.
fn lines(page: &Page, receipt: &Receipt) -> Vec<ReceiptLine> {
    if let Some(prices) = &receipt.prices {
        return prices.lines.iter().map(|line| ReceiptLine::of(page, line)).collect();
    }
    let tokens = &receipt.call.tokens;
    let input = tokens.prompt.saturating_sub(tokens.cached);
    [
        ("input", input),
        ("cached_input", tokens.cached),
        ("output", tokens.completion),
        ("reasoning", tokens.reasoning),
    ]
    .map(|(kind, tokens)| ReceiptLine {
        kind: name(page, kind).to_owned(),
        tokens,
        price: String::new(),
        cost: String::new(),
    })
    .into()
}

impl ReceiptLine {
    fn of(page: &Page, line: &PriceLine) -> Self {
        Self {
            kind: name(page, line.kind).to_owned(),
            tokens: line.tokens,
            price: dollars(rounded(line.dollars_per_million_tokens * 1e6)),
            cost: dollars(rounded(line.cost_micro_dollars)),
        }
    }
}

impl Reset {
    fn of(adjustment: &receipt::AdjustmentView) -> Self {
        let (tokens, requests) = (adjustment.tokens, adjustment.requests);
        Self { at: Time(adjustment.at), tokens, requests }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "micro-dollars of one call")]
fn rounded(micro_dollars: f64) -> i64 {
    micro_dollars.round() as i64
}

/// The name of a kind of tokens.
fn name<'a>(page: &'a Page, kind: &str) -> &'a str {
    match kind {
        "input" => page.t("Input"),
        "cached_input" => page.t("Input from the cache"),
        "reasoning" => page.t("Reasoning"),
        _ => page.t("Output"),
    }
}
