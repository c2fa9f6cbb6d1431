//! The stored response that a call continues from (`previous_response_id`).

use crate::gateway::Gateway;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::rejection::Rejection;
use crate::gateway::response::writer::ResponseWriter;
use domain::caller::Caller;
use domain::stored_response::StoredResponse;
use wire::request::Request;

impl Gateway {
    /// Finds the stored response that `request` continues from. Its upstream reads all of it again, so its tokens
    /// become part of the prompt.
    pub(crate) async fn previous_response(
        &self,
        caller: &Caller,
        request: &mut Request<'_>,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
    ) -> Result<Option<StoredResponse>, Rejection> {
        let Some(id) = &request.dependencies.previous_response else { return Ok(None) };
        let now = writer.head.admitted_at;
        let found = self.owners.owned_by(id, caller.user, now).await;
        let found = found.map_err(|_| Refusal::RepliesUnavailable)?;
        let mut previous = found.ok_or_else(|| Refusal::NoSuchPrevious(id.clone()))?;
        if previous.unsettled.is_some() {
            // To continue from it is to read it.
            Box::pin(self.settle_stored(session, writer, caller, &previous)).await?;
            let found = self.owners.owned_by(id, caller.user, now).await;
            previous = found.map_err(|_| Refusal::RepliesUnavailable)?.unwrap_or(previous);
        }
        request.prompt.size.previous_response_tokens = previous.tokens;
        Ok(Some(previous))
    }
}
