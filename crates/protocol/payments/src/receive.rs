//! Invoices of ours, and the HTLCs that pay them, in one part or many.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

use fulmen_onion::{FailureMessage, ReceivePayload, SharedSecret};
use fulmen_types::{
    BlockHeight, CltvExpiry, CltvExpiryDelta, Msat, PaymentHash, PaymentPreimage, PaymentSecret,
    Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, decode_text, encode_text},
    record::{RecordKey, Space, WriteBatch},
};

use crate::{IncomingRef, Resolution, forward::fail};

/// The `min_final_cltv_expiry_delta` of our invoices (BOLT 11's default, and the least that is safe).
pub const MIN_FINAL_CLTV_EXPIRY_DELTA: u16 = 18;
/// What we ask for by default: the least, with which a payment that is fulfilled goes on chain at once if the
/// peer is away, and time for an outage of a dozen blocks before that. Payers whose tip is behind ours, and
/// parts that wait for others while blocks come in, are not refused either.
pub const DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA: u16 = 36;
/// How many blocks a payer's tip may be behind ours, or come in on the way: an expiry that much below what the
/// invoice asks for is taken, as long as it is safe.
const PAYER_BEHIND_BLOCKS: u16 = 6;
/// How long the first part of a payment waits for the last (BOLT 4: at least 60 seconds).
pub const MPP_TIMEOUT_MILLIS: u64 = 60_000;
/// The most parts of one payment that are held.
const MAX_PARTS: usize = 1_000;
const VERSION: u8 = 1;

/// How far an invoice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceStatus {
    /// It can be paid until it expires.
    Open,
    /// It was paid.
    Paid {
        /// What arrived.
        amount: Msat,
        /// When.
        at: Timestamp,
    },
    /// We withdrew it.
    Cancelled,
}

/// An invoice of ours, as the record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Opens the HTLCs that pay it.
    pub preimage: PaymentPreimage,
    /// Proves that the payer has read the invoice.
    pub payment_secret: PaymentSecret,
    /// What is asked; `None` lets the payer choose.
    pub amount: Option<Msat>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be paid.
    pub expires_at: Timestamp,
    /// Blocks that the last HTLC must have.
    pub min_final_cltv_expiry_delta: CltvExpiryDelta,
    /// What it is for.
    pub description: String,
    /// The BOLT 11 text, empty until it is signed.
    pub bolt11: String,
    /// How far it is.
    pub status: InvoiceStatus,
}

impl Invoice {
    /// The hash that payers lock their HTLCs with.
    pub fn payment_hash(&self) -> PaymentHash {
        self.preimage.payment_hash()
    }

    /// Whether it is open and its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.status == InvoiceStatus::Open && now >= self.expires_at
    }
}

/// Why an invoice was not made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceError {
    /// There is an invoice with this hash.
    HashInUse,
    /// There is none with this hash.
    Unknown,
    /// It is not open any more.
    NotOpen,
    /// An amount of zero, or above all money.
    Amount,
    /// Less than [`MIN_FINAL_CLTV_EXPIRY_DELTA`].
    CltvTooShort,
}

impl fmt::Display for InvoiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HashInUse => "there is an invoice with this payment hash: take another preimage",
            Self::Unknown => "there is no invoice with this payment hash",
            Self::NotOpen => "the invoice is not open any more",
            Self::Amount => {
                "the amount must be above zero and at most 21 million bitcoin; leave it out to let \
                 the payer choose"
            }
            Self::CltvTooShort => "min_final_cltv_expiry_delta must be at least 18 blocks",
        })
    }
}

impl core::error::Error for InvoiceError {}

/// An HTLC for us, irrevocably committed, with what its onion says.
#[derive(Clone, Debug)]
pub struct ReceivedHtlc {
    /// Which HTLC.
    pub source: IncomingRef,
    /// What it is worth.
    pub amount: Msat,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// When it times out.
    pub cltv_expiry: CltvExpiry,
    /// What the onion says.
    pub payload: ReceivePayload,
    /// For the failure, should there be one.
    pub shared_secret: SharedSecret,
}

/// What came of an HTLC or of time passing. Apply all resolutions in the batch that was written to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Received {
    /// HTLCs that end now, each with how. None: wait for more parts.
    pub resolutions: Vec<(IncomingRef, Resolution)>,
    /// The invoice that was paid by this.
    pub paid: Option<Paid>,
}

/// An invoice was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// Which.
    pub payment_hash: PaymentHash,
    /// What arrived.
    pub amount: Msat,
    /// In how many HTLCs.
    pub parts: usize,
}

#[derive(Clone, Debug)]
struct Part {
    source: IncomingRef,
    /// What has arrived.
    amount: Msat,
    /// What the payer meant to arrive; a node on the way may have given more.
    intended: Msat,
    shared_secret: SharedSecret,
    cltv_expiry: CltvExpiry,
}

/// Parts of one payment that wait for the rest. Not durable: their HTLCs are, and come in again after a
/// restart.
#[derive(Clone, Debug)]
struct PartSet {
    total: Msat,
    since: Timestamp,
    parts: Vec<Part>,
}

/// All invoices of ours and the payments that are arriving.
#[derive(Clone, Debug, Default)]
pub struct Invoices {
    records: BTreeMap<PaymentHash, Invoice>,
    sets: BTreeMap<PaymentHash, PartSet>,
}

impl Invoices {
    /// No invoices.
    pub const fn new() -> Self {
        Self {
            records: BTreeMap::new(),
            sets: BTreeMap::new(),
        }
    }

    /// From the records of [`Space::Invoice`]: key and value of each.
    pub fn restore<'a>(
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, DecodeError> {
        let mut invoices = Self::new();
        for (key, value) in records {
            let record = Invoice::from_bytes(value)?;
            if key != record.payment_hash().as_bytes() {
                return Err(DecodeError::InvalidValue("key of an invoice record"));
            }
            invoices.records.insert(record.payment_hash(), record);
        }
        Ok(invoices)
    }

    /// Adds the records of all invoices: what [`Invoices::restore`] makes them from.
    pub fn write_records(&self, batch: &mut WriteBatch) {
        for record in self.records.values() {
            write(record, batch);
        }
    }

    /// Adds an invoice. Its text is set by [`Invoices::set_signed`] once the signer has answered; it can
    /// be paid from now on.
    pub fn create(
        &mut self,
        record: Invoice,
        batch: &mut WriteBatch,
    ) -> Result<PaymentHash, InvoiceError> {
        let payment_hash = record.payment_hash();
        if self.records.contains_key(&payment_hash) {
            return Err(InvoiceError::HashInUse);
        }
        if record
            .amount
            .is_some_and(|amount| amount == Msat::ZERO || amount > Msat::MAX_MONEY)
        {
            return Err(InvoiceError::Amount);
        }
        if record.min_final_cltv_expiry_delta.to_u16() < MIN_FINAL_CLTV_EXPIRY_DELTA {
            return Err(InvoiceError::CltvTooShort);
        }
        write(&record, batch);
        self.records.insert(payment_hash, record);
        Ok(payment_hash)
    }

    /// Keeps the signed text.
    pub fn set_signed(
        &mut self,
        payment_hash: PaymentHash,
        bolt11: String,
        batch: &mut WriteBatch,
    ) -> Result<(), InvoiceError> {
        let record = self
            .records
            .get_mut(&payment_hash)
            .ok_or(InvoiceError::Unknown)?;
        record.bolt11 = bolt11;
        write(record, batch);
        Ok(())
    }

    /// Withdraws an open invoice: parts that have arrived are failed.
    pub fn cancel(
        &mut self,
        payment_hash: PaymentHash,
        tip: BlockHeight,
        batch: &mut WriteBatch,
    ) -> Result<Received, InvoiceError> {
        let record = self
            .records
            .get_mut(&payment_hash)
            .ok_or(InvoiceError::Unknown)?;
        if record.status != InvoiceStatus::Open {
            return Err(InvoiceError::NotOpen);
        }
        record.status = InvoiceStatus::Cancelled;
        write(record, batch);
        let parts = self
            .sets
            .remove(&payment_hash)
            .map_or(Vec::new(), |set| set.parts);
        Ok(Received {
            resolutions: parts
                .iter()
                .map(|part| part.fail(&unknown_details(part.amount, tip)))
                .collect(),
            paid: None,
        })
    }

    /// Drops an invoice from memory that can't be paid any more; its record stays. An HTLC for it is
    /// refused as unknown.
    pub fn forget(&mut self, payment_hash: &PaymentHash, now: Timestamp) {
        let ended = self
            .records
            .get(payment_hash)
            .is_some_and(|record| record.status != InvoiceStatus::Open || record.is_expired(now));
        if ended && !self.sets.contains_key(payment_hash) {
            self.records.remove(payment_hash);
        }
    }

    /// An invoice by its hash.
    pub fn get(&self, payment_hash: &PaymentHash) -> Option<&Invoice> {
        self.records.get(payment_hash)
    }

    /// All invoices, by hash.
    pub fn iter(&self) -> impl Iterator<Item = &Invoice> {
        self.records.values()
    }

    /// Takes an HTLC that is for us. The same HTLC again changes nothing.
    ///
    /// HTLCs are judged in their order (BOLT 4, Basic Multi-Part Payments). One that is the whole payment ends
    /// it at once, and what comes after it is refused: an invoice is paid once. One that comes while parts
    /// wait joins them, whoever sent it, and all are taken as soon as they make up the total.
    pub fn receive(
        &mut self,
        htlc: &ReceivedHtlc,
        now: Timestamp,
        tip: BlockHeight,
        batch: &mut WriteBatch,
    ) -> Received {
        let part = Part {
            source: htlc.source,
            amount: htlc.amount,
            intended: htlc.payload.amt_to_forward,
            shared_secret: htlc.shared_secret.clone(),
            cltv_expiry: htlc.cltv_expiry,
        };
        let total = match self.check(htlc, tip, now) {
            Ok(total) => total,
            Err(failure) => {
                return Received {
                    resolutions: alloc::vec![part.fail(&failure)],
                    paid: None,
                };
            }
        };
        let set = self.sets.entry(htlc.payment_hash).or_insert(PartSet {
            total,
            since: now,
            parts: Vec::new(),
        });
        if set.parts.iter().any(|known| known.source == part.source) {
            return Received::default();
        }
        set.parts.push(part);
        let sum = |amount: fn(&Part) -> Msat| {
            let amounts = set.parts.iter().map(amount);
            amounts.fold(Msat::ZERO, Msat::saturating_add)
        };
        // BOLT 4: what counts is what the payer meant. Were the preimage out before its last part has arrived,
        // who is on the way of that part could keep it.
        if sum(|part| part.intended) < set.total {
            return Received::default();
        }
        let arrived = sum(|part| part.amount);
        self.complete(htlc.payment_hash, arrived, now, batch)
    }

    /// Fails payments whose parts did not all arrive in time (`mpp_timeout`), and parts that come too
    /// close to their expiry.
    pub fn tick(&mut self, now: Timestamp, tip: BlockHeight) -> Received {
        let mut received = Received::default();
        self.sets.retain(|_, set| {
            let late = now.millis_since(set.since) >= MPP_TIMEOUT_MILLIS;
            let near = set.parts.iter().any(|part| {
                part.cltv_expiry.blocks_from(tip) < u32::from(MIN_FINAL_CLTV_EXPIRY_DELTA)
            });
            if late || near {
                received.resolutions.extend(
                    set.parts
                        .iter()
                        .map(|part| part.fail(&FailureMessage::MppTimeout)),
                );
            }
            !(late || near)
        });
        received
    }

    /// When [`Invoices::tick`] has something to do next, time alone considered.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.sets
            .values()
            .map(|set| set.since.plus_millis(MPP_TIMEOUT_MILLIS))
            .min()
    }

    /// Whether an HTLC can be a part: gives the total of its payment.
    fn check(
        &self,
        htlc: &ReceivedHtlc,
        tip: BlockHeight,
        now: Timestamp,
    ) -> Result<Msat, FailureMessage> {
        let payload = &htlc.payload;
        // BOLT 4, payload, final node: what the onion promises must have arrived.
        if htlc.cltv_expiry < payload.outgoing_cltv_value {
            return Err(FailureMessage::FinalIncorrectCltvExpiry {
                cltv_expiry: htlc.cltv_expiry,
            });
        }
        if htlc.amount < payload.amt_to_forward {
            return Err(FailureMessage::FinalIncorrectHtlcAmount {
                incoming_htlc_amt: htlc.amount,
            });
        }
        // BOLT 4, failure messages, final node: all else looks the same from outside.
        let refused = || unknown_details(htlc.amount, tip);
        let record = self
            .records
            .get(&htlc.payment_hash)
            .filter(|record| record.status == InvoiceStatus::Open && !record.is_expired(now))
            .ok_or_else(refused)?;
        let data = payload.payment_data.as_ref().ok_or_else(refused)?;
        if data.payment_secret != record.payment_secret {
            return Err(refused());
        }
        // BOLT 4, incorrect_or_unknown_payment_details: refused is what is too close to be handled safely.
        let asked = record.min_final_cltv_expiry_delta.to_u16();
        let least = asked
            .saturating_sub(PAYER_BEHIND_BLOCKS)
            .max(MIN_FINAL_CLTV_EXPIRY_DELTA);
        if htlc.cltv_expiry < tip + CltvExpiryDelta::new(least) {
            return Err(refused());
        }
        if htlc.cltv_expiry.blocks_from(tip) > crate::forward::MAX_HTLC_CLTV {
            return Err(refused());
        }
        let total = data.total_msat;
        let asked = record.amount.unwrap_or(Msat::new(1));
        // BOLT 4: less than asked must fail, more than twice should.
        if total < asked || total > Msat::MAX_MONEY {
            return Err(refused());
        }
        if record
            .amount
            .and_then(|amount| amount.checked_mul(2))
            .is_some_and(|most| total > most)
        {
            return Err(refused());
        }
        if let Some(set) = self.sets.get(&htlc.payment_hash) {
            // BOLT 4, Basic Multi-Part Outgoing: the same total_msat in all parts.
            if set.total != total || set.parts.len() >= MAX_PARTS {
                return Err(refused());
            }
        }
        Ok(total)
    }

    fn complete(
        &mut self,
        payment_hash: PaymentHash,
        amount: Msat,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Received {
        let (Some(set), Some(record)) = (
            self.sets.remove(&payment_hash),
            self.records.get_mut(&payment_hash),
        ) else {
            return Received::default();
        };
        record.status = InvoiceStatus::Paid { amount, at: now };
        write(record, batch);
        Received {
            resolutions: set
                .parts
                .iter()
                .map(|part| (part.source, Resolution::Fulfil(record.preimage)))
                .collect(),
            paid: Some(Paid {
                payment_hash,
                amount,
                parts: set.parts.len(),
            }),
        }
    }
}

impl Part {
    fn fail(&self, message: &FailureMessage) -> (IncomingRef, Resolution) {
        (self.source, fail(&self.shared_secret, message))
    }
}

const fn unknown_details(htlc_msat: Msat, height: BlockHeight) -> FailureMessage {
    FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat, height }
}

fn write(record: &Invoice, batch: &mut WriteBatch) {
    let key = RecordKey::new(Space::Invoice, *record.payment_hash().as_bytes());
    batch.put(key, record.to_bytes());
}

impl Encode for Invoice {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.preimage.encode(out);
        self.payment_secret.encode(out);
        self.amount.encode(out);
        self.created_at.encode(out);
        self.expires_at.encode(out);
        self.min_final_cltv_expiry_delta.encode(out);
        encode_text(&self.description, out);
        encode_text(&self.bolt11, out);
        match self.status {
            InvoiceStatus::Open => out.push(0),
            InvoiceStatus::Paid { amount, at } => {
                out.push(1);
                amount.encode(out);
                at.encode(out);
            }
            InvoiceStatus::Cancelled => out.push(2),
        }
    }
}

impl Decode for Invoice {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(r)? != VERSION {
            return Err(DecodeError::InvalidValue("version of an invoice record"));
        }
        Ok(Self {
            preimage: Decode::decode(r)?,
            payment_secret: Decode::decode(r)?,
            amount: Decode::decode(r)?,
            created_at: Decode::decode(r)?,
            expires_at: Decode::decode(r)?,
            min_final_cltv_expiry_delta: Decode::decode(r)?,
            description: decode_text(r)?,
            bolt11: decode_text(r)?,
            status: match u8::decode(r)? {
                0 => InvoiceStatus::Open,
                1 => InvoiceStatus::Paid {
                    amount: Decode::decode(r)?,
                    at: Decode::decode(r)?,
                },
                2 => InvoiceStatus::Cancelled,
                _ => return Err(DecodeError::InvalidValue("status of an invoice")),
            },
        })
    }
}
