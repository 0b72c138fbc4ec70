//! BOLT 7: address descriptors.

use alloc::{string::String, vec::Vec};
use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use fulmen_types::codec::{Decode, DecodeError, Encode, Reader};

use crate::codec::FieldCodec;

/// Where a node can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetAddress {
    /// Type 1.
    Ipv4 {
        /// The address.
        addr: Ipv4Addr,
        /// The TCP port.
        port: u16,
    },
    /// Type 2.
    Ipv6 {
        /// The address.
        addr: Ipv6Addr,
        /// The TCP port.
        port: u16,
    },
    /// Type 4.
    TorV3 {
        /// The ed25519 key, a checksum of two bytes and the version.
        onion_addr: [u8; 35],
        /// The TCP port.
        port: u16,
    },
    /// Type 5.
    DnsHostname {
        /// The name.
        hostname: Hostname,
        /// The TCP port.
        port: u16,
    },
    /// Whatever else was sent, with its type byte, kept because signatures cover it: Tor v2 (type 3),
    /// a name that is none, or a type that is not known, which hides all behind it.
    Unknown(Vec<u8>),
}

/// A host name as BOLT 7 lets it be announced: 1 to 255 letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(String);

impl Hostname {
    /// The name, if it is one.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=255).contains(&name.len());
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (fits && name.bytes().all(valid)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NetAddress {
    /// The TCP port, if the descriptor is understood.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Ipv4 { port, .. }
            | Self::Ipv6 { port, .. }
            | Self::TorV3 { port, .. }
            | Self::DnsHostname { port, .. } => Some(*port),
            Self::Unknown(_) => None,
        }
    }

    /// Whether one can try to connect: understood, and with a port (BOLT 7: ignore port 0).
    pub fn is_usable(&self) -> bool {
        self.port().is_some_and(|port| port != 0)
    }

    /// The socket address, for IPv4 and IPv6.
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Ipv4 { addr, port } => Some(SocketAddr::new(IpAddr::V4(*addr), *port)),
            Self::Ipv6 { addr, port } => Some(SocketAddr::new(IpAddr::V6(*addr), *port)),
            _ => None,
        }
    }

    /// The bytes that one descriptor has after its type, if the type is known. Zero-length padding of
    /// type 0 is of the unknown ones.
    fn body_len(kind: u8, rest: &[u8]) -> Option<usize> {
        match kind {
            1 => Some(6),
            2 => Some(18),
            3 => Some(12),
            4 => Some(37),
            5 => Some(1 + rest.first().map_or(0, |len| usize::from(*len)) + 2),
            _ => None,
        }
    }
}

impl From<SocketAddr> for NetAddress {
    fn from(addr: SocketAddr) -> Self {
        let port = addr.port();
        match addr.ip() {
            IpAddr::V4(addr) => Self::Ipv4 { addr, port },
            IpAddr::V6(addr) => Self::Ipv6 { addr, port },
        }
    }
}

impl Encode for NetAddress {
    fn encode(&self, out: &mut Vec<u8>) {
        let port = match self {
            Self::Ipv4 { addr, port } => {
                out.push(1);
                out.extend_from_slice(&addr.octets());
                port
            }
            Self::Ipv6 { addr, port } => {
                out.push(2);
                out.extend_from_slice(&addr.octets());
                port
            }
            Self::TorV3 { onion_addr, port } => {
                out.push(4);
                out.extend_from_slice(onion_addr);
                port
            }
            Self::DnsHostname { hostname, port } => {
                out.push(5);
                // `Hostname` is never longer than 255 bytes.
                out.push(u8::try_from(hostname.0.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(hostname.0.as_bytes());
                port
            }
            Self::Unknown(bytes) => {
                out.extend_from_slice(bytes);
                return;
            }
        };
        port.encode(out);
    }
}

/// One descriptor. A type that is not known takes all that is left; one that is known and cut short is
/// an error (BOLT 7: warn, close).
impl Decode for NetAddress {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let whole = r.remaining();
        let kind = u8::decode(r)?;
        let Some(len) = Self::body_len(kind, r.remaining()) else {
            r.take_rest();
            return Ok(Self::Unknown(whole.to_vec()));
        };
        let body = r.take(len)?;
        let mut fields = Reader::new(body);
        let address = match kind {
            1 => Self::Ipv4 {
                addr: Ipv4Addr::from(fields.take_array::<4>()?),
                port: Decode::decode(&mut fields)?,
            },
            2 => Self::Ipv6 {
                addr: Ipv6Addr::from(fields.take_array::<16>()?),
                port: Decode::decode(&mut fields)?,
            },
            4 => Self::TorV3 {
                onion_addr: fields.take_array()?,
                port: Decode::decode(&mut fields)?,
            },
            5 => {
                let len = u8::decode(&mut fields)?;
                let name = fields.take(usize::from(len))?;
                match core::str::from_utf8(name).ok().and_then(Hostname::new) {
                    Some(hostname) => Self::DnsHostname {
                        hostname,
                        port: Decode::decode(&mut fields)?,
                    },
                    None => Self::Unknown(whole[..=body.len()].to_vec()),
                }
            }
            _ => Self::Unknown(whole[..=body.len()].to_vec()),
        };
        Ok(address)
    }
}

/// Descriptors behind their length in bytes.
pub(crate) struct Addresses;

impl FieldCodec<Vec<NetAddress>> for Addresses {
    fn put(value: &Vec<NetAddress>, out: &mut Vec<u8>) {
        let len_at = out.len();
        out.extend_from_slice(&[0; 2]);
        value.iter().for_each(|address| address.encode(out));
        // More does not fit a message, which the transport refuses.
        let len = u16::try_from(out.len() - len_at - 2).unwrap_or(u16::MAX);
        out[len_at..len_at + 2].copy_from_slice(&len.to_be_bytes());
    }

    fn get(r: &mut Reader<'_>) -> Result<Vec<NetAddress>, DecodeError> {
        let mut addresses = Vec::new();
        let mut r = Reader::new(r.take_u16_prefixed()?);
        while !r.is_empty() {
            // BOLT 7, node_announcement: "if addrlen is insufficient ... SHOULD send a warning".
            let address = NetAddress::decode(&mut r).map_err(|_| {
                DecodeError::InvalidValue("addrlen cuts an address descriptor short (BOLT 7)")
            })?;
            addresses.push(address);
        }
        Ok(addresses)
    }
}

impl fmt::Display for NetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4 { addr, port } => write!(f, "{addr}:{port}"),
            Self::Ipv6 { addr, port } => write!(f, "[{addr}]:{port}"),
            Self::TorV3 { onion_addr, port } => {
                write!(f, "{}.onion:{port}", base32_encode(onion_addr))
            }
            Self::DnsHostname { hostname, port } => write!(f, "{hostname}:{port}"),
            Self::Unknown(bytes) => {
                write!(f, "unknown address of type {}", bytes.first().unwrap_or(&0))
            }
        }
    }
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseAddressError;

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected HOST:PORT, for example 203.0.113.7:9735, [2001:db8::7]:9735 or node.example.com:9735",
        )
    }
}

impl core::error::Error for ParseAddressError {}

impl FromStr for NetAddress {
    type Err = ParseAddressError;

    fn from_str(s: &str) -> Result<Self, ParseAddressError> {
        if let Ok(addr) = s.parse::<SocketAddr>() {
            return Ok(addr.into());
        }
        let (host, port) = s.rsplit_once(':').ok_or(ParseAddressError)?;
        let port = port.parse().map_err(|_| ParseAddressError)?;
        if let Some(onion) = host.strip_suffix(".onion") {
            let onion_addr = base32_decode(onion).ok_or(ParseAddressError)?;
            return Ok(Self::TorV3 { onion_addr, port });
        }
        let hostname = Hostname::new(host).ok_or(ParseAddressError)?;
        Ok(Self::DnsHostname { hostname, port })
    }
}

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// 35 bytes as 56 digits of 5 bits (RFC 4648 in small letters, as Tor writes them).
fn base32_encode(bytes: &[u8; 35]) -> String {
    let mut text = String::with_capacity(56);
    for chunk in bytes.chunks(5) {
        let bits = chunk.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
        for digit in (0..8).rev() {
            text.push(char::from(BASE32[(bits >> (digit * 5) & 31) as usize]));
        }
    }
    text
}

fn base32_decode(text: &str) -> Option<[u8; 35]> {
    if text.len() != 56 {
        return None;
    }
    let mut bytes = [0; 35];
    for (digits, out) in text.as_bytes().chunks(8).zip(bytes.chunks_mut(5)) {
        let mut bits = 0u64;
        for digit in digits {
            let value = BASE32
                .iter()
                .position(|b| *b == digit.to_ascii_lowercase())?;
            bits = bits << 5 | value as u64;
        }
        out.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}
