//! Where connections come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What one party has for itself: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address.
    V4([u8; 4]),
    /// The first 64 bits.
    V6([u8; 8]),
}

/// A network from which addresses are easily had together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// This computer: Tor, proxies, tests.
    Local,
    /// The /16 of an IPv4 address.
    V4([u8; 2]),
    /// The /32 of an IPv6 address.
    V6([u8; 4]),
}

impl Host {
    /// The host of an address; `None` for loopback, which stands for everybody behind a proxy.
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) => Some(Self::V4(ip.octets())),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Some(Self::V6([a, b, c, d, e, f, g, h]))
            }
        }
    }

    /// The network of a host.
    pub const fn group(host: Option<Self>) -> Group {
        match host {
            None => Group::Local,
            Some(Self::V4([a, b, ..])) => Group::V4([a, b]),
            Some(Self::V6([a, b, c, d, ..])) => Group::V6([a, b, c, d]),
        }
    }
}

/// Whether an address is one of the public internet. Strangers must not send us into networks that only we
/// can reach.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        // Shared by carriers (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544).
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    // 2000::/3 is what is given out, but for documentation, and the two that carry IPv4 addresses inside.
    first & 0xe000 == 0x2000
        && !(first == 0x2001 && (second == 0x0db8 || second == 0))
        && first != 0x2002
        && first != 0x3fff
}
