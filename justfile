# What we type often. `just check` is what runs on every change.

default:
    @just --list

# everything that must hold before a change lands
check:
    scripts/test

# a few minutes: formatting, lints, all Rust tests but the slow ones
test:
    scripts/test --middle

# formatting, lints and the unit tests of all crates
quick:
    scripts/test --quick

# a gateway with nothing to set up, against the built-in simulator
demo:
    cargo run --release -- demo

# load and latency beside nginx, Envoy and no gateway at all; the goals met or missed
load *args:
    benches/load/run {{ args }}

# licences, bans and sources of the dependencies
deny:
    cargo deny --locked check licenses bans sources

# where a build from nothing spends its time (an HTML page in target/cargo-timings)
timings:
    cargo build --release --locked --timings --target-dir target/timings
