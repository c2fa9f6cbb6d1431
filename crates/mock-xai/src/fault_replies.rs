//! Replies of faults that replace the answer, and refusals of unsupported requests.

use crate::Simulator;
use crate::fault::{Break, Fault, Faults};
use crate::refusal::{Refusal, mask};
use crate::reply::{self, Content};
use crate::request::ModelRequest;
use crate::routes::{ReplyError, Route, bearer};
use crate::settings::Overrides;
use crate::stored_responses;
use crate::strictness;
use http::{HeaderMap, Response};

impl Route {
    /// The refusal as the first event of a stream.
    fn event_of(self, refusal: &Refusal) -> String {
        match self {
            Self::Responses => refusal.responses_event(),
            Self::Messages => refusal.messages_event(),
            _ => refusal.chat_event(),
        }
    }
}

impl Simulator {
    /// Refuses a request that xAI, or an upstream with these faults, does not support.
    pub(super) fn refuse_unsupported(
        &self,
        route: Route,
        request: &ModelRequest,
        overrides: &Overrides,
    ) -> Result<(), Refusal> {
        let faults = &overrides.faults;
        if !overrides.is_lenient {
            strictness::check(route.surface(), request, self.model(&request.model)?)?;
        }
        if request.stream_options && faults.has(Fault::NoStreamOptions) {
            return Err(Refusal::StreamOptions);
        }
        let own = stored_responses::seal(self.settings.seed);
        if faults.has(Fault::Sealed) && request.seals.iter().any(|seal| !seal.starts_with(&own)) {
            return Err(Refusal::ForeignSeal);
        }
        Ok(())
    }

    /// The reply of the first fault that replaces the answer.
    pub(super) async fn fault_reply(
        &self,
        faults: &Faults,
        streamed: Option<Route>,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Response<Content>>, ReplyError> {
        for fault in faults.iter() {
            let result = match refusal(fault, streamed, headers) {
                Some(refusal) => Err(refusal.into()),
                None if fault == Fault::RefuseHeaders => Err(ReplyError::ConnectionClosed),
                None => match self.broken_reply(fault, faults, streamed, id) {
                    Some(reply) => Ok(reply),
                    None => continue,
                },
            };
            tokio::time::sleep(faults.slow_first_byte()).await;
            return result.map(Some);
        }
        Ok(None)
    }

    /// The reply that `fault` puts in place of the answer, if it does.
    fn broken_reply(
        &self,
        fault: Fault,
        faults: &Faults,
        streamed: Option<Route>,
        id: &str,
    ) -> Option<Response<Content>> {
        let in_band = faults.break_after().is_some_and(|(_, kind)| kind == Break::ErrorEvent);
        let events = |body: String| reply::events(&self.headers, id, Content::from(body));
        let status = |status| reply::json(&self.headers, id, Refusal::ForcedStatus(status).json());
        match (fault, streamed) {
            (Fault::ErrorFirst, Some(route)) => {
                Some(events(route.event_of(&Refusal::InvalidArguments)))
            }
            (Fault::Html, _) => Some(reply::bad_gateway_page()),
            (Fault::Empty, Some(_)) => Some(events(String::new())),
            (Fault::Empty, None) => Some(reply::json(&self.headers, id, "")),
            (Fault::Error200, _) => Some(status(503)),
            (Fault::ErrorEvent(_), None) if in_band => Some(status(500)),
            (Fault::Garbage, None) => {
                Some(reply::json(&self.headers, id, &b"\x00\x01 no json {"[..]))
            }
            _ => None,
        }
    }
}

/// The refusal that `fault` puts in place of the answer, if it does.
fn refusal(fault: Fault, streamed: Option<Route>, headers: &HeaderMap) -> Option<Refusal> {
    let key = || bearer(headers).unwrap_or_default();
    match fault {
        Fault::AccountError(account_error) => Some(Refusal::AccountError(account_error)),
        Fault::LeakyError => Some(Refusal::LeakedSecrets { key: key().to_owned() }),
        Fault::PromptTooLong => Some(Refusal::PromptTooLong),
        Fault::ForbiddenPrompt => Some(Refusal::ForbiddenPrompt),
        Fault::ContentPolicy => Some(Refusal::ContentPolicy),
        Fault::ErrorFirst if streamed.is_none() => Some(Refusal::InvalidArguments),
        Fault::Status(status) => Some(Refusal::ForcedStatus(status)),
        Fault::TooMany(retry_after) => Some(Refusal::TooMany { retry_after }),
        Fault::WrongKey => Some(Refusal::WrongKey { masked: mask(key()) }),
        _ => None,
    }
}
