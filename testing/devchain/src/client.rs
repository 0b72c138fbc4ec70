//! A small blocking JSON-RPC and REST client on one kept-alive connection, for tests and tools.

use core::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

/// A call that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(120);
/// A larger answer is not read: the largest are blocks in hex.
const MAX_ANSWER: usize = 256 << 20;

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// The server could not be reached, or the connection broke.
    Io(io::Error),
    /// The answer was not what the protocol asks for.
    Protocol(String),
    /// The server answered with an error.
    Rpc {
        /// Bitcoin Core's code.
        code: i64,
        /// Its message.
        message: String,
    },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the chain server can't be reached: {error}"),
            Self::Protocol(what) => write!(f, "unexpected answer: {what}"),
            Self::Rpc { code, message } => write!(f, "error {code}: {message}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A client for one server. Calls from several threads take turns.
#[derive(Debug)]
pub struct RpcClient {
    addr: SocketAddr,
    authorization: String,
    connection: Mutex<Option<BufReader<TcpStream>>>,
}

impl RpcClient {
    /// A client that logs in with a user and a password.
    pub fn new(addr: SocketAddr, user: &str, password: &str) -> Self {
        let login = format!("{user}:{password}");
        let encoded = base64::engine::general_purpose::STANDARD.encode(login);
        Self {
            addr,
            authorization: format!("Basic {encoded}"),
            connection: Mutex::new(None),
        }
    }

    /// Calls a method with parameters by position (an array) or by name (an object).
    pub fn call(&self, method: &str, params: Value) -> Result<Value, ClientError> {
        let request = json!({ "jsonrpc": "1.0", "id": 1, "method": method, "params": params });
        let (status, body) = self.http("POST", "/", request.to_string().as_bytes())?;
        if status == 401 {
            return Err(ClientError::Protocol(
                "wrong user, password or cookie".to_owned(),
            ));
        }
        let answer = parse(&body)?;
        take_result(&answer)
    }

    /// Calls several methods in one request; the answers come in the same order.
    pub fn batch(
        &self,
        calls: &[(&str, Value)],
    ) -> Result<Vec<Result<Value, ClientError>>, ClientError> {
        let requests = calls
            .iter()
            .enumerate()
            .map(|(id, (method, params))| json!({ "id": id, "method": method, "params": params }));
        let request: Value = requests.collect();
        let (_, body) = self.http("POST", "/", request.to_string().as_bytes())?;
        let answers = parse(&body)?;
        let answers = answers
            .as_array()
            .ok_or_else(|| ClientError::Protocol("a batch is answered by an array".to_owned()))?;
        Ok(answers.iter().map(take_result).collect())
    }

    /// Fetches a path of the REST interface: the status and the body.
    pub fn rest(&self, path: &str) -> Result<(u16, Vec<u8>), ClientError> {
        self.http("GET", path, &[])
    }

    fn http(&self, verb: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), ClientError> {
        let mut slot = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A kept-alive connection may have been closed by the server in the meantime: then no
        // answer has begun, and the request goes out once more on a new one.
        if let Some(mut connection) = slot.take() {
            match self.exchange(&mut connection, verb, path, body) {
                Ok(answer) => {
                    *slot = Some(connection);
                    return Ok(answer);
                }
                Err(ClientError::Io(error)) if is_closed(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let stream = TcpStream::connect(self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut connection = BufReader::new(stream);
        let answer = self.exchange(&mut connection, verb, path, body)?;
        *slot = Some(connection);
        Ok(answer)
    }

    fn exchange(
        &self,
        connection: &mut BufReader<TcpStream>,
        verb: &str,
        path: &str,
        body: &[u8],
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let mut request = format!(
            "{verb} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            self.authorization,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        connection.get_mut().write_all(&request)?;
        let mut line = String::new();
        read_line(connection, &mut line)?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse::<u16>().ok());
        let status =
            status.ok_or_else(|| ClientError::Protocol(format!("status line {line:?}")))?;
        let mut length = 0usize;
        loop {
            read_line(connection, &mut line)?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        if length > MAX_ANSWER {
            return Err(ClientError::Protocol(format!(
                "an answer of {length} bytes"
            )));
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body)?;
        Ok((status, body))
    }
}

fn read_line(connection: &mut BufReader<TcpStream>, line: &mut String) -> io::Result<()> {
    line.clear();
    if connection.by_ref().take(65_536).read_line(line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(())
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

fn parse(body: &[u8]) -> Result<Value, ClientError> {
    serde_json::from_slice(body).map_err(|error| {
        let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        ClientError::Protocol(format!("{error} in {text:?}"))
    })
}

fn take_result(answer: &Value) -> Result<Value, ClientError> {
    match answer.get("error") {
        None | Some(Value::Null) => Ok(answer.get("result").cloned().unwrap_or(Value::Null)),
        Some(error) => Err(ClientError::Rpc {
            code: error.get("code").and_then(Value::as_i64).unwrap_or(0),
            message: error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        }),
    }
}
