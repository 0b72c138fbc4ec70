//! A channel's records: their keys, writing and reading.

use alloc::{collections::BTreeMap, vec::Vec};

use fulmen_tx::{ChannelKeysId, CounterpartyCommitment, Side};
use fulmen_types::{
    CommitmentNumber, HtlcId,
    codec::{Decode, Encode},
    record::{RecordKey, Space, WriteBatch},
};

use crate::{
    error::RestoreError,
    htlc::{Htlc, HtlcKey, UpdateState},
    state::Core,
};

/// The key of a channel's own record.
pub fn channel_key(keys_id: &ChannelKeysId) -> RecordKey {
    RecordKey::new(Space::Channel, keys_id.as_bytes().as_slice())
}

/// The key of an HTLC's record: the channel, who offered it, its id.
pub fn htlc_key(keys_id: &ChannelKeysId, offered_by: Side, id: HtlcId) -> RecordKey {
    let mut key = keys_id.as_bytes().to_vec();
    offered_by.encode(&mut key);
    id.encode(&mut key);
    RecordKey::new(Space::Htlc, key)
}

/// The key of what punishes commitment `number` of the peer: an encoded
/// [`fulmen_tx::CounterpartyCommitment`].
pub fn remote_commitment_key(keys_id: &ChannelKeysId, number: CommitmentNumber) -> RecordKey {
    let mut key = keys_id.as_bytes().to_vec();
    number.encode(&mut key);
    RecordKey::new(Space::RemoteCommitment, key)
}

pub(crate) fn put_core(core: &Core, batch: &mut WriteBatch) {
    batch.put(channel_key(&core.params.keys_id), core.durable().to_bytes());
}

/// An HTLC that is gone is deleted. One that the peer offered and did not sign is not on disk.
pub(crate) fn put_htlc(
    keys_id: &ChannelKeysId,
    (offered_by, id): HtlcKey,
    htlc: Option<&Htlc>,
    batch: &mut WriteBatch,
) {
    let key = htlc_key(keys_id, offered_by, id);
    match htlc {
        Some(htlc) if is_durable(htlc) => batch.put(key, htlc.durable().to_bytes()),
        Some(_) => {}
        None => batch.delete(key),
    }
}

pub(crate) fn is_durable(htlc: &Htlc) -> bool {
    htlc.state != UpdateState::Add || htlc.offered_by() == Side::Local
}

pub(crate) fn put_remote_commitment(
    keys_id: &ChannelKeysId,
    commitment: &CounterpartyCommitment,
    batch: &mut WriteBatch,
) {
    batch.put(
        remote_commitment_key(keys_id, commitment.content.number),
        commitment.to_bytes(),
    );
}

/// Deletes all records of a channel, those of revoked commitments included.
pub(crate) fn delete_all<'a>(
    core: &Core,
    htlcs: impl Iterator<Item = &'a HtlcKey>,
    batch: &mut WriteBatch,
) {
    let keys_id = &core.params.keys_id;
    batch.delete(channel_key(keys_id));
    for (offered_by, id) in htlcs {
        batch.delete(htlc_key(keys_id, *offered_by, *id));
    }
    for number in 0..=core.remote_number.to_u64() {
        if let Some(number) = CommitmentNumber::new(number) {
            batch.delete(remote_commitment_key(keys_id, number));
        }
    }
}

/// The state whose records these are.
pub(crate) fn read<'a>(
    core: &[u8],
    htlcs: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Core, BTreeMap<HtlcKey, Htlc>), RestoreError> {
    let core = Core::from_bytes(core)?;
    if core.feerates.is_empty() {
        return Err(RestoreError::Inconsistent("no feerate".into()));
    }
    let htlcs: Vec<Htlc> = htlcs
        .into_iter()
        .map(Htlc::from_bytes)
        .collect::<Result<_, _>>()?;
    let htlcs: BTreeMap<HtlcKey, Htlc> = htlcs.into_iter().map(|htlc| (htlc.key(), htlc)).collect();
    Ok((core, htlcs))
}
