//! The plans of a configuration.

use super::error::ConfigError;
use super::layers::Layers;
use super::raw;
use crate::account::id::PlanId;
use crate::account::plan::{Plan, PlanLimits, Window};
use jiff::tz::TimeZone;
use std::collections::HashSet;
use std::sync::Arc;

/// The plans, checked against the ids of all models. `window` is for plans without their own.
pub fn resolve(
    layers: &Layers,
    window: Window,
    model_ids: &HashSet<&str>,
) -> Result<Vec<Plan>, ConfigError> {
    let (plans, origin) = layers.list(|raw| &raw.plans);
    let mut ids = HashSet::new();
    for plan in plans {
        let id = plan.id.value.0.as_str();
        if !ids.insert(id) {
            return Err(origin.error(&plan.id.span, format!("there are two plans `{id}`")));
        }
        let models = plan.models.iter().flat_map(|m| &m.value.0);
        if let Some(unknown) = models.into_iter().find(|m| !model_ids.contains(m.as_str())) {
            let span = plan.models.as_ref().map_or(0..0, |m| m.span.clone());
            let problem = format!(
                "the plan `{id}` has the model `{unknown}`, which is not the id of any [[models]]"
            );
            return Err(origin.error(&span, problem));
        }
    }
    Ok(plans.iter().map(|plan| meaning(plan, window)).collect())
}

fn meaning(plan: &raw::Plan, window: Window) -> Plan {
    let models = plan.models.as_ref().map(|models| -> Arc<[Arc<str>]> {
        models.value.0.iter().map(|m| Arc::from(m.as_str())).collect()
    });
    let limits = PlanLimits {
        tokens_per_day: plan.max_tokens_per_day.value.0,
        requests_per_day: plan.max_requests_per_day.value.0,
        window: Window {
            capacity: plan.rate_limit_requests.as_ref().map_or(window.capacity, |f| f.value.0),
            refill_seconds: plan
                .rate_limit_window
                .as_ref()
                .map_or(window.refill_seconds, |f| f.value.0),
        },
        concurrent_streams: plan.concurrent_streams.value.0,
        models,
        time_zone: plan.time_zone.as_ref().map_or(TimeZone::UTC, |zone| zone.value.clone()),
    };
    Plan {
        id: PlanId::from(plan.id.value.0.as_str()),
        name: plan.name.value.clone(),
        price_cents: plan.price_cents.value.0,
        retired: false,
        limits,
    }
}
