//! The admin socket: HTTP over a Unix socket.

use std::{path::Path, path::PathBuf, time::Duration};

use admin_api::{ControlAnswer, ControlRequest, Problem, WaitAnswer, WaitRequest};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use scsi_model::control::{PairSelector, Reply, Request};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, runtime::Runtime};

use super::{Answer, Transport, TransportError};

/// A daemon behind its socket. Each request is a connection of its own: the daemon may restart in between.
pub(crate) struct AdminSocket {
    path: PathBuf,
    runtime: Runtime,
}

/// What an administrative request comes back with.
pub(crate) type AdminAnswer<T> = Result<Result<T, Problem>, TransportError>;

impl AdminSocket {
    /// Nothing is opened yet.
    pub(crate) fn new(path: &Path) -> Result<Self, TransportError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| TransportError::new("tokio", error))?;
        Ok(Self {
            path: path.to_owned(),
            runtime,
        })
    }

    /// GET.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> AdminAnswer<T> {
        let (status, body) = self.exchange(Method::GET, path, Bytes::new())?;
        self.parse(status, &body)
    }

    /// POST.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, document: &impl Serialize) -> AdminAnswer<T> {
        let (status, body) = self.exchange(Method::POST, path, self.text(document)?)?;
        self.parse(status, &body)
    }

    /// As [`Self::post`], of a document that tells itself whether it was refused.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, TransportError> {
        let (status, body) = self.exchange(Method::POST, path, self.text(document)?)?;
        self.answer(status, &body)
    }

    /// Another way to the same daemon, for another thread.
    pub(crate) fn another(&self) -> Result<Self, TransportError> {
        Self::new(&self.path)
    }

    fn text(&self, document: &impl Serialize) -> Result<Bytes, TransportError> {
        serde_json::to_vec(document)
            .map(Bytes::from)
            .map_err(|error| self.error(error))
    }

    fn parse<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> AdminAnswer<T> {
        if status.is_success() {
            serde_json::from_slice(body)
                .map(Ok)
                .map_err(|error| self.error(error))
        } else {
            let problem = serde_json::from_slice(body).map_err(|_| {
                self.error(format_args!("status {status}: {}", String::from_utf8_lossy(body)))
            })?;
            Ok(Err(problem))
        }
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), TransportError> {
        self.runtime.block_on(async {
            let stream = UnixStream::connect(&self.path).await.map_err(|error| {
                self.error(format_args!(
                    "{error}; is holdfastd running? --admin SOCKET or $HOLDFAST_ADMIN says where its socket is"
                ))
            })?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| self.error(error))?;
            let driver = tokio::spawn(connection);
            let request = hyper::Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, "holdfastd")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body))
                .map_err(|error| self.error(error))?;
            let response = sender.send_request(request).await.map_err(|error| self.error(error))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| self.error(error))?.to_bytes();
            driver.abort();
            Ok((status, body))
        })
    }

    fn error(&self, why: impl ToString) -> TransportError {
        TransportError::new(self.path.display(), why)
    }
}

impl Transport for AdminSocket {
    fn execute(&mut self, request: &Request) -> Answer<Reply> {
        let request = self.text(&ControlRequest {
            request: request.clone(),
        })?;
        let (status, body) = self.exchange(Method::POST, "/v1/control", request)?;
        self.answer::<ControlAnswer>(status, &body).map(Into::into)
    }

    fn wait(&mut self, pairs: PairSelector, state: Option<u8>, timeout: Duration) -> Answer<WaitAnswer> {
        // Rounded up: a wait of less than a second is a wait all the same.
        let timeout = u32::try_from(timeout.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        let request = self.text(&WaitRequest {
            pairs,
            state,
            timeout,
        })?;
        let (status, body) = self.exchange(Method::POST, "/v1/wait", request)?;
        if status == StatusCode::CONFLICT {
            return match self.answer::<ControlAnswer>(status, &body)? {
                ControlAnswer::Refused(refusal) => Ok(Err(refusal)),
                ControlAnswer::Ok(reply) => Err(self.error(format_args!("unexpected answer {reply:?}"))),
            };
        }
        self.answer(status, &body).map(Ok)
    }

    fn admin(&mut self) -> Option<&mut AdminSocket> {
        Some(self)
    }
}

impl AdminSocket {
    /// A document that came with status 200 or 409; any other status is not an answer.
    fn answer<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, TransportError> {
        if !status.is_success() && status != StatusCode::CONFLICT {
            return Err(match serde_json::from_slice::<Problem>(body) {
                Ok(problem) => self.error(problem),
                Err(_) => self.error(format_args!("status {status}")),
            });
        }
        serde_json::from_slice(body).map_err(|error| self.error(error))
    }
}
