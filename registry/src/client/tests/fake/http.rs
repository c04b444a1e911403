//! The HTTP side of the registry: reads requests, and answers them well or badly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::registry::Landing;
use super::{Act, Got, Instead, Shared};

/// Serves a connection until the client or a fault closes it.
pub(super) async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Shared) {
    let service = service_fn(move |request| answer(request, shared.clone()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: Shared) -> io::Result<Response<Whole>> {
    let (head, incoming) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let got = Got {
        line: format!("{} {path}", head.method),
        authorization: text("authorization"),
        version: head.version,
        size: text("content-length").map_or(0, |length| length.parse().unwrap()),
        range: text("range"),
        headers: head.headers.clone(),
    };
    let nth = {
        let mut state = shared.state.lock().unwrap();
        state.requests.push(got.clone());
        state.requests.iter().filter(|other| other.line == got.line).count()
    };
    let act = (shared.decide)(&got, nth);
    if let Act::DropBefore = act {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let body = read(incoming).await?;
    assert!(got.headers.get("content-length").is_none() || got.size == body.len());
    if text("content-type").is_some_and(|kind| kind == "application/x-www-form-urlencoded") {
        shared.state.lock().unwrap().forms.push(String::from_utf8(body.clone()).unwrap());
    }
    let own = |landing| shared.state.lock().unwrap().registry.answer(&got, &body, landing);
    let instead = match act {
        Act::Own => own(Landing::Seen),
        Act::Instead(instead) => instead,
        Act::DropBefore | Act::DropAfter => {
            own(Landing::Seen);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Act::Truncate => {
            let answer = own(Landing::Seen);
            return match answer.body.is_empty() && answer.bytes.is_empty() {
                true => Err(io::ErrorKind::ConnectionReset.into()),
                false => Ok(response(answer, true)),
            };
        }
        Act::Stall(time) => {
            let answer = own(Landing::Seen);
            tokio::time::sleep(time).await;
            answer
        }
        Act::Twice => {
            own(Landing::Seen);
            own(Landing::Seen)
        }
        Act::Lose => own(Landing::Lost),
        Act::Hide(requests) => own(Landing::Hidden(requests)),
    };
    Ok(response(instead, false))
}

async fn read(mut incoming: Incoming) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| hyper::body::Body::poll_frame(Pin::new(&mut incoming), context)).await
    {
        let frame = frame.map_err(io::Error::other)?;
        frame.into_data().into_iter().for_each(|data| body.extend_from_slice(&data));
    }
    Ok(body)
}

fn response(made: Instead, is_cut: bool) -> Response<Whole> {
    let mut response = Response::builder().status(made.status);
    for (name, value) in made.headers {
        response = response.header(name, value);
    }
    let bytes = if made.bytes.is_empty() { made.body.into() } else { made.bytes };
    if is_cut {
        response = response.header("content-length", bytes.len() + 100);
    }
    response.body(Whole { bytes: Some(bytes), is_cut }).unwrap()
}

/// The body of an answer. One that is cut ends with an error.
struct Whole {
    bytes: Option<Bytes>,
    is_cut: bool,
}

impl hyper::body::Body for Whole {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let is_cut = self.is_cut;
        Poll::Ready(match self.bytes.take() {
            Some(bytes) => Some(Ok(Frame::data(bytes))),
            None => is_cut.then(|| Err(io::ErrorKind::ConnectionReset.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        !self.is_cut && self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.bytes {
            Some(bytes) if !self.is_cut => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
