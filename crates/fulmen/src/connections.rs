//! What the connection policy asks, and its memory in a file.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bitcoin::{
    Network,
    hashes::{Hash, sha256},
};
use fulmen_background_processor::NodeHandle;
use fulmen_connect::{ConnectConfig, NodeAddresses, Question};
use fulmen_dns::{Bootstrap, Limits, SystemResolver, default_seeds};
use fulmen_gossip::NetworkGraph;
use fulmen_net_tokio::{Directory, Net, Work};
use fulmen_node::Node;
use fulmen_types::{
    NodeId,
    codec::{Decode, Reader},
};
use fulmen_wire::NetAddress;
use tokio::sync::watch;

use crate::private_file::{read_cache, write_private};

const FILE: &str = "peers";
const MAGIC: &[u8; 4] = b"FPM1";
/// How often the memory is saved when it has changed.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// The limits of the connection policy that fit a network: on regtest nobody is looked for but who is wanted,
/// no DNS seed is asked, and addresses may be private.
pub fn default_limits(network: Network) -> ConnectConfig {
    let config = ConnectConfig::default();
    if network == Network::Regtest {
        ConnectConfig {
            min_peers: 0,
            bootstrap: false,
            dial_private: true,
            ask_interval: 1_000,
            ..config
        }
    } else {
        config
    }
}

/// Looks nodes up in the graph of the running node, and with DNS seeds.
pub(crate) struct NodeDirectory {
    own_id: NodeId,
    seeds: Option<Bootstrap>,
    handle: Arc<OnceLock<NodeHandle<Node>>>,
}

impl NodeDirectory {
    /// Without seeds it asks none. The handle may be set later: until then nobody is known.
    pub(crate) fn new(
        own_id: NodeId,
        network: Network,
        seeds: Option<Vec<String>>,
        handle: Arc<OnceLock<NodeHandle<Node>>>,
    ) -> Self {
        let seeds =
            seeds.unwrap_or_else(|| default_seeds(network).iter().map(|s| (*s).into()).collect());
        Self {
            own_id,
            seeds: bootstrap(&seeds),
            handle,
        }
    }
}

fn bootstrap(seeds: &[String]) -> Option<Bootstrap> {
    if seeds.is_empty() {
        return None;
    }
    let resolver = match SystemResolver::of_system() {
        Ok(resolver) => Arc::new(resolver),
        Err(error) => {
            tracing::warn!(%error, "DNS seeds can't be asked; connect to a first peer by hand");
            return None;
        }
    };
    match Bootstrap::new(resolver, seeds, Limits::default()) {
        Ok(bootstrap) => Some(bootstrap),
        Err(error) => {
            tracing::warn!(%error, "DNS seeds can't be asked");
            None
        }
    }
}

impl Directory for NodeDirectory {
    fn ask(&self, question: Question) -> Work<Vec<NodeAddresses>> {
        let own_id = self.own_id;
        match question {
            Question::Graph {
                nodes,
                others,
                pick,
            } => {
                let handle = self.handle.get().cloned();
                Box::pin(async move {
                    let Some(handle) = handle else {
                        return Vec::new();
                    };
                    let Ok(graph) = handle.query_mut(Node::graph).await else {
                        return Vec::new();
                    };
                    let look = move || in_graph(&graph, own_id, &nodes, others, pick);
                    tokio::task::spawn_blocking(look).await.unwrap_or_default()
                })
            }
            Question::Seeds { count } => {
                let seeds = self.seeds.clone();
                Box::pin(async move {
                    let Some(seeds) = seeds else {
                        return Vec::new();
                    };
                    match seeds.nodes(count).await {
                        Ok(found) => found
                            .into_iter()
                            .map(|node| NodeAddresses {
                                node: node.node_id.into(),
                                addresses: node.addresses.iter().map(ToString::to_string).collect(),
                            })
                            .filter(|known| known.node != own_id)
                            .collect(),
                        Err(error) => {
                            tracing::warn!(%error, "no peer was found");
                            Vec::new()
                        }
                    }
                })
            }
        }
    }
}

/// The nodes that were asked for, as far as they announce where they are, and some others.
fn in_graph(
    graph: &NetworkGraph,
    own_id: NodeId,
    nodes: &[NodeId],
    others: usize,
    pick: u64,
) -> Vec<NodeAddresses> {
    let known = |node: NodeId| {
        let details = graph.node_details(&node)?;
        let addresses = dialable(&details.addresses);
        (!addresses.is_empty() && node != own_id).then_some(NodeAddresses { node, addresses })
    };
    let mut found: Vec<NodeAddresses> = nodes.iter().filter_map(|node| known(*node)).collect();
    let slots = graph.node_slots() as u64;
    if others == 0 || slots == 0 {
        return found;
    }
    let wanted = found.len() + others;
    // From a random place on. Many nodes announce no address, but not so many in a row.
    for step in 0..slots.min(others as u64 * 64) {
        let place = usize::try_from((pick % slots + step) % slots).ok();
        let node = place
            .and_then(|place| graph.node_at(place))
            .and_then(|index| graph.node_id(index));
        let is_new = |node: &NodeId| !nodes.contains(node);
        found.extend(node.filter(is_new).and_then(known));
        if found.len() >= wanted {
            break;
        }
    }
    found
}

/// The addresses that can be dialled over TCP as they are: no onion services.
fn dialable(descriptors: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(descriptors);
    let mut addresses = Vec::new();
    while !reader.remaining().is_empty() {
        let Ok(address) = NetAddress::decode(&mut reader) else {
            break;
        };
        match &address {
            NetAddress::Ipv4 { .. } | NetAddress::Ipv6 { .. } => {
                addresses.extend(address.to_socket_addr().map(|socket| socket.to_string()));
            }
            NetAddress::DnsHostname { hostname, port } => {
                addresses.push(format!("{hostname}:{port}"));
            }
            NetAddress::TorV3 { .. } | NetAddress::Unknown(_) => {}
        }
    }
    addresses
}

/// Reads the policy's memory. Empty when there is none, or it is of no use.
pub(crate) fn load_memory(data_dir: &Path) -> Vec<u8> {
    let path = data_dir.join(FILE);
    let Some(bytes) = read_cache(&path, "known peers are learned anew") else {
        return Vec::new();
    };
    let memory = bytes
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<32>())
        .filter(|(checksum, memory)| sha256::Hash::hash(memory).to_byte_array() == **checksum);
    if memory.is_none() {
        tracing::warn!("the file of known peers is damaged; they are learned anew");
    }
    memory
        .map(|(_, memory)| memory.to_vec())
        .unwrap_or_default()
}

fn save(data_dir: &Path, memory: &[u8]) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(sha256::Hash::hash(memory).as_byte_array());
    bytes.extend_from_slice(memory);
    write_private(&data_dir.join(FILE), &bytes)
}

/// Saves the policy's memory now and then, and at the end.
pub(crate) async fn save_memory(net: Net, dir: PathBuf, mut stop: watch::Receiver<bool>) {
    let mut saved = Vec::new();
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(SAVE_INTERVAL) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let memory = net.memory();
        if memory != saved {
            let (dir, bytes) = (dir.clone(), memory.clone());
            match tokio::task::spawn_blocking(move || save(&dir, &bytes)).await {
                Ok(Ok(())) => saved = memory,
                Ok(Err(error)) => tracing::warn!(%error, "the known peers could not be saved"),
                Err(error) => tracing::warn!(%error, "the known peers could not be saved"),
            }
        }
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use fulmen_types::codec::Encode;

    #[test]
    fn a_damaged_file_is_as_none() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(load_memory(dir.path()).is_empty());
        save(dir.path(), b"whom we know").expect("ours");
        assert_eq!(load_memory(dir.path()), b"whom we know");
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).expect("written");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).expect("ours");
            assert!(load_memory(dir.path()).is_empty(), "byte {at}");
            fs::write(&path, &whole[..at]).expect("ours");
            assert!(load_memory(dir.path()).is_empty(), "cut at {at}");
        }
    }

    #[test]
    fn descriptors_become_addresses_and_odd_ones_are_left_out() {
        let mut bytes = Vec::new();
        for text in ["1.2.3.4:9735", "[2600::1]:9736"] {
            let socket: std::net::SocketAddr = text.parse().expect("an address");
            NetAddress::from(socket).encode(&mut bytes);
        }
        NetAddress::TorV3 {
            onion_addr: [7; 35],
            port: 9_735,
        }
        .encode(&mut bytes);
        let hostname = fulmen_wire::Hostname::new("node.example").expect("a name");
        NetAddress::DnsHostname {
            hostname,
            port: 9_737,
        }
        .encode(&mut bytes);
        let expected = ["1.2.3.4:9735", "[2600::1]:9736", "node.example:9737"];
        assert_eq!(dialable(&bytes), expected);
        // Cut short, or followed by what nobody knows.
        for cut in 0..bytes.len() {
            assert!(dialable(&bytes[..cut]).len() <= 3);
        }
        bytes.push(99);
        assert_eq!(dialable(&bytes), expected);
    }
}
