//! The plans of a configuration.

use super::error::ConfigError;
use super::layers::Layers;
use super::raw;
use super::types::NameList;
use super::value::{FromConfig, RawValue};
use crate::upstream::catalog::Catalog;
use domain::cached_tokens::CachedTokenFraction;
use domain::id::PlanId;
use domain::plan::{Plan, PlanLimits, PolicyChange, RequestPolicy, ServerTools, Window, Words};
use jiff::tz::TimeZone;
use std::collections::HashSet;
use std::sync::Arc;

/// The plans, whose models are those of the catalog, by id or alias. `window` is for plans without their
/// own.
pub fn resolve(
    layers: &Layers,
    window: Window,
    catalog: &Catalog,
) -> Result<Vec<Plan>, ConfigError> {
    let (plans, origin) = layers.list(|raw| &raw.plans);
    let mut ids = HashSet::new();
    for plan in plans {
        let id = plan.id.value.0.as_str();
        if !ids.insert(id) {
            return Err(origin.error(&plan.id.span, format!("the plan id `{id}` is used twice")));
        }
        let models = plan.models.iter().flat_map(|m| &m.value.0);
        if let Some(unknown) = models.into_iter().find(|m| catalog.id_of(m).is_none()) {
            let span = plan.models.as_ref().map_or(0..0, |m| m.span.clone());
            let problem = format!(
                "the plan `{id}` lists the model `{unknown}`, which is not an id or alias in [[models]]"
            );
            return Err(origin.error(&span, problem));
        }
    }
    Ok(plans.iter().map(|plan| meaning(plan, window, catalog)).collect())
}

fn meaning(plan: &raw::Plan, window: Window, catalog: &Catalog) -> Plan {
    let models = plan.models.as_ref().map(|models| -> Arc<[Arc<str>]> {
        models.value.0.iter().filter_map(|m| catalog.id_of(m).cloned()).collect()
    });
    let limits = PlanLimits {
        tokens_per_day: plan.max_tokens_per_day.value.0,
        cached_token_fraction: plan
            .cached_token_fraction
            .as_ref()
            .map_or(CachedTokenFraction::ONE, |field| field.value),
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
        policy: policy(plan),
    };
    Plan {
        id: PlanId::from(plan.id.value.0.as_str()),
        name: plan.name.value.0.clone(),
        price_cents: plan.price_cents.value.0,
        retired: false,
        limits,
    }
}

fn policy(plan: &raw::Plan) -> RequestPolicy {
    let words = |names: &super::value::Field<NameList>| -> Words {
        names.value.0.iter().map(|word| word.as_str().into()).collect()
    };
    PolicyChange {
        server_tools: plan.server_tools.as_ref().map(|field| field.value),
        max_tool_calls: plan.max_tool_calls.as_ref().map(|field| field.value.0),
        service_tiers: plan.service_tiers.as_ref().map(words),
        image_sizes: plan.image_sizes.as_ref().map(words),
        image_qualities: plan.image_qualities.as_ref().map(words),
        account_references: plan.account_references.as_ref().map(|field| field.value),
    }
    .applied_to(RequestPolicy::default())
}

impl FromConfig for CachedTokenFraction {
    fn expected() -> String {
        "a number from 0 to 1 with at most three decimals".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        value.decimal()?.parse().ok()
    }
}

impl FromConfig for ServerTools {
    fn expected() -> String {
        "\"allow\", \"strip\" or \"refuse\"".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        match value.text()? {
            "allow" => Some(Self::Allow),
            "strip" => Some(Self::Strip),
            "refuse" => Some(Self::Refuse),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_a_number_or_its_text() {
        let read = |value: RawValue| CachedTokenFraction::from_value(&value);
        let thousandths = |value| read(value).map(CachedTokenFraction::thousandths);
        assert_eq!(thousandths(RawValue::Integer(1)), Some(1000));
        assert_eq!(thousandths(RawValue::Float(0.0)), Some(0));
        assert_eq!(thousandths(RawValue::Float(0.125)), Some(125));
        assert_eq!(thousandths(RawValue::Text(" 0.1 ".to_owned())), Some(100));
        for number in [-0.1, 1.1, 0.12345, f64::NAN, f64::INFINITY] {
            assert_eq!(read(RawValue::Float(number)), None, "{number}");
        }
        for value in [RawValue::Integer(2), RawValue::Integer(-1), RawValue::Bool(true)] {
            assert_eq!(read(value), None);
        }
    }
}
