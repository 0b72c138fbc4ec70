//! Why Bitcoin Core could not be asked.

use std::{fmt, io, path::PathBuf};

/// Why Bitcoin Core could not be asked, or what it answered; the text says what to do.
#[derive(Debug)]
pub enum Error {
    /// No connection.
    Connect {
        /// To where.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The connection broke.
    Io(io::Error),
    /// No answer in time.
    Timeout,
    /// The cookie file can't be read.
    Cookie {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The user, password or cookie is refused.
    Unauthorized,
    /// An answer longer than is ever right.
    TooLong,
    /// An answer that is not what was asked for.
    Malformed(String),
    /// A status of HTTP without an answer of RPC.
    Http {
        /// The status.
        status: u16,
    },
    /// Bitcoin Core is still starting.
    WarmingUp(String),
    /// An error of RPC.
    Rpc {
        /// Bitcoin Core's number for it.
        code: i64,
        /// Its words.
        message: String,
    },
    /// The chain was reorganised below everything that is remembered.
    ReorgTooDeep,
}

impl Error {
    /// Whether waiting may help without anybody doing something.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Io(_)
            | Self::Timeout
            | Self::WarmingUp(_)
            | Self::Cookie { .. }
            | Self::Unauthorized
            | Self::Http { .. } => true,
            Self::TooLong | Self::Malformed(_) | Self::Rpc { .. } | Self::ReorgTooDeep => false,
        }
    }

    pub(crate) fn malformed(what: &str) -> Self {
        Self::Malformed(what.to_owned())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, error } => write!(
                f,
                "Bitcoin Core does not answer at {address} ({error}); check that bitcoind runs with `server=1` and that host and port are right"
            ),
            Self::Io(error) => write!(f, "the connection with Bitcoin Core broke: {error}"),
            Self::Timeout => f.write_str("Bitcoin Core did not answer in time"),
            Self::Cookie { path, error } => write!(
                f,
                "the cookie file {} can't be read ({error}); check its path and that bitcoind runs",
                path.display()
            ),
            Self::Unauthorized => f.write_str(
                "Bitcoin Core refuses the credentials; check the cookie file, or user and password",
            ),
            Self::TooLong => f.write_str("Bitcoin Core's answer is too long"),
            Self::Malformed(what) => write!(
                f,
                "the answer is not that of Bitcoin Core ({what}); check host and port"
            ),
            Self::Http { status } => write!(f, "Bitcoin Core answered with HTTP status {status}"),
            Self::WarmingUp(what) => write!(f, "Bitcoin Core is starting: {what}"),
            Self::Rpc { code, message } => write!(f, "Bitcoin Core: {message} (code {code})"),
            Self::ReorgTooDeep => write!(
                f,
                "the chain was reorganised more than {} blocks deep, or is another chain than before; check that Bitcoin Core is on the right network and in sync",
                crate::MAX_ANCESTORS
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { error, .. } | Self::Io(error) | Self::Cookie { error, .. } => {
                Some(error)
            }
            Self::Timeout
            | Self::Unauthorized
            | Self::TooLong
            | Self::Malformed(_)
            | Self::Http { .. }
            | Self::WarmingUp(_)
            | Self::Rpc { .. }
            | Self::ReorgTooDeep => None,
        }
    }
}
