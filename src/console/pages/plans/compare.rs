//! All plans side by side, with the user's own and a request for another.

use super::{counts_in_part, limits, price};
use crate::config::Billing;
use crate::console::error::{PageError, html};
use crate::console::format::Time;
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::plan::Plan;
use domain::user::{LimitOverrides, User};
use serde::Deserialize;
use store::upgrades::{Upgrade, UpgradeStatus};

#[derive(Template)]
#[template(path = "console/plans/compare.html")]
struct PlansPage {
    page: Page,
    /// What was just done; empty if nothing was.
    done: String,
    /// The newest request for another plan, unless it is old news.
    request: Option<Request>,
    plans: Vec<PlanCard>,
    /// Limits that the operator has set for this user alone; empty if there are none.
    own_limits: Vec<(String, String)>,
    /// True if an admin decides about changes.
    is_manual: bool,
}

/// A plan as the page shows it.
struct PlanCard {
    id: String,
    name: String,
    price: String,
    limits: Vec<(String, String)>,
    is_current: bool,
    is_requested: bool,
}

/// A request for another plan.
struct Request {
    sentence: String,
    at: Time,
    is_pending: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlansQuery {
    done: Option<String>,
}

/// `GET /console/plans`.
pub async fn show(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    query: Result<Query<PlansQuery>, ApiError>,
) -> Result<Response, PageError> {
    let Query(query) = query?;
    let SignedIn { page, current, .. } = signed_in;
    let user = current.user;
    let plans = state.store.plans().await?;
    let latest = state.store.latest_upgrade(user.id).await?;
    let requested = latest.as_ref().filter(|latest| latest.status == UpgradeStatus::Pending);
    let cards = plans.iter().filter(|plan| plan.is_open_to(Some(&user.plan)));
    let cards = cards.map(|plan| PlanCard {
        is_current: plan.id == user.plan,
        is_requested: requested.is_some_and(|requested| requested.to == plan.id),
        id: plan.id.to_string(),
        name: plan.name.clone(),
        price: price(&page, plan),
        limits: limits(&page, &plan.limits, counts_in_part(&plan.limits)),
    });
    html(&PlansPage {
        done: done(&page, query.done.as_deref()),
        plans: cards.collect(),
        own_limits: own_limits(&page, &user, &plans),
        request: latest.and_then(|latest| Request::of(&page, &user, &latest, &plans)),
        is_manual: state.identity.billing == Billing::Manual,
        page,
    })
}

fn done(page: &Page, word: Option<&str>) -> String {
    let sentence = match word {
        Some("changed") => page.t("Your plan was changed. It takes effect with your next request."),
        Some("requested") => page.t("Your request was sent."),
        Some("withdrawn") => page.t("Your request was withdrawn."),
        Some("decided") => {
            page.t("Your request was decided before you withdrew it. This is how it was decided:")
        }
        _ => "",
    };
    sentence.to_owned()
}

/// The limits that apply to the user, if they differ from the plan's.
fn own_limits(page: &Page, user: &User, plans: &[Plan]) -> Vec<(String, String)> {
    let overrides = LimitOverrides { time_zone: None, ..user.overrides.clone() };
    let plan = plans.iter().find(|plan| plan.id == user.plan);
    match plan {
        Some(plan) if overrides != LimitOverrides::default() => {
            let own = overrides.over(plan.limits.clone());
            limits(page, &own, counts_in_part(&own))
        }
        _ => Vec::new(),
    }
}

impl Request {
    /// A request that is pending, or that an admin has rejected. What was approved is the user's plan now, and what
    /// the user has withdrawn needs no answer.
    fn of(page: &Page, user: &User, latest: &Upgrade, plans: &[Plan]) -> Option<Self> {
        let plan = plans.iter().find(|plan| plan.id == latest.to);
        let name = plan.map_or(latest.to.to_string(), |plan| plan.name.clone());
        let is_own = latest.decided_by.as_deref() == Some(format!("user:{}", user.id).as_str());
        match latest.status {
            UpgradeStatus::Pending => Some(Self {
                sentence: page
                    .fill("You have asked for the plan {}. An admin decides about it.", &[&name]),
                at: Time(latest.asked_at),
                is_pending: true,
            }),
            UpgradeStatus::Rejected if !is_own => Some(Self {
                sentence: page.fill("Your request for the plan {} was declined.", &[&name]),
                at: Time(latest.decided_at.unwrap_or(latest.asked_at)),
                is_pending: false,
            }),
            UpgradeStatus::Rejected | UpgradeStatus::Approved | UpgradeStatus::Superseded => None,
        }
    }
}
