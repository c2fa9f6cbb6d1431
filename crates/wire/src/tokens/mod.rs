//! Counting tokens: [`estimate`] before a call, [`meter`] while it runs. Pure.

pub mod estimate;
pub mod meter;
