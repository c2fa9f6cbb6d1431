//! The machine under the gateway: its clock, files that only their owner can read, supervised tasks.

pub mod clock;
pub mod private_files;
pub mod supervisor;
