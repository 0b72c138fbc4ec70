//! As much of HTTP/1.1 as Bitcoin Core speaks: one request at a time on a kept-alive socket without
//! Nagle's delay, answers with a length or in chunks, everything bounded.

use std::{path::PathBuf, sync::Mutex, sync::PoisonError, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::Error;

/// The longest line of a header.
const MAX_LINE: u64 = 16 * 1024;
/// The most header lines.
const MAX_LINES: usize = 100;
/// How many sockets are kept for later.
const MAX_IDLE: usize = 4;

/// How to show who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// By the cookie that Bitcoin Core writes at each start. It is read again when it is refused.
    CookieFile(PathBuf),
    /// By user and password (`rpcauth` or `rpcuser`).
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CookieFile(path) => f.debug_tuple("CookieFile").field(path).finish(),
            Self::UserPassword { user, .. } => f
                .debug_struct("UserPassword")
                .field("user", user)
                .finish_non_exhaustive(),
        }
    }
}

impl Auth {
    async fn header(&self) -> Result<String, Error> {
        let login = match self {
            Self::CookieFile(path) => {
                // Off the runtime's threads: the file may be on a slow disk.
                let file = path.clone();
                let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(file)).await;
                read.map_err(std::io::Error::other)
                    .and_then(|read| read)
                    .map_err(|error| Error::Cookie {
                        path: path.clone(),
                        error,
                    })?
                    .trim()
                    .to_owned()
            }
            Self::UserPassword { user, password } => format!("{user}:{password}"),
        };
        Ok(format!("Basic {}", BASE64_STANDARD.encode(login)))
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Http {
    address: String,
    auth: Auth,
    timeout: Duration,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
    authorization: Mutex<Option<String>>,
}

impl Http {
    pub(crate) fn new(address: String, auth: Auth, timeout: Duration) -> Self {
        Self {
            address,
            auth,
            timeout,
            idle: Mutex::new(Vec::new()),
            authorization: Mutex::new(None),
        }
    }

    pub(crate) async fn get(&self, path: &str, max_body: usize) -> Result<Response, Error> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.send(request.as_bytes(), max_body).await
    }

    /// Posts JSON; fresh credentials are tried once when those at hand are refused.
    pub(crate) async fn post(&self, body: &[u8], max_body: usize) -> Result<Response, Error> {
        let mut fresh = false;
        loop {
            let cached = self
                .authorization
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let authorization = match cached {
                Some(cached) => cached,
                None => {
                    fresh = true;
                    let header = self.auth.header().await?;
                    let mut slot = self
                        .authorization
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    slot.insert(header).clone()
                }
            };
            let mut request = format!(
                "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                self.address,
                body.len()
            )
            .into_bytes();
            request.extend_from_slice(body);
            let response = self.send(&request, max_body).await?;
            if response.status != 401 {
                return Ok(response);
            }
            self.authorization
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if fresh {
                return Err(Error::Unauthorized);
            }
        }
    }

    async fn send(&self, request: &[u8], max_body: usize) -> Result<Response, Error> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        if let Some(socket) = idle {
            // A kept socket may have been closed by the server meanwhile; a new one tells.
            if let Ok(response) = self.exchange(socket, request, max_body).await {
                return Ok(response);
            }
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
        let connect = timeout(self.timeout, TcpStream::connect(&self.address)).await;
        let socket = connect
            .map_err(|_| Error::Timeout)?
            .map_err(|error| Error::Connect {
                address: self.address.clone(),
                error,
            })?;
        socket.set_nodelay(true).map_err(Error::Io)?;
        self.exchange(BufReader::new(socket), request, max_body)
            .await
    }

    async fn exchange(
        &self,
        mut socket: BufReader<TcpStream>,
        request: &[u8],
        max_body: usize,
    ) -> Result<Response, Error> {
        let exchange = async {
            socket
                .get_mut()
                .write_all(request)
                .await
                .map_err(Error::Io)?;
            read_response(&mut socket, max_body).await
        };
        let (response, keep) = timeout(self.timeout, exchange)
            .await
            .map_err(|_| Error::Timeout)??;
        if keep {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(socket);
            }
        }
        Ok(response)
    }
}

/// Reads one answer; whether the socket can be used again.
async fn read_response(
    socket: &mut BufReader<TcpStream>,
    max_body: usize,
) -> Result<(Response, bool), Error> {
    let status_line = read_line(socket).await?;
    let mut words = status_line.split(' ');
    let version = words.next().unwrap_or_default();
    if !version.starts_with("HTTP/1.") {
        return Err(Error::malformed("no HTTP"));
    }
    let status = words
        .next()
        .and_then(|s| s.parse::<u16>().ok())
        .ok_or_else(|| Error::malformed("no HTTP status"))?;
    let mut keep = version == "HTTP/1.1";
    let mut length = None;
    let mut chunked = false;
    let mut lines = 0;
    loop {
        let line = read_line(socket).await?;
        if line.is_empty() {
            break;
        }
        lines += 1;
        if lines > MAX_LINES {
            return Err(Error::TooLong);
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(Error::malformed("no HTTP header"));
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let parsed = value.parse::<usize>();
            length = Some(parsed.map_err(|_| Error::malformed("no length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            keep = !value.eq_ignore_ascii_case("close");
        }
    }
    let body = if chunked {
        read_chunks(socket, max_body).await?
    } else if let Some(length) = length {
        let mut body = Vec::new();
        read_exactly(socket, length, max_body, &mut body).await?;
        body
    } else {
        keep = false;
        let mut body = Vec::new();
        let limit = (max_body as u64).saturating_add(1);
        socket
            .take(limit)
            .read_to_end(&mut body)
            .await
            .map_err(Error::Io)?;
        if body.len() > max_body {
            return Err(Error::TooLong);
        }
        body
    };
    Ok((Response { status, body }, keep))
}

async fn read_chunks(socket: &mut BufReader<TcpStream>, max_body: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        let line = read_line(socket).await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length =
            usize::from_str_radix(digits, 16).map_err(|_| Error::malformed("no chunk length"))?;
        if length > 0 {
            read_exactly(socket, length, max_body, &mut body).await?;
        }
        let mut end = read_line(socket).await?;
        if length == 0 {
            // Trailers, which mean nothing to us.
            let mut lines = 0;
            while !end.is_empty() && lines < MAX_LINES {
                end = read_line(socket).await?;
                lines += 1;
            }
            return Ok(body);
        }
        if !end.is_empty() {
            return Err(Error::malformed("a chunk that does not end"));
        }
    }
}

/// Adds `length` bytes to `body`. Memory grows with what arrives, not with what is announced.
async fn read_exactly(
    socket: &mut BufReader<TcpStream>,
    length: usize,
    max_body: usize,
    body: &mut Vec<u8>,
) -> Result<(), Error> {
    let whole = body
        .len()
        .checked_add(length)
        .filter(|whole| *whole <= max_body);
    let whole = whole.ok_or(Error::TooLong)?;
    socket
        .take(length as u64)
        .read_to_end(body)
        .await
        .map_err(Error::Io)?;
    if body.len() == whole {
        Ok(())
    } else {
        Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into()))
    }
}

async fn read_line(socket: &mut BufReader<TcpStream>) -> Result<String, Error> {
    let mut line = Vec::new();
    let mut limited = socket.take(MAX_LINE);
    limited
        .read_until(b'\n', &mut line)
        .await
        .map_err(Error::Io)?;
    match line.strip_suffix(b"\n") {
        Some(text) => {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            String::from_utf8(text.to_vec()).map_err(|_| Error::malformed("no text"))
        }
        None if line.len() as u64 >= MAX_LINE => Err(Error::TooLong),
        None => Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into())),
    }
}
