//! The client.

use std::{fmt, fs, path::Path, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request as HttpRequest, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{
    ADDRESS_FILE, ClientError, ErrorBody, ErrorCode, ErrorDetail, Event, InvoiceInfo, ListInvoices,
    ListPayments, PaymentInfo, Request, TOKEN_FILE,
};

/// The longest answer that is read.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// The longest line of the stream of events.
const MAX_LINE: usize = 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A payment that waits for its end may take long.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);

/// A client of one daemon. Clones share connections; calls don't wait for each other.
#[derive(Clone)]
pub struct Client {
    http: HyperClient<HttpConnector, Full<Bytes>>,
    address: String,
    token: String,
    timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Of the daemon whose API listens at `address` (`host:port`), with its token.
    pub fn new(address: impl Into<String>, token: impl Into<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self {
            http: HyperClient::builder(TokioExecutor::new()).build(connector),
            address: address.into(),
            token: token.into(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Of the daemon that runs on this data directory.
    pub fn from_data_dir(data_dir: impl AsRef<Path>) -> Result<Self, ClientError> {
        let dir = data_dir.as_ref();
        Ok(Self::new(
            read_line(&dir.join(ADDRESS_FILE))?,
            read_line(&dir.join(TOKEN_FILE))?,
        ))
    }

    /// Of a daemon whose address is known, with the token of its data directory.
    pub fn with_token_of(
        address: impl Into<String>,
        data_dir: impl AsRef<Path>,
    ) -> Result<Self, ClientError> {
        Ok(Self::new(
            address,
            read_line(&data_dir.as_ref().join(TOKEN_FILE))?,
        ))
    }

    /// Gives up on an answer after `timeout` instead of an hour.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `host:port` of the API.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Gives a command and waits for the answer.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Answer, ClientError> {
        self.call_with(None, request).await
    }

    /// The same with a key of the caller's: who does not know whether a command has arrived gives it
    /// again with the same key, and it is done once.
    pub async fn call_once<R: Request>(
        &self,
        key: &str,
        request: &R,
    ) -> Result<R::Answer, ClientError> {
        self.call_with(Some(key), request).await
    }

    async fn call_with<R: Request>(
        &self,
        key: Option<&str>,
        request: &R,
    ) -> Result<R::Answer, ClientError> {
        let body =
            serde_json::to_vec(request).map_err(|e| ClientError::Malformed(e.to_string()))?;
        let path = format!("/v1/{}", R::NAME);
        let answer = self.raw(Method::POST, &path, key, body);
        let bytes = tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_| ClientError::Timeout)??;
        serde_json::from_slice(&bytes).map_err(|e| ClientError::Malformed(e.to_string()))
    }

    /// Every payment, page by page, newest first.
    pub async fn all_payments(&self) -> Result<Vec<PaymentInfo>, ClientError> {
        let (mut all, mut request) = (Vec::new(), ListPayments::default());
        loop {
            let page = self.call(&request).await?;
            all.extend(page.payments);
            match page.next {
                Some(next) => request.before = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Every invoice, page by page, newest first.
    pub async fn all_invoices(&self) -> Result<Vec<InvoiceInfo>, ClientError> {
        let (mut all, mut request) = (Vec::new(), ListInvoices::default());
        loop {
            let page = self.call(&request).await?;
            all.extend(page.invoices);
            match page.next {
                Some(next) => request.before = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Any command by name with any JSON, for tools.
    pub async fn call_json(&self, command: &str, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        let path = format!("/v1/{command}");
        let answer = self.raw(Method::POST, &path, None, body);
        tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_| ClientError::Timeout)?
    }

    /// The events from number `from` on (the first is 1); with `follow` also those to come.
    pub async fn events(&self, from: u64, follow: bool) -> Result<EventStream, ClientError> {
        let path = format!("/v1/events?from={from}&follow={follow}");
        let response = self.send(Method::GET, &path, None, Vec::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response.status(), &collect(response).await?));
        }
        Ok(EventStream {
            body: response.into_body(),
            buffer: Vec::new(),
        })
    }

    async fn raw(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ClientError> {
        let response = self.send(method, path, key, body).await?;
        let status = response.status();
        let bytes = collect(response).await?;
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(refusal(status, &bytes))
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = HttpRequest::builder();
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| ClientError::Malformed(e.to_string()))?;
        self.http.request(request).await.map_err(|e| {
            let why = root_cause(&e);
            if e.is_connect() {
                ClientError::Connect {
                    address: self.address.clone(),
                    why,
                }
            } else {
                ClientError::Broken(why)
            }
        })
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    buffer: Vec<u8>,
}

impl EventStream {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    // A sign of life.
                    continue;
                }
                return Some(
                    serde_json::from_slice(&line)
                        .map_err(|e| ClientError::Malformed(e.to_string())),
                );
            }
            if self.buffer.len() > MAX_LINE {
                return Some(Err(ClientError::Malformed("a line without an end".into())));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Err(e) => return Some(Err(ClientError::Broken(root_cause(&e)))),
            }
        }
    }
}

async fn collect(response: Response<Incoming>) -> Result<Vec<u8>, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await;
    Ok(body
        .map_err(|e| ClientError::Broken(e.to_string()))?
        .to_bytes()
        .to_vec())
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => ClientError::Api(body.error),
        Err(_) if status == StatusCode::UNAUTHORIZED => ClientError::Api(ErrorDetail {
            code: ErrorCode::Unauthorized,
            message: "the token is refused".into(),
        }),
        Err(_) => ClientError::Malformed(format!("status {status}")),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn read_line(path: &Path) -> Result<String, ClientError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(ClientError::File {
            path: path.to_path_buf(),
            error,
        }),
    }
}
