//! Routes a request and builds its reply.

use crate::answer::Answer;
use crate::bill::BillingTerms;
use crate::deferred_completions::DeferredCompletion;
use crate::fault::{Break, Fault, Faults};
use crate::model::Model;
use crate::pacing::{BatchedFrames, EventSource, PacedStream};
use crate::refusal::{Refusal, mask};
use crate::reply::chat::{self, ChatEvents, Envelope};
use crate::reply::completions::{self, CompletionEvents};
use crate::reply::messages::{self, MessageEvents};
use crate::reply::non_text;
use crate::reply::responses::{self, ResponsesEvents};
use crate::reply::{self, Content};
use crate::request::{self, ModelRequest};
use crate::request_log::{LogEntry, OpenEntry};
use crate::settings::Overrides;
use crate::socket::SocketControl;
use crate::surfaces::Surface;
use crate::{Simulator, corrupt, model};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use system::clock;

/// Request bodies above this many bytes are refused.
const BODY_LIMIT: usize = 64 << 20;

/// The most choices, images or embeddings of one reply.
const MAX_CHOICES: u32 = 2_048;

/// The routes that generate.
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

    pub(super) fn surface(self) -> Surface {
        match self {
            Self::Chat => Surface::Chat,
            Self::Responses => Surface::Responses,
            Self::Completions => Surface::Completions,
            Self::Messages | Self::CountTokens => Surface::Messages,
            Self::Embeddings => Surface::Embeddings,
            Self::Images => Surface::Images,
        }
    }

    fn read(self, body: &[u8]) -> Result<ModelRequest, request::InvalidBody> {
        match self {
            Self::Chat => request::chat::read(body),
            Self::Responses => request::responses::read(body),
            Self::Completions => request::completions::read(body),
            Self::Messages | Self::CountTokens => request::messages::read(body),
            Self::Embeddings => request::embeddings::read(body),
            Self::Images => request::images::read(body),
        }
    }
}

/// The reason there is no ordinary reply.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the simulator closed the connection without a response, as requested by a fault")]
    ConnectionClosed,
}

impl Simulator {
    /// Answers one request; an error closes the connection.
    pub async fn reply(
        &self,
        request: Request<Incoming>,
        control: SocketControl,
    ) -> Result<Response<Content>, ReplyError> {
        let (head, body) = request.into_parts();
        let body =
            Limited::new(body, BODY_LIMIT).collect().await.map(http_body_util::Collected::to_bytes);
        if head.uri.path().starts_with("/sim/") {
            return Ok(self.sim_route(&head, &body.unwrap_or_default()));
        }
        self.log.count_request();
        let id = self.request_ids.draw();
        let answered = match body {
            Ok(body) => self.api(&head, &body, &id, control).await,
            Err(_) => Err(Refusal::TooLarge.into()),
        };
        match answered {
            Err(ReplyError::Refused(refusal)) => Ok(reply::refusal(&self.headers, &id, &refusal)),
            other => other,
        }
    }

    async fn api(
        &self,
        head: &Parts,
        body: &[u8],
        id: &str,
        control: SocketControl,
    ) -> Result<Response<Content>, ReplyError> {
        self.authorise(&head.headers)?;
        let path = head.uri.path();
        let posted = Some(path).filter(|_| head.method == Method::POST);
        if let Some(route) = posted.and_then(Route::of) {
            self.require(route.surface())?;
            return self.complete(route, head, body, id, control).await;
        }
        if let Some(deferred) = path.strip_prefix("/v1/chat/deferred-completion/") {
            return Ok(self.fetch_deferred(deferred, id)?);
        }
        match (&head.method, path) {
            (&Method::POST, "/v1/tokenize-text") => {
                let asked = request::tokenize::read(body).map_err(Refusal::from)?;
                self.model(&asked.model)?;
                Ok(reply::json(&self.headers, id, non_text::tokens(&asked.text)))
            }
            (method, path) => {
                let overrides = Overrides::new(&self.settings, self.faults(), &head.headers, "")
                    .map_err(Refusal::from)?;
                let fault_reply =
                    self.fault_reply(&overrides.faults, None, id, &head.headers).await?;
                if let Some(reply) = fault_reply {
                    return Ok(reply);
                }
                let query = head.uri.query().unwrap_or_default();
                let json = self.find_object(method, path, query).ok_or(Refusal::UnknownRoute)??;
                Ok(reply::json(&self.headers, id, json))
            }
        }
    }

    fn require(&self, surface: Surface) -> Result<(), Refusal> {
        let is_offered = self.settings.surfaces.offers(surface);
        if is_offered { Ok(()) } else { Err(Refusal::NotOffered) }
    }

    fn authorise(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let key = bearer(headers).ok_or(Refusal::NoKey)?;
        match &self.settings.key {
            Some(right) if right != key => Err(Refusal::WrongKey { masked: mask(key) }),
            _ => Ok(()),
        }
    }

    /// Reads a model or a stored response; `None` for an unknown route.
    fn find_object(
        &self,
        method: &Method,
        path: &str,
        query: &str,
    ) -> Option<Result<Bytes, Refusal>> {
        let path = path.strip_prefix("/v1/")?;
        if let Some(id) = path.strip_prefix("responses/") {
            if let Err(refusal) = self.require(Surface::Responses) {
                return Some(Err(refusal));
            }
            let (id, rest) = id.split_once('/').unwrap_or((id, ""));
            let unknown = || Refusal::UnknownResponse(id.to_owned());
            return match (method, rest) {
                (&Method::GET, "") | (&Method::POST, "cancel") => {
                    Some(self.stored.get(id, clock::instant()).ok_or_else(unknown))
                }
                (&Method::GET, "input_items") => {
                    Some(self.stored.input_items(id, query).ok_or_else(unknown))
                }
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
        control: SocketControl,
    ) -> Result<Response<Content>, ReplyError> {
        let request = route.read(body).map_err(Refusal::from)?;
        let overrides =
            Overrides::new(&self.settings, self.faults(), &head.headers, &request.last_user_text);
        let overrides = overrides.map_err(Refusal::from)?;
        let streamed = Some(route).filter(|_| request.stream);
        control.send_interim(overrides.faults.interim());
        if let Some(reply) =
            self.fault_reply(&overrides.faults, streamed, id, &head.headers).await?
        {
            return Ok(reply);
        }
        if request.choices > MAX_CHOICES {
            return Err(Refusal::AnswerTooLarge.into());
        }
        self.refuse_unsupported(route, &request, &overrides)?;
        let answer = self.answer(route, &request, &overrides)?;
        if route == Route::CountTokens {
            let count = messages::token_count(answer.billed_usage.prompt);
            return Ok(reply::json(&self.headers, id, count));
        }
        let entry = entry(route, &head.headers, id, &request, &answer, &overrides.faults);
        let goes_on = !request.stream || is_stored(route, &request, &overrides.faults);
        let terms = BillingTerms { model: self.model(&request.model)?.clone(), goes_on };
        let open_entry = self.log.begin(entry, terms);
        tokio::time::sleep(overrides.faults.slow_first_byte()).await;
        let mut reply = self
            .send_answer(route, answer, (id, head), (&request, &overrides), open_entry, control)
            .await;
        if overrides.faults.has(Fault::LeakyHeaders) {
            reply::leak(&mut reply);
        }
        Ok(if overrides.faults.has(Fault::Gzip) { reply::gzipped(reply) } else { reply })
    }

    /// Builds the reply that carries an answer.
    async fn send_answer(
        &self,
        route: Route,
        answer: Answer,
        (id, head): (&str, &Parts),
        (request, overrides): (&ModelRequest, &Overrides),
        open_entry: OpenEntry,
        control: SocketControl,
    ) -> Response<Content> {
        let own = overrides.faults.short_id().unwrap_or_else(|| id.to_owned());
        let (now, duration) = (clock::now(), overrides.duration(answer.words));
        let done_at = clock::instant() + duration;
        let completed = now.saturating_add(duration).unwrap_or(now).as_second();
        let envelope = Envelope { id: own, created: now.as_second(), completed };
        if is_stored(route, request, &overrides.faults) {
            self.stored.insert(&envelope, &answer, &request.input, done_at);
        }
        if route == Route::Chat && request.deferred {
            let body = chat::completion(&answer, &envelope).into();
            self.deferred.insert(&envelope.id, DeferredCompletion { body, ready_at: done_at });
            let body = serde_json::json!({"request_id": envelope.id}).to_string();
            // It is generated and billed whether or not it is ever fetched.
            let body = Content::recorded(body, open_entry, answer.visible());
            return reply::json(&self.headers, id, body);
        }
        if request.stream {
            let events = events(route, answer, &envelope, request, &overrides.faults);
            let paced =
                PacedStream::new(events, overrides, self.settings.coalesce, open_entry, control);
            return reply::events(&self.headers, id, Content::streamed(paced.into_frames()));
        }
        let wait = overrides.duration(answer.words);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let body = body(route, &answer, &envelope, request, self.host(head));
        let content = whole_body(body, answer.visible(), overrides, open_entry, control);
        reply::json(&self.headers, id, content)
    }

    /// The simulator's address as the client names it.
    fn host<'a>(&'a self, head: &'a Parts) -> &'a str {
        let named = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        named.filter(|host| host.parse::<Authority>().is_ok()).unwrap_or(&self.address)
    }

    /// Returns a deferred completion, once.
    fn fetch_deferred(&self, deferred: &str, id: &str) -> Result<Response<Content>, Refusal> {
        match self.deferred.fetch(deferred, clock::instant()) {
            None => Err(Refusal::UnknownResponse(deferred.to_owned())),
            Some(None) => {
                let mut reply = reply::json(&self.headers, id, "");
                *reply.status_mut() = StatusCode::ACCEPTED;
                Ok(reply)
            }
            Some(Some(DeferredCompletion { body, .. })) => Ok(reply::json(&self.headers, id, body)),
        }
    }

    pub(super) fn model(&self, name: &str) -> Result<&Model, Refusal> {
        model::find(&self.models, name).ok_or_else(|| Refusal::UnknownModel(name.to_owned()))
    }

    fn answer(
        &self,
        route: Route,
        request: &ModelRequest,
        overrides: &Overrides,
    ) -> Result<Answer, Refusal> {
        let context = match &request.previous_response {
            Some(id) => {
                let context = self.stored.context(id);
                context.ok_or_else(|| Refusal::UnknownResponse(id.clone()))?
            }
            None => 0,
        };
        let model = self.model(&request.model)?;
        let overhead = match route {
            Route::Embeddings | Route::Images => 0,
            _ => self.settings.prompt_overhead,
        };
        let mut answer =
            Answer::new(request, model, overrides, self.settings.seed, overhead + context);
        if route == Route::Images {
            answer.price_images();
        }
        if answer.is_too_long() {
            return Err(Refusal::AnswerTooLarge);
        }
        Ok(answer)
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// True if the response is stored, and so generated to its end even if the connection is closed.
fn is_stored(route: Route, request: &ModelRequest, faults: &Faults) -> bool {
    let fails = faults.break_after().is_some_and(|(_, kind)| kind == Break::ErrorEvent);
    route == Route::Responses && request.store && !fails
}

fn entry(
    route: Route,
    headers: &HeaderMap,
    id: &str,
    request: &ModelRequest,
    answer: &Answer,
    faults: &Faults,
) -> LogEntry {
    let client_id = headers.get("x-request-id").or_else(|| headers.get("x-client-request-id"));
    LogEntry {
        request: client_id.and_then(|id| id.to_str().ok()).map(str::to_owned),
        sim_id: id.to_owned(),
        surface: route.surface().name(),
        model: answer.model.clone(),
        stream: request.stream,
        deferred: request.deferred,
        continues: request.previous_response.is_some(),
        prompt: answer.billed_usage.prompt,
        cached: answer.billed_usage.cached,
        completion: answer.billed_usage.completion,
        reasoning: answer.billed_usage.reasoning,
        cost_ticks: answer.billed_usage.cost_ticks,
        fault: (!faults.is_empty()).then(|| faults.to_string()),
        ..LogEntry::default()
    }
}

fn events(
    route: Route,
    answer: Answer,
    envelope: &Envelope,
    request: &ModelRequest,
    faults: &Faults,
) -> Box<dyn EventSource> {
    match route {
        Route::Chat => Box::new(ChatEvents::new(answer, envelope, request.include_usage, faults)),
        Route::Completions => {
            Box::new(CompletionEvents::new(answer, envelope, request.include_usage))
        }
        Route::Messages => Box::new(MessageEvents::new(&answer, envelope)),
        // The other routes do not stream, whatever the request.
        _ => Box::new(ResponsesEvents::new(&answer, envelope)),
    }
}

/// The body of a whole reply.
fn body(
    route: Route,
    answer: &Answer,
    envelope: &Envelope,
    request: &ModelRequest,
    host: &str,
) -> String {
    match route {
        Route::Chat => chat::completion(answer, envelope),
        Route::Responses => responses::response(answer, envelope),
        Route::Completions => completions::completion(answer, envelope),
        Route::Messages | Route::CountTokens => messages::message(answer, envelope),
        Route::Embeddings => non_text::embeddings(answer, request.in_base64),
        Route::Images => non_text::images(answer, envelope, request.in_base64, host),
    }
}

/// A body in one piece. Under faults it goes out in pieces and without a length, so that each of them can be the last.
fn whole_body(
    body: String,
    tokens: u64,
    overrides: &Overrides,
    open_entry: OpenEntry,
    control: SocketControl,
) -> Content {
    if overrides.faults.is_empty() {
        return Content::recorded(body, open_entry, tokens);
    }
    let body = corrupt::body(body.as_bytes(), &overrides.faults);
    let frames = Box::new(BatchedFrames::new(&body, tokens));
    let overrides = Overrides { faults: overrides.faults.for_body(), ..overrides.clone() };
    Content::streamed(PacedStream::new(frames, &overrides, 0, open_entry, control).into_frames())
}
