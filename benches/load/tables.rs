//! The report's tables, in Markdown.

use crate::growth::Growth;
use crate::report::Report;

pub fn saturation(report: &Report) {
    println!(
        "\n| saturated, {} connections | requests/s | p50 | p99 | CPU per request | requests per CPU-second | to nginx | to Envoy |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        report.plan.connections
    );
    for s in &report.saturation {
        let rate = report.per_cpu_second(s.route);
        let to = |other| Some(rate? / report.per_cpu_second(other)?);
        println!(
            "| {} | {:.0} | {:.2} ms | {:.2} ms | {} | {} | {} | {} |",
            s.route,
            s.requests_per_second,
            s.p50_ms,
            s.p99_ms,
            shown(s.cost.program, 1, " µs"),
            shown(rate, 0, ""),
            shown(to("nginx"), 2, ""),
            shown(to("envoy"), 2, "")
        );
    }
    for s in report.saturation.iter().filter(|s| s.cost.redis.is_some()) {
        println!(
            "\n{}: {} of Redis' main thread and {} of Postgres a request; {} calls a second of one Redis core.",
            s.route,
            shown(s.cost.redis, 1, " µs"),
            shown(s.cost.postgres, 1, " µs"),
            shown(s.cost.redis.map(|us| 1e6 / us), 0, "")
        );
    }
}

pub fn paced(report: &Report) {
    println!(
        "\n| fixed rate | route | p50 | p99 | added p50 | added p99 | CPU per request |\n\
         | ---: | --- | ---: | ---: | ---: | ---: | ---: |"
    );
    for p in &report.paced {
        println!(
            "| {}/s | {} | {:.2} ms | {:.2} ms | {} | {} | {} |",
            p.rate,
            p.route,
            p.p50_ms,
            p.p99_ms,
            shown(report.added_p50(p), 2, " ms"),
            shown(report.added_p99(p), 2, " ms"),
            shown(p.cost.program, 1, " µs")
        );
    }
}

pub fn streams(report: &Report) {
    println!(
        "\n| streams open | route | first event p50 | p99 | added p50 | added p99 | CPU per event | to nginx | memory per stream |\n\
         | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for s in &report.streams {
        let nginx = report.streams("nginx", s.open).and_then(|nginx| nginx.cost.program);
        let ratio = s.cost.program.zip(nginx).map(|(us, nginx)| us / nginx);
        println!(
            "| {} | {} | {:.2} ms | {:.2} ms | {} | {} | {} | {} | {} |",
            s.open,
            s.route,
            s.first_p50_ms,
            s.first_p99_ms,
            shown(report.added_first_p50(s), 2, " ms"),
            shown(report.added_first_p99(s), 2, " ms"),
            shown(s.cost.program, 1, " µs"),
            shown(ratio, 2, ""),
            shown(s.kib_per_stream, 1, " KiB")
        );
    }
}

pub fn memory(report: &Report) {
    println!(
        "\n| | ready after | memory idle | loaded | after hang-ups |\n\
         | --- | ---: | ---: | ---: | ---: |"
    );
    for start in &report.starts {
        let memory = report.memory.iter().find(|memory| memory.route == start.name);
        println!(
            "| {} | {:.0} ms | {:.1} MiB | {} | {} |",
            start.name,
            start.ready_ms,
            mib(start.idle_kib),
            shown(memory.map(|m| mib(m.loaded_kib)), 1, " MiB"),
            shown(memory.map(|m| mib(m.after_hang_ups_kib)), 1, " MiB")
        );
    }
}

pub fn growth(growth: &Growth) {
    let sizes = &growth.sizes;
    println!(
        "\n{} users, {} ledger rows of {} days, filled in {:.0} s; {} callers; {} simulated days.",
        sizes.users,
        sizes.rows,
        sizes.days,
        growth.fill_seconds,
        sizes.callers,
        growth.simulated_days
    );
    println!(
        "\n| store | CPU per call | requests/s | ready after | memory |\n\
         | --- | ---: | ---: | ---: | ---: |"
    );
    for store in &growth.stores {
        println!(
            "| {} | {} | {:.0} | {:.0} ms | {:.1} MiB |",
            store.store,
            shown(store.cpu_us_per_call, 1, " µs"),
            store.requests_per_second,
            store.ready_ms,
            mib(store.resident_kib)
        );
    }
    println!("\nReady after a kill under load: {:.0} ms.", growth.ready_after_kill_ms);
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn shown(value: Option<f64>, decimals: usize, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}{unit}"))
}
