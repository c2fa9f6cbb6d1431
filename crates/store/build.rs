//! Rebuilds when a migration changes: the compiler does not see what `sqlx_macros::migrate!` read.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
