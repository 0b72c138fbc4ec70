//! The cheat: what somebody does who wants an old state of a channel back.
//!
//! No daemon does this. The tool opens a copy of a node's store that was made while the node was stopped,
//! restores the channel as the node would, and signs the commitment that was the newest one then, with the
//! keys of the copied seed. It also takes one HTLC of that commitment into its second stage.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bitcoin::{
    Network, OutPoint, Transaction, TxOut,
    consensus::encode::{deserialize_hex, serialize_hex},
};
use fulmen_channel::Channel;
use fulmen_persister::{SqliteStore, load_for_start};
use fulmen_seed::SeedFile;
use fulmen_signer::{BroadcastTx, ClaimInput, ClaimSigning, HolderSigning, KeysManager};
use fulmen_tx::{ClaimKind, CommitmentFormat, HtlcKind, Secp, Side, commitment_fee};
use fulmen_types::{PaymentPreimage, record::Space};
use serde::{Deserialize, Serialize};

/// The daemon's store in its data directory.
const STORE_FILE: &str = "node.sqlite";

/// The old commitment and one second stage, signed, with what the accounts need to know of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cheat {
    /// The number of the commitment.
    pub commitment_number: u64,
    /// The commitment transaction in hex.
    pub commitment: String,
    /// The HTLC-success transaction in hex.
    pub second_stage: String,
    /// HTLC outputs that the cheat offered.
    pub htlcs_offered: usize,
    /// HTLC outputs that the cheat received.
    pub htlcs_received: usize,
    /// What the commitment pays to the miner by its feerate, in satoshi.
    pub base_fee_sat: u64,
    /// HTLCs too small for an output, in millisatoshi.
    pub trimmed_msat: u64,
    /// The indices of both anchors.
    pub anchors: Vec<u32>,
}

impl Cheat {
    /// The commitment transaction.
    pub fn commitment_tx(&self) -> Result<Transaction> {
        deserialize_hex(&self.commitment).context("the cheat's commitment can't be read")
    }

    /// The HTLC-success transaction.
    pub fn second_stage_tx(&self) -> Result<Transaction> {
        deserialize_hex(&self.second_stage).context("the cheat's second stage can't be read")
    }
}

/// What to cheat with.
#[derive(Clone, Debug)]
pub struct Request {
    /// The copied data directory: seed and store.
    pub data_dir: PathBuf,
    /// Which channel.
    pub funding: OutPoint,
    /// Preimages that were learnt since: one of a received HTLC makes the second stage.
    pub preimages: Vec<PaymentPreimage>,
}

/// Signs the newest commitment of the copied store and the second stage of one HTLC.
pub fn prepare(request: &Request) -> Result<Cheat> {
    let seed = SeedFile::open(&request.data_dir)?.unlock(None)?;
    let signer = KeysManager::new(seed.node_seed(), Network::Regtest);
    let channel = restore_channel(&request.data_dir.join(STORE_FILE), &request.funding)?;
    let data = channel
        .enforcement()
        .context("the channel in the copied store was never funded")?;
    let commitment = data
        .holder
        .context("the channel in the copied store has no commitment to broadcast")?;
    let secp = Secp::new();
    let params = data.params;
    let built = commitment.build(&secp, &params);

    let signed = BroadcastTx::HolderCommitment(Box::new(HolderSigning {
        params,
        commitment: commitment.clone(),
    }));
    let signed = signed
        .complete(&signer)
        .map_err(|e| anyhow::anyhow!("{e}"))?;

    // The second stage: an HTLC that the cheat received and whose preimage it knows by now.
    let found = built
        .htlcs
        .iter()
        .enumerate()
        .find_map(|(index, (htlc, vout))| {
            let preimage = request
                .preimages
                .iter()
                .find(|preimage| preimage.payment_hash() == htlc.payment_hash)?;
            (htlc.offered_by == Side::Remote).then_some((index, *htlc, *vout, *preimage))
        });
    let Some((index, htlc, vout, preimage)) = found else {
        bail!("no HTLC that was received in that commitment belongs to a preimage that is known");
    };
    let kind = ClaimKind::HolderHtlcSuccess {
        per_commitment_point: commitment.per_commitment_point,
        htlc,
        feerate: commitment.content.feerate,
        counterparty_signature: *commitment
            .htlc_signatures
            .get(index)
            .context("a signature of the peer is missing")?,
        preimage,
    };
    let prevout: TxOut = built.txout(vout).context("the HTLC has no output")?.clone();
    let second_stage = BroadcastTx::Claim(Box::new(ClaimSigning {
        params,
        tx: built.htlc_tx(&htlc, vout),
        inputs: vec![ClaimInput {
            index: 0,
            prevout,
            kind,
        }],
    }));
    let second_stage = second_stage
        .complete(&signer)
        .map_err(|e| anyhow::anyhow!("{e}"))?;

    let offered = |side| {
        built
            .htlcs
            .iter()
            .filter(|(htlc, _)| htlc.offered_by == side)
            .count()
    };
    let outputs = u64::try_from(built.htlcs.len())?;
    let base_fee = match params.format {
        CommitmentFormat::StaticRemoteKey | CommitmentFormat::AnchorsZeroFeeHtlc => {
            commitment_fee(params.format, commitment.content.feerate, outputs)
        }
    };
    ensure!(
        signed.compute_txid() == built.txid,
        "the signed commitment is not the one that was built"
    );
    ensure!(
        built.htlc_kind(&htlc) == HtlcKind::Received,
        "the second stage is not of a received HTLC"
    );
    Ok(Cheat {
        commitment_number: commitment.content.number.to_u64(),
        commitment: serialize_hex(&signed),
        second_stage: serialize_hex(&second_stage),
        htlcs_offered: offered(Side::Local),
        htlcs_received: offered(Side::Remote),
        base_fee_sat: base_fee.to_sat(),
        trimmed_msat: built.trimmed.iter().map(|htlc| htlc.amount.to_msat()).sum(),
        anchors: [built.to_local_anchor_vout, built.to_remote_anchor_vout]
            .into_iter()
            .flatten()
            .collect(),
    })
}

/// Copies the data directory of a node that does not run.
pub fn copy_data_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The channel with this funding output, as the store has it.
fn restore_channel(store: &Path, funding: &OutPoint) -> Result<Channel> {
    ensure!(store.exists(), "there is no store at {}", store.display());
    let mut store = SqliteStore::open(store)?;
    let records = load_for_start(&mut store)?;
    for (key, value) in records
        .iter()
        .filter(|(key, _)| key.space == Space::Channel)
    {
        let htlcs = records
            .iter()
            .filter(|(k, _)| k.space == Space::Htlc && k.key.starts_with(&key.key))
            .map(|(_, value)| value.as_slice());
        let channel = Channel::restore(value, htlcs)
            .map_err(|e| anyhow::anyhow!("a channel in the store can't be read: {e}"))?;
        if channel.funding_outpoint().as_ref() == Some(funding) {
            return Ok(channel);
        }
    }
    bail!("the store has no channel with funding output {funding}");
}
