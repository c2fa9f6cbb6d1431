//! From request to reply.

use super::answer::Answer;
use super::ask::{self, Ask};
use super::bill::Terms;
use super::chat::{self, ChatEvents, Envelope};
use super::completions::{self, CompletionEvents};
use super::deferred::Waiting;
use super::delivery::{Delivery, Events, Halves};
use super::fault::{Break, Fault, Faults};
use super::messages::{self, MessageEvents};
use super::model::Model;
use super::refusal::{Refusal, masked};
use super::reply::{self, Content};
use super::responses::{self, ResponsesEvents};
use super::settings::Steer;
use super::socket::Wire;
use super::truth::{Entry, Tally};
use super::{Simulator, asks, model, plain, spoil};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use system::clock;

/// Bodies above this are refused, as everywhere.
const BODY_LIMIT: usize = 64 << 20;

/// The ways to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Responses,
    Completions,
    Messages,
    CountTokens,
    Embeddings,
    Images,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/responses" => Self::Responses,
            "/v1/completions" => Self::Completions,
            "/v1/messages" => Self::Messages,
            "/v1/messages/count_tokens" => Self::CountTokens,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/images/generations" => Self::Images,
            _ => return None,
        })
    }

    /// As the log names it.
    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Messages | Self::CountTokens => "messages",
            Self::Embeddings => "embeddings",
            Self::Images => "images",
        }
    }

    fn read(self, body: &[u8]) -> Result<Ask, ask::Unreadable> {
        match self {
            Self::Chat => ask::chat(body),
            Self::Responses => ask::responses(body),
            Self::Completions => asks::completions(body),
            Self::Messages | Self::CountTokens => asks::messages(body),
            Self::Embeddings => asks::embeddings(body),
            Self::Images => asks::images(body),
        }
    }
}

/// Why there is no reply of the usual kind.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the simulator closed the connection without a response, as requested by a fault")]
    HungUp,
}

impl Simulator {
    /// Answers one request; an error closes the connection.
    pub async fn reply(
        &self,
        request: Request<Incoming>,
        wire: Wire,
    ) -> Result<Response<Content>, NoAnswer> {
        let (head, body) = request.into_parts();
        let body =
            Limited::new(body, BODY_LIMIT).collect().await.map(http_body_util::Collected::to_bytes);
        if head.uri.path().starts_with("/sim/") {
            return Ok(self.inspect(&head, &body.unwrap_or_default()));
        }
        self.truth.asked();
        let id = self.ids.draw();
        let answered = match body {
            Ok(body) => self.api(&head, &body, &id, wire).await,
            Err(_) => Err(Refusal::TooLarge.into()),
        };
        match answered {
            Err(NoAnswer::Refused(refusal)) => Ok(reply::refusal(&self.headers, &id, &refusal)),
            other => other,
        }
    }

    async fn api(
        &self,
        head: &Parts,
        body: &[u8],
        id: &str,
        wire: Wire,
    ) -> Result<Response<Content>, NoAnswer> {
        self.authorise(&head.headers)?;
        let path = head.uri.path();
        let posted = Some(path).filter(|_| head.method == Method::POST);
        if let Some(route) = posted.and_then(Route::of) {
            return self.complete(route, head, body, id, wire).await;
        }
        if let Some(deferred) = path.strip_prefix("/v1/chat/deferred-completion/") {
            return Ok(self.fetch(deferred, id)?);
        }
        match (&head.method, path) {
            (&Method::POST, "/v1/tokenize-text") => {
                let asked = asks::tokenize(body).map_err(Refusal::from)?;
                self.model(&asked.model)?;
                Ok(reply::json(&self.headers, id, plain::tokens(&asked.text)))
            }
            (method, path) => {
                let steer = Steer::new(&self.settings, self.faults(), &head.headers, "")
                    .map_err(Refusal::from)?;
                let spoilt = self.spoilt(&steer.faults, None, id, &head.headers).await?;
                if let Some(reply) = spoilt {
                    return Ok(reply);
                }
                let json = self.look_up(method, path).ok_or(Refusal::UnknownRoute)??;
                Ok(reply::json(&self.headers, id, json))
            }
        }
    }

    fn authorise(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let key = bearer(headers).ok_or(Refusal::NoKey)?;
        match &self.settings.key {
            Some(right) if right != key => Err(Refusal::WrongKey { masked: masked(key) }),
            _ => Ok(()),
        }
    }

    /// What is there to read; `None` for no such route.
    fn look_up(&self, method: &Method, path: &str) -> Option<Result<Bytes, Refusal>> {
        let path = path.strip_prefix("/v1/")?;
        if let Some(id) = path.strip_prefix("responses/") {
            let (id, rest) = id.split_once('/').unwrap_or((id, ""));
            let unknown = || Refusal::UnknownResponse(id.to_owned());
            return match (method, rest) {
                (&Method::GET, "") | (&Method::POST, "cancel") => {
                    Some(self.stored.get(id, clock::instant()).ok_or_else(unknown))
                }
                (&Method::GET, "input_items") => Some(
                    self.stored
                        .get(id, clock::instant())
                        .map(|_| responses::no_items())
                        .ok_or_else(unknown),
                ),
                (&Method::DELETE, "") => Some(self.stored.delete(id).ok_or_else(unknown)),
                _ => None,
            };
        }
        if *method != Method::GET {
            return None;
        }
        match path {
            "models" => Some(Ok(model::list_json(&self.models).into())),
            "language-models" => Some(Ok(model::priced_list_json(&self.models).into())),
            _ => {
                let name = path.strip_prefix("models/")?;
                let model = model::find(&self.models, name).map(|model| model.json().into());
                Some(model.ok_or_else(|| Refusal::UnknownModel(name.to_owned())))
            }
        }
    }

    async fn complete(
        &self,
        route: Route,
        head: &Parts,
        body: &[u8],
        id: &str,
        wire: Wire,
    ) -> Result<Response<Content>, NoAnswer> {
        let ask = route.read(body).map_err(Refusal::from)?;
        let steer = Steer::new(&self.settings, self.faults(), &head.headers, &ask.last_user_text);
        let steer = steer.map_err(Refusal::from)?;
        let streamed = Some(route).filter(|_| ask.stream);
        wire.send_interim(steer.faults.interim());
        if let Some(reply) = self.spoilt(&steer.faults, streamed, id, &head.headers).await? {
            return Ok(reply);
        }
        self.refuse_unsupported(&ask, &steer.faults)?;
        let answer = self.answer(route, &ask, &steer)?;
        if route == Route::CountTokens {
            let count = messages::token_count(answer.truth.prompt);
            return Ok(reply::json(&self.headers, id, count));
        }
        let entry = entry(route, &head.headers, id, &ask, &answer, &steer.faults);
        let goes_on = !ask.stream || stays(route, &ask, &steer.faults);
        let terms = Terms { model: self.model(&ask.model)?.clone(), goes_on };
        let tally = self.truth.begin(entry, terms);
        tokio::time::sleep(steer.faults.slow_first_byte()).await;
        let mut reply = self.give(route, answer, id, (&ask, &steer), tally, wire).await;
        if steer.faults.has(Fault::LeakyHeaders) {
            reply::leak(&mut reply);
        }
        Ok(if steer.faults.has(Fault::Gzip) { reply::gzipped(reply) } else { reply })
    }

    /// The reply that carries an answer.
    async fn give(
        &self,
        route: Route,
        answer: Answer,
        id: &str,
        (ask, steer): (&Ask, &Steer),
        tally: Tally,
        wire: Wire,
    ) -> Response<Content> {
        let own = steer.faults.short_id().unwrap_or_else(|| id.to_owned());
        let envelope = Envelope { id: own, created: clock::now().as_second() };
        let done_at = clock::instant() + steer.duration(answer.words);
        if stays(route, ask, &steer.faults) {
            self.stored.keep(&envelope, &answer, done_at);
        }
        if route == Route::Chat && ask.deferred {
            let body = chat::completion(&answer, &envelope).into();
            self.deferred.keep(&envelope.id, Waiting { body, ready_at: done_at });
            let told = serde_json::json!({"request_id": envelope.id}).to_string();
            // It is generated and billed whether or not it is ever fetched.
            let told = Content::told(told, tally, answer.visible());
            return reply::json(&self.headers, id, told);
        }
        if ask.stream {
            let events = events(route, answer, &envelope, ask, &steer.faults);
            let delivery = Delivery::new(events, steer, self.settings.coalesce, tally, wire);
            return reply::events(&self.headers, id, Content::streamed(delivery.into_frames()));
        }
        let content = whole(route, &answer, &envelope, (ask, steer), tally, wire).await;
        reply::json(&self.headers, id, content)
    }

    /// Gives a kept completion away, once.
    fn fetch(&self, deferred: &str, id: &str) -> Result<Response<Content>, Refusal> {
        match self.deferred.fetch(deferred, clock::instant()) {
            None => Err(Refusal::UnknownResponse(deferred.to_owned())),
            Some(None) => {
                let mut reply = reply::json(&self.headers, id, "");
                *reply.status_mut() = StatusCode::ACCEPTED;
                Ok(reply)
            }
            Some(Some(Waiting { body, .. })) => Ok(reply::json(&self.headers, id, body)),
        }
    }

    fn model(&self, name: &str) -> Result<&Model, Refusal> {
        model::find(&self.models, name).ok_or_else(|| Refusal::UnknownModel(name.to_owned()))
    }

    fn answer(&self, route: Route, ask: &Ask, steer: &Steer) -> Result<Answer, Refusal> {
        let context = match &ask.previous_response {
            Some(id) => {
                let context = self.stored.context(id);
                context.ok_or_else(|| Refusal::UnknownResponse(id.clone()))?
            }
            None => 0,
        };
        let model = self.model(&ask.model)?;
        let overhead = match route {
            Route::Embeddings | Route::Images => 0,
            _ => self.settings.prompt_overhead,
        };
        let mut answer = Answer::new(ask, model, steer, self.settings.seed, overhead + context);
        if route == Route::Images {
            answer.price_images();
        }
        Ok(answer)
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Whether a response is kept, and so is generated to its end whatever becomes of its connection.
fn stays(route: Route, ask: &Ask, faults: &Faults) -> bool {
    let fails = faults.break_after().is_some_and(|(_, kind)| kind == Break::ErrorEvent);
    route == Route::Responses && ask.store && !fails
}

fn entry(
    route: Route,
    headers: &HeaderMap,
    id: &str,
    ask: &Ask,
    answer: &Answer,
    faults: &Faults,
) -> Entry {
    let request = headers.get("x-request-id").or_else(|| headers.get("x-client-request-id"));
    Entry {
        request: request.and_then(|id| id.to_str().ok()).map(str::to_owned),
        sim_id: id.to_owned(),
        surface: route.name(),
        model: answer.model.clone(),
        stream: ask.stream,
        deferred: ask.deferred,
        continues: ask.previous_response.is_some(),
        prompt: answer.truth.prompt,
        cached: answer.truth.cached,
        completion: answer.truth.completion,
        reasoning: answer.truth.reasoning,
        cost_ticks: answer.truth.cost_ticks,
        fault: (!faults.is_empty()).then(|| faults.to_string()),
        ..Entry::default()
    }
}

fn events(
    route: Route,
    answer: Answer,
    envelope: &Envelope,
    ask: &Ask,
    faults: &Faults,
) -> Box<dyn Events> {
    match route {
        Route::Chat => Box::new(ChatEvents::new(answer, envelope, ask.include_usage, faults)),
        Route::Completions => Box::new(CompletionEvents::new(answer, envelope, ask.include_usage)),
        Route::Messages => Box::new(MessageEvents::new(&answer, envelope)),
        // The others do not stream, whatever is asked of them.
        _ => Box::new(ResponsesEvents::new(&answer, envelope)),
    }
}

/// A body in one piece, after the time its tokens take. Under faults it goes out in pieces and
/// without a length, so that each of them can be the last.
async fn whole(
    route: Route,
    answer: &Answer,
    envelope: &Envelope,
    (ask, steer): (&Ask, &Steer),
    tally: Tally,
    wire: Wire,
) -> Content {
    let wait = steer.duration(answer.words);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let body = match route {
        Route::Chat => chat::completion(answer, envelope),
        Route::Responses => responses::response(answer, envelope),
        Route::Completions => completions::completion(answer, envelope),
        Route::Messages | Route::CountTokens => messages::message(answer, envelope),
        Route::Embeddings => plain::embeddings(answer, ask.in_base64),
        Route::Images => plain::images(answer, envelope),
    };
    if steer.faults.is_empty() {
        return Content::told(body, tally, answer.visible());
    }
    let body = spoil::body(body.as_bytes(), &steer.faults);
    let halves = Box::new(Halves::new(&body, answer.visible()));
    let steer = Steer { faults: steer.faults.for_body(), ..steer.clone() };
    Content::streamed(Delivery::new(halves, &steer, 0, tally, wire).into_frames())
}
