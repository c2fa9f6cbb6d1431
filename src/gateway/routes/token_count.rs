//! Counts the tokens of a request with the gateway's own tokenizer: `POST /v1/responses/input_tokens`, and
//! `POST /v1/messages/count_tokens` for models whose upstreams do not offer it. Nothing is charged, and no request
//! of the caller's window is taken: agents count some twenty times at once.

use crate::gateway::call::prompt_count;
use crate::gateway::call::read_body::{self, on_body};
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::rejection::Rejection;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, Handled};
use crate::upstream::catalog::Catalog;
use domain::caller::Caller;
use telemetry::labels::{Outcome, Route};
use wire::request::Request;
use wire::surface::Surface;

impl Gateway {
    /// Responds to `POST /v1/responses/input_tokens`.
    pub(crate) async fn input_tokens(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
    ) -> Result<Handled, Rejection> {
        let caller = self.up_to_date_caller(session, writer).await?;
        let current = self.current();
        let surface = Surface::CountTokens;
        let (body, _permit) = self.read_body(surface, &caller, session, writer, &current).await?;
        let mut request = read_body::parse(Surface::Responses, &body)?;
        self.previous_response(&caller, &mut request, session, writer).await?;
        let catalog = &current.upstreams.catalog;
        let tokens = self.count(&request, &caller, body.len(), catalog, session).await?;
        let body = format!("{{\"object\":\"response.input_tokens\",\"input_tokens\":{tokens}}}");
        reply(session, writer, body).await
    }

    /// Responds to `POST /v1/messages/count_tokens` without an upstream.
    pub(crate) async fn count_tokens(
        &self,
        body: &[u8],
        caller: &Caller,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
    ) -> Result<Handled, Rejection> {
        let mut request = read_body::parse(Surface::CountTokens, body)?;
        // A count bills no prompt, so on its own surface the prompt comes to nothing.
        request.surface = Surface::Messages;
        let catalog = &self.current().upstreams.catalog;
        let tokens = self.count(&request, caller, body.len(), catalog, session).await?;
        reply(session, writer, format!("{{\"input_tokens\":{tokens}}}")).await
    }

    async fn count(
        &self,
        request: &Request<'_>,
        caller: &Caller,
        bytes: usize,
        catalog: &Catalog,
        session: &mut Session,
    ) -> Result<u64, Rejection> {
        let name = &*request.model;
        let model = catalog.model(name).ok_or_else(|| Refusal::UnknownModel(name.to_owned()))?;
        if !caller.may_use(&model.id) {
            return Err(Refusal::ModelNotAllowed(name.to_owned()).into());
        }
        // Counts are not metered, so all of them take turns, short ones too. A client that disconnects leaves the queue.
        let _turn = tokio::select! {
            biased;
            () = session.caller_gone() => return Err(Rejection::CallerGone),
            turn = self.counting.turn(caller.user) => turn?,
        };
        Ok(on_body(bytes, || prompt_count::exact_prompt(request, model)))
    }
}

/// True if an upstream of the model counts tokens itself.
pub(crate) fn is_counted_upstream(catalog: &Catalog, model: &str) -> bool {
    let routes = catalog.model(model).into_iter().flat_map(|model| &model.routes);
    routes.into_iter().any(|route| route.offers(Surface::CountTokens))
}

async fn reply(
    session: &mut Session,
    writer: &ResponseWriter<'_>,
    body: String,
) -> Result<Handled, Rejection> {
    let head = writer.head(200, writer.elapsed());
    let _ = writer.json(session, head, body.into()).await;
    Ok(Handled { route: Route::Call(Surface::CountTokens), status: 200, outcome: Outcome::Ok })
}
