//! `OPTIONS` below `/v1`: a browser asks what it may send.

use crate::gateway::call::end::outcome_of_http;
use crate::gateway::listener::session::Session;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, Handled, headers};
use bytes::Bytes;
use http::header;
use telemetry::labels::Route;

impl Gateway {
    pub(crate) async fn preflight(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
    ) -> Handled {
        let mut head = writer.head(204, writer.elapsed());
        let requested_headers = session.header(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        headers::add_preflight(&mut head, requested_headers.as_ref());
        let _ = session.reply(head, Bytes::new()).await;
        Handled { route: Route::Other, status: 204, outcome: outcome_of_http(204) }
    }
}
