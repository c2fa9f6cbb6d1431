//! The data plane: one call from its first byte to its last.
//!
//! [`Gateway::answer`] selects an endpoint. A call follows [`Gateway::handle`]: read, admit, forward, relay, settle;
//! each step is a file, and takes what the step before it returned. A call with a cached key needs no query of the
//! store, and works while the control plane is down; it waits only for its reservation.

pub mod listener;
pub mod endpoint;
pub mod call;
pub mod response;
pub mod routes;
pub mod headers;

use crate::callers::cache::CallerCache;
use crate::callers::open::OpenCalls;
use crate::config::{Limits, Listener};
use crate::gateway::call::prompt_count::CountingTurns;
use crate::response_owners::ResponseOwners;
use crate::upstream::Upstreams;
use arc_swap::ArcSwap;
use call::body_memory::BodyMemory;
use call::exhausted_users::ExhaustedUsers;
use call::services::CallServices;
use domain::key::Pepper;
use endpoint::Endpoint;
use listener::address_limit::{AddressLimit, AddressPermit};
use listener::session::Session;
use response::refusal::Refusal;
use response::rejection::Rejection;
use response::writer::ResponseWriter;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use telemetry::labels::{Outcome, Route};
use tokio_util::sync::CancellationToken;
use wire::surface::Surface;

/// The data plane: what all its requests share.
pub struct Gateway {
    pub listener: Listener,
    /// `None` where the public port is plain.
    pub tls: Option<listener::tls::Tls>,
    pub pepper: Pepper,
    pub callers: Arc<CallerCache>,
    /// The owners of stored responses.
    pub owners: ResponseOwners,
    pub open_calls: OpenCalls,
    /// The part of the configuration that a reload replaces. A call keeps the one it began with.
    pub current: ArcSwap<RoutingSnapshot>,
    pub services: Arc<CallServices>,
    pub control: axum::Router,
    /// Cancelled when the process is to end soon: connections are closed after the answer under way.
    pub leaving: CancellationToken,
    /// Cancelled when new calls are refused, and idle connections closed.
    pub shutting_down: CancellationToken,
    /// Cancelled when open streams have to end.
    pub hard_stop: CancellationToken,
    /// Limits the memory of buffered bodies.
    pub body_memory: BodyMemory,
    /// Limits the connections of each address.
    pub address_limit: AddressLimit,
    /// Users whose last call was refused because no quota was left.
    pub exhausted_users: ExhaustedUsers,
    /// Numbers the calls, so that the open ones of a user are distinct.
    pub calls: AtomicU64,
    /// Limits how many long prompts are counted at a time: one can take a processor for a second.
    pub counting: CountingTurns,
}

/// The part of the configuration that can change while the gateway runs.
pub struct RoutingSnapshot {
    pub upstreams: Arc<Upstreams>,
    pub limits: Limits,
}

/// An address has as many connections as it may.
struct TooMany {
    most: usize,
}

/// The labels in metrics of a request that got its response.
pub(crate) struct Handled {
    pub route: Route,
    pub status: u16,
    pub outcome: Outcome,
}

impl Gateway {
    /// Responds to one request, whatever it is for.
    pub async fn answer(&self, session: &mut Session, writer: &ResponseWriter<'_>) {
        // Held until the response, which may be a refusal, is written.
        let permit = self.acquire_address_permit(writer);
        let (route, handled) = match &permit {
            Ok(_) => (route_of(&writer.head.endpoint), self.respond(session, writer).await),
            Err(TooMany { most }) => {
                let refusal = Refusal::TooManyConnections { most: *most };
                (Route::Other, Err(refusal.into()))
            }
        };
        let handled = match handled {
            Ok(handled) => handled,
            Err(rejection) => self.reject(session, writer, route, rejection).await,
        };
        let Handled { route, status, outcome } = handled;
        self.services.metrics.requests(route, status, outcome).increment(1);
    }

    /// Counts the request of a client behind a proxy as one of its connections: those of the proxy itself are not
    /// bounded.
    fn acquire_address_permit(
        &self,
        writer: &ResponseWriter<'_>,
    ) -> Result<Option<AddressPermit>, TooMany> {
        if !writer.head.forwarded {
            return Ok(None);
        }
        let permit = self.address_limit.connect(writer.head.address);
        permit.map(Some).ok_or(TooMany { most: self.address_limit.most() })
    }

    /// Boxed, so that a connection takes the memory of a call only while it has one.
    async fn respond(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
    ) -> Result<Handled, Rejection> {
        match &writer.head.endpoint {
            Endpoint::Call(surface) => Box::pin(self.call(*surface, session, writer)).await,
            Endpoint::StoredResponse(kept) => {
                Box::pin(self.stored_response(session, writer, kept)).await
            }
            Endpoint::InputTokens => Box::pin(self.input_tokens(session, writer)).await,
            Endpoint::Deferred(id) => Box::pin(self.deferred(session, writer, id)).await,
            Endpoint::Models(id, shape) => {
                Box::pin(self.models(session, writer, id.as_deref(), *shape)).await
            }
            Endpoint::Control => Ok(Box::pin(self.control_plane(session, writer)).await),
            Endpoint::Preflight => Ok(self.preflight(session, writer).await),
            Endpoint::WrongMethod { allow } => Err(Refusal::WrongMethod { allow }.into()),
            Endpoint::WebSocket => Err(Refusal::WebSocket.into()),
            Endpoint::Unknown => Err(no_such_route(session).into()),
        }
    }

    pub(crate) fn body_limits(&self, bytes: usize) -> call::read_body::BodyLimits {
        let Listener { body_timeout, body_rate, .. } = self.listener;
        call::read_body::BodyLimits { bytes, time: body_timeout, rate: body_rate }
    }

    pub(crate) fn current(&self) -> Arc<RoutingSnapshot> {
        self.current.load_full()
    }
}

/// Some clients put a key behind the question mark; it is not repeated.
fn no_such_route(session: &Session) -> Refusal {
    let path = session.target().split('?').next().unwrap_or_default();
    let path: String = path.chars().take(200).collect();
    Refusal::NoSuchRoute(format!("{} {path}", session.method()))
}

/// The label of an endpoint in metrics.
fn route_of(endpoint: &Endpoint) -> Route {
    match endpoint {
        Endpoint::Call(surface) => Route::Call(*surface),
        Endpoint::InputTokens => Route::Call(Surface::CountTokens),
        Endpoint::StoredResponse(_) => Route::StoredResponse,
        Endpoint::Deferred(_) => Route::DeferredCompletion,
        Endpoint::Models(..) => Route::Models,
        Endpoint::Control => Route::Control,
        Endpoint::Preflight
        | Endpoint::WrongMethod { .. }
        | Endpoint::WebSocket
        | Endpoint::Unknown => Route::Other,
    }
}
