//! The data plane, as its callers see it.

mod answers;
mod endings;
mod exactness;
mod quotas;
mod rights;
mod tls;
