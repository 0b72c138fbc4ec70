//! DNS as a port, and node discovery by BOLT 10.
//!
//! [`Resolver`] is the port: three lookups, object-safe. [`SystemResolver`] is its default, by
//! hickory-resolver, over the system's name servers or given ones. [`Bootstrap`] asks DNS seeds for nodes:
//! what they answer is nobody's word, so it is bounded, checked, and proven only by the handshake with the
//! node that it names.
//!
//! What it is not: it validates no DNSSEC, and dials nobody.

mod bootstrap;
mod conditions;
#[cfg(feature = "hickory")]
mod hickory;
mod node_label;
mod resolver;

pub use bootstrap::{Bootstrap, BootstrapError, Limits, SeedNode, default_seeds};
pub use conditions::{AddressTypes, Conditions, ConditionsError};
#[cfg(feature = "hickory")]
pub use hickory::SystemResolver;
pub use node_label::{NodeLabelError, node_label, parse_node_label};
pub use resolver::{Answer, DnsError, Resolver, SrvRecord};

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
