//! Where snapshots come from: a server over HTTP or HTTPS, a folder or a file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

/// What a snapshot may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// The most bytes of a snapshot. That of the main network has about two million.
    pub max_bytes: usize,
    /// How long it may take in all.
    pub timeout: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            timeout: Duration::from_secs(120),
        }
    }
}

/// Where snapshots come from. Read from a text: an address that begins with `http://` or `https://`, or
/// else a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A server: the time to tell changes since is added to the path, 0 for everything.
    Server {
        /// Whether over TLS.
        tls: bool,
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// The path without a slash at its end.
        path: String,
    },
    /// A file, or a folder whose files have the names that a server would be asked for.
    Path(PathBuf),
}

/// Why there is no snapshot.
#[derive(Debug)]
pub enum FetchError {
    /// The file can't be read.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The server can't be reached, or the connection broke.
    Connection(io::Error),
    /// The server speaks no HTTP that we understand.
    Http(hyper::Error),
    /// The server answers with another status than 200.
    Status(u16),
    /// It is longer than is allowed.
    TooLong(usize),
    /// It took too long.
    Timeout(Duration),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(f, "{} can't be read: {error}", path.display()),
            Self::Connection(error) => write!(f, "the server can't be reached: {error}"),
            Self::Http(error) => write!(f, "the server's answer is no HTTP: {error}"),
            Self::Status(status) => write!(f, "the server answers with status {status}"),
            Self::TooLong(most) => write!(f, "the snapshot has more than {most} bytes"),
            Self::Timeout(patience) => write!(f, "nothing came within {patience:?}"),
        }
    }
}

impl std::error::Error for FetchError {}

/// An address that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSource(String);

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no address of snapshots; take one like https://rapidsync.lightningdevkit.org/v2/snapshot, or a path",
            self.0
        )
    }
}

impl std::error::Error for NoSource {}

impl FromStr for Source {
    type Err = NoSource;

    fn from_str(text: &str) -> Result<Self, NoSource> {
        let no_source = || NoSource(text.to_owned());
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) if text.is_empty() || text.contains("://") => return Err(no_source()),
            (None, None) => return Ok(Self::Path(PathBuf::from(text))),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let uri: hyper::Uri = text.parse().map_err(|_| no_source())?;
        let host = uri.host().ok_or_else(no_source)?;
        // No user, no question: nothing that would be left out silently.
        if authority.contains('@') || uri.query().is_some() || path.contains('#') {
            return Err(no_source());
        }
        Ok(Self::Server {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server {
                tls,
                host,
                port,
                path,
            } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "{scheme}://{host}:{port}{path}")
            }
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    /// Fetches what changed since `seen_until`, in seconds since 1970; everything with 0, or when the changes
    /// are not to be had.
    ///
    /// # Errors
    /// Why there is none; asking again later may help.
    pub async fn fetch(
        &self,
        seen_until: u32,
        limits: &FetchLimits,
    ) -> Result<Vec<u8>, FetchError> {
        let fetched = timeout(limits.timeout, async {
            match self.fetch_one(seen_until, limits).await {
                Err(error) if seen_until != 0 && error.is_not_there() => {
                    self.fetch_one(0, limits).await
                }
                fetched => fetched,
            }
        });
        fetched
            .await
            .unwrap_or(Err(FetchError::Timeout(limits.timeout)))
    }

    async fn fetch_one(
        &self,
        seen_until: u32,
        limits: &FetchLimits,
    ) -> Result<Vec<u8>, FetchError> {
        match self {
            Self::Path(path) => {
                let (path, most) = (path.clone(), limits.max_bytes);
                let reading = tokio::task::spawn_blocking(move || {
                    let file = if path.is_dir() {
                        path.join(seen_until.to_string())
                    } else {
                        path
                    };
                    read_file(&file, most)
                });
                reading
                    .await
                    .map_err(|e| FetchError::Connection(io::Error::other(e)))?
            }
            Self::Server {
                tls,
                host,
                port,
                path,
            } => {
                let address = (host.as_str(), *port);
                let socket = TcpStream::connect(address)
                    .await
                    .map_err(FetchError::Connection)?;
                let path = format!("{path}/{seen_until}");
                if *tls {
                    let name = ServerName::try_from(host.clone())
                        .map_err(|e| FetchError::Connection(io::Error::other(e)))?;
                    let socket = tls_connector()?.connect(name, socket).await;
                    let socket = socket.map_err(FetchError::Connection)?;
                    get(socket, host, &path, limits.max_bytes).await
                } else {
                    get(socket, host, &path, limits.max_bytes).await
                }
            }
        }
    }
}

impl FetchError {
    fn is_not_there(&self) -> bool {
        match self {
            Self::File { error, .. } => error.kind() == io::ErrorKind::NotFound,
            Self::Status(status) => *status == StatusCode::NOT_FOUND.as_u16(),
            Self::Connection(_) | Self::Http(_) | Self::TooLong(_) | Self::Timeout(_) => false,
        }
    }
}

fn read_file(path: &Path, most: usize) -> Result<Vec<u8>, FetchError> {
    use std::io::Read;
    let wrong = |error| FetchError::File {
        path: path.to_path_buf(),
        error,
    };
    let file = std::fs::File::open(path).map_err(wrong)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() > most {
        return Err(FetchError::TooLong(most));
    }
    Ok(bytes)
}

fn tls_connector() -> Result<TlsConnector, FetchError> {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| FetchError::Connection(io::Error::other(e)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// One request on a connection of its own.
async fn get(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
    most: usize,
) -> Result<Vec<u8>, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(FetchError::Http)?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "fulmen")
        .body(Empty::<Bytes>::new())
        .map_err(|e| FetchError::Connection(io::Error::other(e)))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(FetchError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        match body {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLong(most)),
            Err(error) => Err(FetchError::Connection(io::Error::other(error))),
        }
    };
    // The connection is driven here and ends here: nothing goes on when this is given up.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        done = &mut exchange => done,
        broken = connection => match broken {
            // All of it has come.
            Ok(()) => exchange.await,
            Err(error) => Err(FetchError::Http(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths() {
        let server = |tls, host: &str, port, path: &str| {
            Ok(Source::Server {
                tls,
                host: host.into(),
                port,
                path: path.into(),
            })
        };
        for (text, source) in [
            (
                "https://a.org/v2/snapshot/",
                server(true, "a.org", 443, "/v2/snapshot"),
            ),
            ("http://a.org:81", server(false, "a.org", 81, "")),
            ("http://[::1]:8000/x", server(false, "::1", 8000, "/x")),
            ("/srv/snapshot", Ok(Source::Path("/srv/snapshot".into()))),
            ("full.bin", Ok(Source::Path("full.bin".into()))),
        ] {
            assert_eq!(text.parse::<Source>(), source, "{text}");
        }
        for text in [
            "",
            "ftp://a.org",
            "http://",
            "http://u@a.org/",
            "http://a.org/?x",
            "http://a b/",
        ] {
            let error = text.parse::<Source>().expect_err(text).to_string();
            assert!(error.contains("rapidsync"), "{error}");
        }
    }
}
