//! Where a new node and a new wallet begin in the chain.

use std::time::Duration;

use bitcoin::Network;
use fulmen_block_sync::{Bitcoind, BlockRef, ChainInfo};

use crate::BuildError;

/// More blocks than any reorganisation of the last decade has thrown out.
const BLOCKS_BEFORE_BIRTH: u32 = 12;
/// How long Bitcoin Core may take to answer at start before it counts as down.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// The chain's tip. Without an answer of Bitcoin Core only a node that has one already can go on.
pub(crate) async fn first_tip(
    client: &Bitcoind,
    network: Network,
    is_needed: bool,
) -> Result<Option<BlockRef>, BuildError> {
    let answer = tokio::time::timeout(FIRST_ANSWER, client.chain_info()).await;
    let problem = match answer {
        Ok(Ok(ChainInfo {
            network: theirs,
            best,
            ..
        })) if theirs == network => {
            return Ok(Some(best));
        }
        Ok(Ok(ChainInfo {
            network: theirs, ..
        })) => {
            return Err(BuildError::Chain(format!(
                "Bitcoin Core is on {}, and this node on {}; set `bitcoind` to one on {1}, or `network` to {0}",
                network_name(theirs),
                network_name(network)
            )));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "Bitcoin Core did not answer in time".to_owned(),
    };
    if is_needed {
        return Err(BuildError::Chain(format!(
            "the first start needs Bitcoin Core: {problem} (see `bitcoind` and `bitcoind_cookie` in the configuration)"
        )));
    }
    tracing::warn!(
        problem,
        "the chain source does not answer; going on from the last known block"
    );
    Ok(None)
}

/// The block after which the wallet looks for coins: the tip, or the one before `height`.
pub(crate) async fn birthday(
    client: &Bitcoind,
    height: Option<u32>,
    tip: BlockRef,
) -> Result<BlockRef, BuildError> {
    match height {
        Some(height) => block_at(client, height.saturating_sub(1).min(tip.height)).await,
        None => Ok(tip),
    }
}

/// Where a new node begins: some blocks below the tip, so that it knows the way back when a reorganisation
/// comes right after its birth.
pub(crate) async fn node_start(client: &Bitcoind, tip: BlockRef) -> Result<BlockRef, BuildError> {
    block_at(client, tip.height.saturating_sub(BLOCKS_BEFORE_BIRTH)).await
}

async fn block_at(client: &Bitcoind, height: u32) -> Result<BlockRef, BuildError> {
    let hash = client.block_hash(height).await;
    let hash = hash.map_err(|e| BuildError::Chain(e.to_string()))?;
    let hash = hash.ok_or_else(|| {
        BuildError::Chain(format!(
            "Bitcoin Core has no block at height {height} any more"
        ))
    })?;
    Ok(BlockRef { hash, height })
}

/// The name that users know a network by.
pub fn network_name(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "mainnet",
        Network::Testnet => "testnet3",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
    }
}
