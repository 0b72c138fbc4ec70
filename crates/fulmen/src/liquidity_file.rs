//! What the router has learned, in a file of its own: a cache, whose loss costs knowledge and never money.

use std::{io, path::Path};

use fulmen_background_processor::LocalRouter;

use crate::private_file::{read_cache, write_private};

const FILE: &str = "liquidity";

/// Reads the file, which carries a checksum. `None` when there is none, or it is of no use.
pub(crate) fn load(data_dir: &Path) -> Option<LocalRouter> {
    let bytes = read_cache(
        &data_dir.join(FILE),
        "what channels can carry is learned anew",
    )?;
    let router = LocalRouter::from_bytes(&bytes);
    if let Err(error) = &router {
        tracing::warn!(%error, "what channels can carry is learned anew");
    }
    router.ok()
}

/// Writes the file, whole or not at all.
pub(crate) fn save(data_dir: &Path, bytes: &[u8]) -> io::Result<()> {
    write_private(&data_dir.join(FILE), bytes)
}

#[cfg(test)]
mod tests {
    use bitcoin::constants::ChainHash;
    use fulmen_gossip::NetworkGraph;

    use super::*;

    #[test]
    fn a_damaged_file_is_as_none() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(load(dir.path()).is_none());
        let graph = NetworkGraph::empty(ChainHash::REGTEST);
        let bytes = LocalRouter::new().to_bytes(&graph);
        save(dir.path(), &bytes).expect("ours");
        let loaded = load(dir.path()).expect("just saved");
        assert_eq!(loaded.to_bytes(&graph), bytes);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            save(dir.path(), &damaged).expect("ours");
            assert!(load(dir.path()).is_none(), "byte {at}");
        }
    }
}
