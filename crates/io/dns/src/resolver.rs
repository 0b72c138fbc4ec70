//! The port.

use std::{
    fmt,
    future::Future,
    net::{Ipv4Addr, Ipv6Addr},
    pin::Pin,
};

/// A lookup under way.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<Vec<T>, DnsError>> + Send>>;

/// What looks names up. Names are absolute, without the dot at the end. A name that does not exist, and one
/// without records of the type, has the empty answer. What comes back is not to be trusted: neither its
/// number nor its names are bounded by anything but the size of a DNS message.
pub trait Resolver: Send + Sync {
    /// Services: RFC 2782.
    fn srv(&self, name: &str) -> Answer<SrvRecord>;

    /// IPv4 addresses.
    fn ipv4(&self, name: &str) -> Answer<Ipv4Addr>;

    /// IPv6 addresses.
    fn ipv6(&self, name: &str) -> Answer<Ipv6Addr>;
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower ones first.
    pub priority: u16,
    /// How often among those of the same priority.
    pub weight: u16,
    /// The TCP port.
    pub port: u16,
    /// The host's name, without the dot at the end.
    pub target: String,
}

/// Why a lookup has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// No name server answered in time.
    Timeout,
    /// There is no name server to ask, or none can be reached: the system's configuration says which.
    Unreachable(String),
    /// That is no name.
    BadName(String),
    /// The answer is none: malformed, refused, or of no use.
    BadAnswer(String),
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no name server answered in time"),
            Self::Unreachable(why) => write!(f, "no name server can be reached: {why}"),
            Self::BadName(name) => write!(f, "{name:?} is no DNS name"),
            Self::BadAnswer(why) => write!(f, "the name server's answer is of no use: {why}"),
        }
    }
}

impl std::error::Error for DnsError {}
