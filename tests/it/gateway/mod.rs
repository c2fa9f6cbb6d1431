//! A real gateway in this process with the simulator or another upstream behind it, as its callers see it. The
//! folders are what a call meets in turn.

mod listener;
mod surfaces;
pub mod quota;
mod charges;
mod upstream;
