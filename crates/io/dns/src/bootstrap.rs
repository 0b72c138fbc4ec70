//! Asking DNS seeds for nodes.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bitcoin::{Network, secp256k1::PublicKey};
use futures::{StreamExt as _, stream};

use crate::{
    conditions::{Conditions, ConditionsError, normal_name},
    node_label::parse_node_label,
    resolver::{DnsError, Resolver, SrvRecord},
};

/// The seeds of a network when nobody says otherwise: none but for mainnet and the public testnets.
pub fn default_seeds(network: Network) -> &'static [&'static str] {
    match network {
        Network::Bitcoin => &[
            "nodes.lightning.wiki",
            "nodes.lightning.directory",
            "lseed.bitcoinstats.com",
        ],
        Network::Testnet => &["test.nodes.lightning.wiki"],
        Network::Testnet4 => &["test4.nodes.lightning.wiki"],
        Network::Signet | Network::Regtest => &[],
    }
}

/// How much of an answer is looked at, and how long one is waited for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most SRV records of one answer.
    pub records: usize,
    /// The most addresses of one node and family.
    pub addresses: usize,
    /// How many names are looked up at once.
    pub at_once: usize,
    /// How long one seed may take with all that it leads to.
    pub seed_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records: 64,
            addresses: 4,
            at_once: 8,
            seed_timeout: Duration::from_secs(30),
        }
    }
}

/// A node that a seed has named. That it is there, and is that node, shows only in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedNode {
    /// Its key.
    pub node_id: PublicKey,
    /// Where it should listen.
    pub addresses: Vec<SocketAddr>,
}

/// Why no node was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapError {
    /// There is no seed to ask: say which, or connect to a peer by hand.
    NoSeeds,
    /// A seed's name is none.
    BadSeed(String, ConditionsError),
    /// Each seed that was asked, and what came of it.
    NothingFound(Vec<(String, SeedFailure)>),
}

/// What came of asking one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedFailure {
    /// The lookup failed.
    Dns(DnsError),
    /// It took too long.
    Timeout,
    /// It named no node that could be reached.
    Empty,
}

impl fmt::Display for SeedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(error) => write!(f, "{error}"),
            Self::Timeout => f.write_str("it took too long"),
            Self::Empty => f.write_str("it names no nodes"),
        }
    }
}

impl fmt::Display for BootstrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSeeds => f.write_str(
                "there is no DNS seed for this network; name one, or connect to a peer by hand",
            ),
            Self::BadSeed(seed, error) => write!(f, "the DNS seed {seed:?}: {error}"),
            Self::NothingFound(seeds) => {
                f.write_str("no DNS seed has named a node")?;
                for (seed, why) in seeds {
                    write!(f, "; {seed}: {why}")?;
                }
                f.write_str(
                    "; check the name servers of this computer, or connect to a peer by hand",
                )
            }
        }
    }
}

impl std::error::Error for BootstrapError {}

/// Asks DNS seeds.
#[derive(Clone)]
pub struct Bootstrap {
    resolver: Arc<dyn Resolver>,
    seeds: Vec<String>,
    limits: Limits,
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bootstrap")
            .field("seeds", &self.seeds)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Bootstrap {
    /// Over these seeds, asked in this order.
    ///
    /// # Errors
    /// [`BootstrapError::BadSeed`] for what is no name.
    pub fn new<S: AsRef<str>>(
        resolver: Arc<dyn Resolver>,
        seeds: impl IntoIterator<Item = S>,
        limits: Limits,
    ) -> Result<Self, BootstrapError> {
        let seeds = seeds
            .into_iter()
            .map(|seed| {
                let seed = seed.as_ref();
                normal_name(seed).map_err(|e| BootstrapError::BadSeed(seed.into(), e))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            resolver,
            seeds,
            limits,
        })
    }

    /// Some nodes: asks one seed after the other until there are `wanted`, and no longer.
    ///
    /// # Errors
    /// Why there is not a single one.
    pub async fn nodes(&self, wanted: usize) -> Result<Vec<SeedNode>, BootstrapError> {
        let count = u16::try_from(wanted).unwrap_or(u16::MAX);
        let count = count.clamp(1, Conditions::default().count);
        self.ask(
            Conditions {
                count,
                ..Conditions::default()
            },
            wanted,
        )
        .await
    }

    /// Where a node is now, as far as the seeds know (BOLT 10: assisted node location).
    ///
    /// # Errors
    /// Why it was not found.
    pub async fn locate(&self, node_id: PublicKey) -> Result<SeedNode, BootstrapError> {
        let conditions = Conditions {
            node_id: Some(node_id),
            ..Conditions::default()
        };
        let mut nodes = self.ask(conditions, 1).await?;
        nodes.pop().ok_or(BootstrapError::NoSeeds)
    }

    async fn ask(
        &self,
        conditions: Conditions,
        wanted: usize,
    ) -> Result<Vec<SeedNode>, BootstrapError> {
        if self.seeds.is_empty() {
            return Err(BootstrapError::NoSeeds);
        }
        let mut found = BTreeMap::new();
        let mut failures = Vec::new();
        for seed in &self.seeds {
            let asking = self.ask_seed(seed, conditions);
            let failure = match tokio::time::timeout(self.limits.seed_timeout, asking).await {
                Ok(Ok(nodes)) if nodes.is_empty() => SeedFailure::Empty,
                Ok(Ok(nodes)) => {
                    for node in nodes {
                        found.entry(node.node_id).or_insert(node.addresses);
                    }
                    if found.len() >= wanted {
                        break;
                    }
                    continue;
                }
                Ok(Err(error)) => SeedFailure::Dns(error),
                Err(_) => SeedFailure::Timeout,
            };
            tracing::debug!(seed, %failure, "a DNS seed was of no help");
            failures.push((seed.clone(), failure));
        }
        if found.is_empty() {
            return Err(BootstrapError::NothingFound(failures));
        }
        let nodes = found.into_iter().take(wanted);
        Ok(nodes
            .map(|(node_id, addresses)| SeedNode { node_id, addresses })
            .collect())
    }

    async fn ask_seed(
        &self,
        seed: &str,
        conditions: Conditions,
    ) -> Result<Vec<SeedNode>, DnsError> {
        let name = conditions
            .name(seed)
            .map_err(|_| DnsError::BadName(seed.to_owned()))?;
        let records = self.resolver.srv(&name).await?;
        let hosts = self.hosts(seed, conditions.node_id, records);
        let located = stream::iter(hosts)
            .map(|host| self.locate_host(host))
            .buffered(self.limits.at_once.max(1));
        let mut nodes: BTreeMap<PublicKey, Vec<SocketAddr>> = BTreeMap::new();
        let mut located = std::pin::pin!(located);
        while let Some((node_id, addresses)) = located.next().await {
            let known = nodes.entry(node_id).or_default();
            for address in addresses {
                if !known.contains(&address) && known.len() < 2 * self.limits.addresses {
                    known.push(address);
                }
            }
        }
        Ok(nodes
            .into_iter()
            .filter(|(_, addresses)| !addresses.is_empty())
            .map(|(node_id, addresses)| SeedNode { node_id, addresses })
            .collect())
    }

    /// The records that are virtual hostnames of this seed ("a subdomain of the seed root domain that
    /// uniquely identifies a node"), and of the node that was asked for: clients must not rely on it.
    fn hosts(&self, seed: &str, wanted: Option<PublicKey>, records: Vec<SrvRecord>) -> Vec<Host> {
        let mut hosts: Vec<Host> = Vec::new();
        for record in records.into_iter().take(self.limits.records) {
            let Ok(name) = normal_name(&record.target) else {
                continue;
            };
            let label = name.strip_suffix(seed).and_then(|l| l.strip_suffix('.'));
            let Some(Ok(node_id)) = label.map(parse_node_label) else {
                continue;
            };
            if record.port == 0 || wanted.is_some_and(|wanted| wanted != node_id) {
                continue;
            }
            let host = Host {
                node_id,
                name,
                port: record.port,
            };
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    async fn locate_host(&self, host: Host) -> (PublicKey, Vec<SocketAddr>) {
        let (v4, v6) = futures::join!(
            self.resolver.ipv4(&host.name),
            self.resolver.ipv6(&host.name)
        );
        let most = self.limits.addresses;
        let v4 = v4.unwrap_or_default().into_iter().take(most);
        let v6 = v6.unwrap_or_default().into_iter().take(most);
        let all = v4.map(IpAddr::V4).chain(v6.map(IpAddr::V6));
        let addresses = all.map(|ip| SocketAddr::new(ip, host.port)).collect();
        (host.node_id, addresses)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    node_id: PublicKey,
    name: String,
    port: u16,
}
