//! The simulator's own routes: the request log, its totals, the faults to apply, and its image.

use super::Simulator;
use crate::reply::non_text::{IMAGE_PATH, JPEG};
use crate::reply::{self, Content};
use http::request::Parts;
use http::{Method, Response, StatusCode};

impl Simulator {
    /// Handles a request to `/sim/`.
    pub(super) fn sim_route(&self, head: &Parts, body: &[u8]) -> Response<Content> {
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/sim/log") => {
                let last =
                    head.uri.query().and_then(|query| query.strip_prefix("last=")?.parse().ok());
                reply::text(self.log.json_lines(last.unwrap_or(usize::MAX)))
            }
            (&Method::GET, "/sim/stats") => {
                reply::text(serde_json::to_vec(&self.log.totals()).unwrap_or_default())
            }
            (&Method::GET, path) if path.starts_with(IMAGE_PATH) => reply::image(JPEG),
            (&Method::POST, "/sim/fault") => match String::from_utf8_lossy(body).parse() {
                Ok(faults) => {
                    let text = format!("{faults}\n");
                    self.set_faults(faults);
                    reply::text(text)
                }
                Err(unknown) => status(StatusCode::BAD_REQUEST, format!("{unknown}\n")),
            },
            _ => status(
                StatusCode::NOT_FOUND,
                "GET /sim/log?last=N, GET /sim/stats, POST /sim/fault\n".to_owned(),
            ),
        }
    }
}

fn status(status: StatusCode, text: String) -> Response<Content> {
    let mut reply = reply::text(text);
    *reply.status_mut() = status;
    reply
}
