//! Replies of faults that replace the answer, and refusals of unsupported requests.

use crate::Simulator;
use crate::fault::{Break, Fault, Faults};
use crate::refusal::{Refusal, mask};
use crate::reply::responses;
use crate::reply::{self, Content};
use crate::request::ModelRequest;
use crate::routes::{ReplyError, Route, bearer};
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
    /// Refuses a request that an upstream with these faults does not support.
    pub(super) fn refuse_unsupported(
        &self,
        request: &ModelRequest,
        faults: &Faults,
    ) -> Result<(), Refusal> {
        if request.stream_options && faults.has(Fault::NoStreamOptions) {
            return Err(Refusal::StreamOptions);
        }
        let own = responses::seal(self.settings.seed);
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
        let in_band = faults.break_after().is_some_and(|(_, kind)| kind == Break::ErrorEvent);
        let stream = streamed.is_some();
        for fault in faults.iter() {
            let result = match fault {
                Fault::AccountError(account_error) => {
                    Err(Refusal::AccountError(account_error).into())
                }
                Fault::LeakyError => {
                    let key = bearer(headers).unwrap_or_default().to_owned();
                    Err(Refusal::LeakedSecrets { key }.into())
                }
                Fault::ErrorFirst => match streamed {
                    Some(route) => {
                        let event = route.event_of(&Refusal::InvalidArguments);
                        Ok(reply::events(&self.headers, id, Content::from(event)))
                    }
                    None => Err(Refusal::InvalidArguments.into()),
                },
                Fault::Status(status) => Err(Refusal::ForcedStatus(status).into()),
                Fault::TooMany(retry_after) => Err(Refusal::TooMany { retry_after }.into()),
                Fault::WrongKey => {
                    Err(Refusal::WrongKey { masked: mask(bearer(headers).unwrap_or_default()) }
                        .into())
                }
                Fault::RefuseHeaders => Err(ReplyError::ConnectionClosed),
                Fault::Html => Ok(reply::bad_gateway_page()),
                Fault::Empty if stream => Ok(reply::events(&self.headers, id, Content::from(""))),
                Fault::Empty => Ok(reply::json(&self.headers, id, "")),
                Fault::Error200 => {
                    Ok(reply::json(&self.headers, id, Refusal::ForcedStatus(503).json()))
                }
                Fault::ErrorEvent(_) if in_band && !stream => {
                    Ok(reply::json(&self.headers, id, Refusal::ForcedStatus(500).json()))
                }
                Fault::Garbage if !stream => {
                    Ok(reply::json(&self.headers, id, &b"\x00\x01 no json {"[..]))
                }
                _ => continue,
            };
            tokio::time::sleep(faults.slow_first_byte()).await;
            return result.map(Some);
        }
        Ok(None)
    }
}
