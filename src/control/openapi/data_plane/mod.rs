//! The data plane's part of the OpenAPI document, as plain data: its routes are served by the data
//! plane itself, in the wire formats of OpenAI, Anthropic and xAI.

mod bodies;
mod routes;

use crate::control::api_error::ErrorBody;
use bodies::{
    ChatRequest, CompletionRequest, CountRequest, EmbeddingRequest, ImageRequest, MessageRequest,
    MessagesError, Model, Models, ResponseRequest, TokenizeRequest,
};
use serde_json::Value;
use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    ContentBuilder, HttpMethod, Object, OpenApi as Document, Ref, RefOr, Required, Response,
    ResponseBuilder, Schema, Type,
};
use utoipa::{OpenApi, PartialSchema, ToSchema};

/// Adds the data plane's routes.
#[must_use]
pub fn described(document: Document) -> Document {
    let mut document = document.merge_from(Schemas::openapi());
    for route in routes::ROUTES {
        if let (Some(schema), Some(components)) = (route.request, &mut document.components)
            && let Some(body) = components.schemas.get_mut(&schema())
        {
            with_ascii_names(body);
        }
        document.paths.add_path_operation(route.path, vec![route.method.into()], route.operation());
    }
    document
}

/// The schemas that the routes refer to.
#[derive(OpenApi)]
#[openapi(components(schemas(
    ChatRequest,
    ResponseRequest,
    CompletionRequest,
    EmbeddingRequest,
    ImageRequest,
    MessageRequest,
    CountRequest,
    TokenizeRequest,
    Models,
    Model,
    MessagesError
)))]
struct Schemas;

/// One route of the data plane.
struct Route {
    method: Method,
    path: &'static str,
    /// The `operationId`, which generated clients name their functions by.
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    path_id: Option<PathId>,
    /// The name of the request body's schema.
    request: Option<fn() -> String>,
    replies: &'static [Reply],
    errors: Errors,
}

/// The methods that the data plane has.
#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
    Delete,
}

impl From<Method> for HttpMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::Get,
            Method::Post => Self::Post,
            Method::Delete => Self::Delete,
        }
    }
}

/// The description and an example of the `{id}` of a path.
type PathId = (&'static str, &'static str);

/// A reply that is not an error of [`Errors`].
struct Reply {
    status: &'static str,
    description: &'static str,
    body: Body,
}

enum Body {
    Empty,
    /// JSON whose schema the upstream decides.
    Json,
    /// The same, or server-sent events.
    JsonOrEvents,
    Schema(fn() -> String),
}

/// Error statuses with their descriptions, and the schema of their bodies.
struct Errors {
    schema: fn() -> String,
    statuses: &'static [(&'static str, &'static str)],
}

impl Route {
    const fn new(method: Method, path: &'static str, id: &'static str) -> Self {
        let errors = Errors { schema: error_body, statuses: &[] };
        let (summary, description) = ("", "");
        Self {
            method,
            path,
            id,
            summary,
            description,
            path_id: None,
            request: None,
            replies: &[],
            errors,
        }
    }

    /// `description` may be empty.
    const fn described(mut self, summary: &'static str, description: &'static str) -> Self {
        self.summary = summary;
        self.description = description;
        self
    }

    const fn with_id(mut self, id: PathId) -> Self {
        self.path_id = Some(id);
        self
    }

    const fn with_body(mut self, schema: fn() -> String) -> Self {
        self.request = Some(schema);
        self
    }

    const fn replying(mut self, replies: &'static [Reply], errors: Errors) -> Self {
        self.replies = replies;
        self.errors = errors;
        self
    }

    fn operation(&self) -> Operation {
        let description = (!self.description.is_empty()).then_some(self.description);
        let mut operation = OperationBuilder::new()
            .operation_id(Some(self.id))
            .tag("Models")
            .summary(Some(self.summary))
            .description(description)
            .security(SecurityRequirement::new("key", Vec::<String>::new()));
        if let Some((description, example)) = self.path_id {
            operation = operation.parameter(path_id(description, example));
        }
        if let Some(schema) = self.request {
            let content = ContentBuilder::new().schema(Some(reference(schema))).build();
            let body = RequestBodyBuilder::new()
                .content("application/json", content)
                .required(Some(Required::True));
            operation = operation.request_body(Some(body.build()));
        }
        for reply in self.replies {
            operation = operation.response(reply.status, reply.response());
        }
        for (status, description) in self.errors.statuses {
            let content = ContentBuilder::new().schema(Some(reference(self.errors.schema))).build();
            let error = ResponseBuilder::new().description(*description);
            operation = operation.response(*status, error.content("application/json", content));
        }
        operation.build()
    }
}

impl Reply {
    fn response(&self) -> Response {
        let response = ResponseBuilder::new().description(self.description);
        let any = || ContentBuilder::new().schema(Some(Value::schema())).build();
        let text = || ContentBuilder::new().schema(Some(Object::with_type(Type::String))).build();
        match self.body {
            Body::Empty => response,
            Body::Json => response.content("application/json", any()),
            Body::JsonOrEvents => {
                response.content("application/json", any()).content("text/event-stream", text())
            }
            Body::Schema(schema) => {
                let content = ContentBuilder::new().schema(Some(reference(schema))).build();
                response.content("application/json", content)
            }
        }
        .build()
    }
}

fn path_id(description: &str, example: &str) -> Parameter {
    ParameterBuilder::new()
        .name("id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(Object::with_type(Type::String)))
        .example(Some(example.into()))
        .build()
}

/// Says of a request body that its fields have ASCII names: others could be mistaken for known ones.
fn with_ascii_names(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        let names = ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[\x00-\x7f]*$"));
        object.property_names = Some(Box::new(names.build().into()));
    }
}

fn reference(schema: fn() -> String) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(schema()))
}

/// The name of a schema among the document's components.
fn name<T: ToSchema>() -> String {
    T::name().into_owned()
}

/// Errors in OpenAI's shape.
fn error_body() -> String {
    name::<ErrorBody>()
}
