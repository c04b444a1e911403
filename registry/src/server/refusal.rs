//! Error responses.

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::content::body::Body;

/// An error with its status, as the specification's "Error codes" define it.
pub(super) struct Refusal {
    status: StatusCode,
    pub(super) code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn answer(&self) -> Response<Body> {
        let body = json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]});
        respond(self.status, "application/json", Body::whole(body.to_string()))
    }
}

/// Returns a response with a body of this media type.
pub(super) fn respond(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}
