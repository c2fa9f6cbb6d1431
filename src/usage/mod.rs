//! Charges on their way into the store.
//!
//! [`journal::Journal`] is the handle that quota holds; one writer task turns what it is given into batches.

pub mod journal;
mod writer;
#[cfg(test)]
mod tests;
