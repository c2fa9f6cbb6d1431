use super::*;

fn samples(text: &str) -> Vec<(&str, f64)> {
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|l| l.rsplit_once(' ').unwrap()).map(|(s, v)| (s, v.parse().unwrap())).collect()
}

fn value(text: &str, series: &str) -> f64 {
    let found = samples(text).into_iter().find(|(s, _)| *s == series);
    found.unwrap_or_else(|| panic!("no {series} in\n{text}")).1
}

#[test]
fn every_series_of_the_contract_exists_with_0() {
    let text = Metrics::new(&["grok-4.3"], &["xai"]).render();
    let series = [
        "knockx_requests_total{route=\"chat_completions\",status=\"200\",outcome=\"ok\"}",
        "knockx_requests_total{route=\"control\",status=\"503\",outcome=\"refused\"}",
        "knockx_requests_total{route=\"models\",status=\"other\",outcome=\"failed\"}",
        "knockx_request_overhead_seconds_count",
        "knockx_request_overhead_seconds_bucket{le=\"0.0003\"}",
        "knockx_upstream_first_byte_seconds_count{upstream=\"xai\"}",
        "knockx_stream_duration_seconds_sum",
        "knockx_streams_open",
        "knockx_tokens_total{kind=\"reasoning\",model=\"grok-4.3\"}",
        "knockx_cost_micro_dollars_total{model=\"grok-4.3\"}",
        "knockx_quota_refusals_total{limit=\"tokens_per_day\"}",
        "knockx_quota_overshoot_tokens_total",
        "knockx_reservations_open",
        "knockx_uncharged_tokens_total",
        "knockx_admission_waiting",
        "knockx_admission_waits_total{outcome=\"refused\"}",
        "knockx_usage_admitted_total",
        "knockx_usage_persisted_total",
        "knockx_usage_queue_depth",
        "knockx_usage_flush_seconds_count",
        "knockx_redis_seconds_count{op=\"take\"}",
        "knockx_store_seconds_bucket{op=\"journal\",le=\"+Inf\"}",
        "knockx_upstream_up{upstream=\"xai\"}",
        "knockx_retries_total",
        "knockx_mails_total{kind=\"reset_password\",outcome=\"sent\"}",
    ];
    for series in series {
        assert!(value(&text, series).abs() < f64::EPSILON, "{series} is not 0");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert!(value(&text, &format!("knockx_build_info{{version=\"{version}\"}}")) > 0.5);
    let not_zero = samples(&text).iter().filter(|(_, v)| *v != 0.0).count();
    assert_eq!(not_zero, 1, "only the build info is not 0");
}

#[test]
fn every_metric_has_help_a_type_and_well_formed_lines() {
    let text = Metrics::new(&[], &[]).render();
    let names = COUNTERS.iter().map(|(n, _)| n).chain(GAUGES.iter().map(|(n, _)| n));
    for name in names.chain(HISTOGRAMS.iter().map(|(n, _, _)| n)) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} has no type");
    }
    for (series, _) in samples(&text) {
        let name = series.split('{').next().unwrap();
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        assert!(is_name && name.starts_with("knockx_"), "{series}");
        assert_eq!(series.contains('{'), series.ends_with('}'), "{series}");
    }
}

#[test]
fn counting_reaches_its_own_series() {
    let metrics = Metrics::new(&["m"], &["u"]);
    for (at, route) in Route::ALL.into_iter().enumerate() {
        assert_eq!(route.index(), at);
        metrics.requests(route, 429, Outcome::Refused).increment(1);
    }
    metrics.requests(Route::Models, 418, Outcome::Refused).increment(1);
    metrics.requests(Route::Models, 200, Outcome::Refused).increment(1);
    metrics.count_settled("m", &[(TokenKind::Cached, 5)], 0);
    metrics.count_settled("not ours", &[(TokenKind::Prompt, 6)], 0);
    metrics.quota_refusals(LimitKind::ConcurrentStreams).increment(2);
    metrics.store_seconds(StoreOp::Ping).record(0.002);
    metrics.upstream_up("u").set(1.0);
    metrics.upkeep();
    let text = metrics.render();
    let expected = [
        ("knockx_requests_total{route=\"models\",status=\"429\",outcome=\"refused\"}", 1.0),
        ("knockx_requests_total{route=\"models\",status=\"other\",outcome=\"failed\"}", 1.0),
        ("knockx_requests_total{route=\"models\",status=\"200\",outcome=\"ok\"}", 1.0),
        ("knockx_tokens_total{kind=\"cached\",model=\"m\"}", 5.0),
        ("knockx_tokens_total{kind=\"prompt\",model=\"other\"}", 6.0),
        ("knockx_quota_refusals_total{limit=\"concurrent_streams\"}", 2.0),
        ("knockx_store_seconds_bucket{op=\"ping\",le=\"0.001\"}", 0.0),
        ("knockx_store_seconds_bucket{op=\"ping\",le=\"0.0025\"}", 1.0),
        ("knockx_upstream_up{upstream=\"u\"}", 1.0),
    ];
    for (series, number) in expected {
        assert!((value(&text, series) - number).abs() < f64::EPSILON, "{series}");
    }
}
