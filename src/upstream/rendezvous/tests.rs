use super::*;
use crate::upstream::catalog::{Timeouts, Upstream};
use domain::secret::Secret;
use std::sync::Arc;
use std::time::Duration;
use wire::dialect::Dialect;
use wire::request::LimitField;

fn route(name: &str, weight: Option<u32>) -> Route {
    let second = Duration::from_secs(1);
    let upstream = Upstream {
        name: name.into(),
        tls: false,
        host: "127.0.0.1".to_owned(),
        port: 1,
        base_path: "/v1".to_owned(),
        api_key: None::<Secret>,
        ca_file: None,
        timeouts: Timeouts { connect: second, first_byte: second, first_event: None, idle: second },
        max_in_flight: 1,
        queue_length: 0,
        queue_timeout: second,
        probe: None,
        limit_field: LimitField::default(),
        dialect: Dialect::default(),
        system_first_only: false,
        replays_reasoning: false,
        on_hang_up: None,
        stream_options: true,
        surfaces: Vec::new(),
    };
    let upstream = Arc::new(upstream);
    Route { upstream, upstream_model: "m".into(), weight, surfaces: None }
}

fn names<'a>(order: &[&'a Route]) -> Vec<&'a str> {
    order.iter().map(|route| &*route.upstream.name).collect()
}

#[test]
fn without_weights_the_order_is_the_configured_one() {
    let routes = [route("b", None), route("a", None), route("c", None)];
    for key in 0..20_u32 {
        assert_eq!(names(&rank(&routes, &key.to_be_bytes())), ["b", "a", "c"]);
    }
}

#[test]
fn weights_are_kept_and_a_key_keeps_its_upstream() {
    let routes = [route("a", Some(1)), route("b", Some(3)), route("c", None)];
    let mut first = [0_u32; 3];
    for key in 0..10_000_u32 {
        let key = key.to_be_bytes();
        let drawn = names(&rank(&routes, &key));
        assert_eq!(drawn, names(&rank(&routes, &key)));
        // Removing an upstream moves only the keys that it ranked first for.
        let fewer = names(&rank(&routes[..2], &key))[0];
        assert!(fewer == drawn[0] || drawn[0] == "c");
        first[["a", "b", "c"].iter().position(|name| *name == drawn[0]).unwrap()] += 1;
    }
    for (count, expected) in first.into_iter().zip([2_000, 6_000, 2_000]) {
        assert!(count.abs_diff(expected) < 200, "{first:?}");
    }
}
