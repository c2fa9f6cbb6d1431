//! Replies of those faults that leave no answer at all, and of upstreams that do not take a request.

use super::ask::Ask;
use super::fault::{Break, Fault, Faults};
use super::refusal::{Refusal, masked};
use super::reply::{self, Content};
use super::routes::{NoAnswer, Route, bearer};
use super::{Simulator, responses};
use http::{HeaderMap, Response};

impl Route {
    /// A refusal as the first event of a stream.
    fn event_of(self, refusal: &Refusal) -> String {
        match self {
            Self::Responses => refusal.responses_event(),
            Self::Messages => refusal.messages_event(),
            _ => refusal.chat_event(),
        }
    }
}

impl Simulator {
    /// Refuses what an upstream with these faults does not take.
    pub(super) fn refuse_unsupported(&self, ask: &Ask, faults: &Faults) -> Result<(), Refusal> {
        if ask.stream_options && faults.has(Fault::NoStreamOptions) {
            return Err(Refusal::StreamOptions);
        }
        let own = responses::seal(self.settings.seed);
        if faults.has(Fault::Sealed) && ask.seals.iter().any(|seal| !seal.starts_with(&own)) {
            return Err(Refusal::ForeignSeal);
        }
        Ok(())
    }

    /// The reply of those faults that leave no answer at all.
    pub(super) async fn spoilt(
        &self,
        faults: &Faults,
        streamed: Option<Route>,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Response<Content>>, NoAnswer> {
        let in_band = faults.break_after().is_some_and(|(_, kind)| kind == Break::ErrorEvent);
        let stream = streamed.is_some();
        for fault in faults.iter() {
            let result = match fault {
                Fault::Trouble(trouble) => Err(Refusal::Trouble(trouble).into()),
                Fault::LeakyError => {
                    let key = bearer(headers).unwrap_or_default().to_owned();
                    Err(Refusal::Leaky { key }.into())
                }
                Fault::ErrorFirst => match streamed {
                    Some(route) => {
                        let event = route.event_of(&Refusal::InvalidArguments);
                        Ok(reply::events(&self.headers, id, Content::from(event)))
                    }
                    None => Err(Refusal::InvalidArguments.into()),
                },
                Fault::Status(status) => Err(Refusal::Ordered(status).into()),
                Fault::TooMany(retry_after) => Err(Refusal::TooMany { retry_after }.into()),
                Fault::WrongKey => {
                    Err(Refusal::WrongKey { masked: masked(bearer(headers).unwrap_or_default()) }
                        .into())
                }
                Fault::RefuseHeaders => Err(NoAnswer::HungUp),
                Fault::Html => Ok(reply::bad_gateway_page()),
                Fault::Empty if stream => Ok(reply::events(&self.headers, id, Content::from(""))),
                Fault::Empty => Ok(reply::json(&self.headers, id, "")),
                Fault::Error200 => Ok(reply::json(&self.headers, id, Refusal::Ordered(503).json())),
                Fault::ErrorEvent(_) if in_band && !stream => {
                    Ok(reply::json(&self.headers, id, Refusal::Ordered(500).json()))
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
