//! The order in which lists show payments and invoices: newest first.

use alloc::vec::Vec;

use fulmen_types::{
    PaymentHash, Timestamp,
    record::{RecordKey, Space, WriteBatch},
};

const VERSION: u8 = 1;
const TIME: usize = 8;

/// The key of a payment or invoice in the order of lists: its birth counted down, so that the newest is
/// the first, and its payment hash.
///
/// ```
/// use fulmen_payments::{newest_first_key, payment_hash_of_key};
/// use fulmen_types::{PaymentHash, Timestamp};
///
/// let hash = PaymentHash::new([7; 32]);
/// let (old, new) = (Timestamp::from_secs(1), Timestamp::from_secs(2));
/// assert!(newest_first_key(new, &hash) < newest_first_key(old, &hash));
/// assert_eq!(payment_hash_of_key(&newest_first_key(old, &hash)), Some(hash));
/// ```
pub fn newest_first_key(created_at: Timestamp, payment_hash: &PaymentHash) -> Vec<u8> {
    let mut key = Vec::with_capacity(TIME + payment_hash.as_bytes().len());
    key.extend_from_slice(&(u64::MAX - created_at.to_millis()).to_be_bytes());
    key.extend_from_slice(payment_hash.as_bytes());
    key
}

/// The payment hash of a key made by [`newest_first_key`]; `None` of another one.
pub fn payment_hash_of_key(key: &[u8]) -> Option<PaymentHash> {
    let (_, hash) = key.split_at_checked(TIME)?;
    Some(PaymentHash::new(hash.try_into().ok()?))
}

/// Moves the record of a payment or invoice from `live` to `archive`, and lists it in `by_time`.
pub fn archive(
    [live, archive, by_time]: [Space; 3],
    payment_hash: &PaymentHash,
    created_at: Timestamp,
    record: Vec<u8>,
    batch: &mut WriteBatch,
) {
    batch.delete(RecordKey::new(live, *payment_hash.as_bytes()));
    batch.put(RecordKey::new(archive, *payment_hash.as_bytes()), record);
    let key = newest_first_key(created_at, payment_hash);
    batch.put(RecordKey::new(by_time, key), alloc::vec![VERSION]);
}

/// Takes a payment or invoice out of `archive` and `by_time` again.
pub fn unarchive(
    [archive, by_time]: [Space; 2],
    payment_hash: &PaymentHash,
    created_at: Timestamp,
    batch: &mut WriteBatch,
) {
    batch.delete(RecordKey::new(archive, *payment_hash.as_bytes()));
    let key = newest_first_key(created_at, payment_hash);
    batch.delete(RecordKey::new(by_time, key));
}
