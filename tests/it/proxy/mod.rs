//! The data plane, as its callers see it.

mod answers;
mod bills;
mod bodies;
mod early;
mod endings;
mod exactness;
mod exposure;
mod fairness;
mod framing;
mod hostile;
mod policies;
mod privacy;
mod quotas;
mod rights;
mod routes;
mod slow;
mod surfaces;
mod complaints;
mod usages;
mod kept;
mod golden;
mod hang_ups;
mod http2;
mod matrix;
mod tls;
mod weather;
