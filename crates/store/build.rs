//! Rebuilds when a migration changes: the compiler does not see what `sqlx::migrate!` read.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
