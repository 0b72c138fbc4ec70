//! The graph of the network in a file of its own: a cache, whose loss costs a resync and never money.

use std::{io, path::Path};

use bitcoin::Network;
use bitcoin::constants::ChainHash;
use fulmen_gossip::{NetworkGraph, SignedMessages};

use crate::private_file::{read_cache, write_private};

const FILE: &str = "graph";
const MAGIC: &[u8; 4] = b"FGC1";

/// Reads the graph that a node has saved in its data directory, and the signed messages that it came from.
/// `None` when there is none, or it is of no use. A running node writes it anew every few minutes, whole.
pub fn load(data_dir: &Path, network: Network) -> Option<(NetworkGraph, SignedMessages)> {
    let bytes = read_cache(&data_dir.join(FILE), "the graph is learned anew")?;
    let cache = parse(&bytes)
        .filter(|(graph, _)| graph.chain_hash() == ChainHash::using_genesis_block_const(network));
    if cache.is_none() {
        tracing::warn!(
            "the graph file is damaged or of another network; the graph is learned anew"
        );
    }
    cache
}

/// Writes the file, whole or not at all.
pub(crate) fn save(data_dir: &Path, graph: &NetworkGraph, messages: &[u8]) -> io::Result<()> {
    let graph = graph.to_bytes();
    let mut bytes = Vec::with_capacity(12 + graph.len() + messages.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(graph.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&graph);
    bytes.extend_from_slice(messages);
    write_private(&data_dir.join(FILE), &bytes)
}

/// Both parts carry checksums of their own.
fn parse(bytes: &[u8]) -> Option<(NetworkGraph, SignedMessages)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (graph, messages) = rest.split_at_checked(length)?;
    Some((
        NetworkGraph::from_bytes(graph).ok()?,
        SignedMessages::from_bytes(messages).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_damaged_file_is_as_none() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(load(dir.path(), Network::Regtest).is_none());
        let chain = ChainHash::using_genesis_block_const(Network::Regtest);
        let graph = NetworkGraph::empty(chain);
        let messages = SignedMessages::new().to_bytes();
        save(dir.path(), &graph, &messages).expect("ours");
        assert!(load(dir.path(), Network::Regtest).is_some());
        assert!(load(dir.path(), Network::Signet).is_none());
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).expect("written");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).expect("ours");
            assert!(load(dir.path(), Network::Regtest).is_none(), "byte {at}");
            fs::write(&path, &whole[..at]).expect("ours");
            assert!(load(dir.path(), Network::Regtest).is_none(), "cut at {at}");
        }
    }
}
