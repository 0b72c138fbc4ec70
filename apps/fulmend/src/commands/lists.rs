//! Lists of payments and invoices, newest first and a page at a time: however many there are, a page
//! costs the same.

use std::{collections::BTreeMap, sync::Arc};

use fulmen_api as api;
use fulmen_node::Node;
use fulmen_payments::{Invoice, Payment, newest_first_key, payment_hash_of_key};
use fulmen_types::{
    PaymentHash,
    codec::Decode,
    record::{RecordKey, Space},
};
use hex_conservative::FromHex;

use super::{App, Caller, Serve, blocking, now};
use crate::{api_error::ApiError, node_access::NodeAccess, views};

/// What a page holds when the request does not say, and what it holds at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;
/// So many digits of a payment hash are enough to ask for it.
const MIN_DIGITS: usize = 8;
const HASH_DIGITS: usize = 64;

/// What is listed: some of it in the node's memory, what has ended in the store.
trait Listed: Clone + Send + 'static {
    const ARCHIVE: Space;
    const BY_TIME: Space;

    fn live(node: &Node) -> Vec<&Self>;
    fn read(record: &[u8]) -> Option<Self>;
    fn hash(&self) -> PaymentHash;
    /// Its place in the list.
    fn key(&self) -> Vec<u8>;
}

impl Listed for Payment {
    const ARCHIVE: Space = Space::PaymentArchive;
    const BY_TIME: Space = Space::PaymentByTime;

    fn live(node: &Node) -> Vec<&Self> {
        node.payments().collect()
    }

    fn read(record: &[u8]) -> Option<Self> {
        Self::from_record(record).ok()
    }

    fn hash(&self) -> PaymentHash {
        self.request.payment_hash
    }

    fn key(&self) -> Vec<u8> {
        newest_first_key(self.created_at, &self.hash())
    }
}

impl Listed for Invoice {
    const ARCHIVE: Space = Space::InvoiceArchive;
    const BY_TIME: Space = Space::InvoiceByTime;

    fn live(node: &Node) -> Vec<&Self> {
        node.invoices().collect()
    }

    fn read(record: &[u8]) -> Option<Self> {
        Self::from_bytes(record).ok()
    }

    fn hash(&self) -> PaymentHash {
        self.payment_hash()
    }

    fn key(&self) -> Vec<u8> {
        newest_first_key(self.created_at, &self.hash())
    }
}

/// A page, and from where the next one goes on.
struct Page<T> {
    entries: Vec<T>,
    next: Option<String>,
}

impl Serve for api::ListPayments {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::PaymentList, ApiError> {
        let page: Page<Payment> = list(&app, self.payment_hash, self.limit, self.before).await?;
        Ok(api::PaymentList {
            payments: page.entries.iter().map(views::payment).collect(),
            next: page.next,
        })
    }
}

impl Serve for api::ListInvoices {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::InvoiceList, ApiError> {
        let page: Page<Invoice> = list(&app, self.payment_hash, self.limit, self.before).await?;
        let now = now();
        Ok(api::InvoiceList {
            invoices: page
                .entries
                .iter()
                .map(|invoice| views::invoice(invoice, now))
                .collect(),
            next: page.next,
        })
    }
}

/// The payment with this hash, on its way or ended.
pub(super) async fn payment(
    app: &App,
    hash: PaymentHash,
) -> Result<Option<api::PaymentInfo>, ApiError> {
    let found: Page<Payment> = page(app, Wanted::Hash(hash), 1).await?;
    Ok(found.entries.first().map(views::payment))
}

/// Which ones are asked for.
#[derive(Clone)]
enum Wanted {
    /// Those after a place in the list.
    After(Vec<u8>),
    /// The one with this hash.
    Hash(PaymentHash),
    /// Those whose hash begins with these digits.
    Prefix(String),
}

impl Wanted {
    fn has<T: Listed>(&self, entry: &T) -> bool {
        match self {
            Self::After(place) => entry.key() > *place,
            Self::Hash(hash) => entry.hash() == *hash,
            Self::Prefix(digits) => entry.hash().to_string().starts_with(digits),
        }
    }
}

async fn list<T: Listed>(
    app: &App,
    payment_hash: Option<String>,
    limit: Option<usize>,
    before: Option<String>,
) -> Result<Page<T>, ApiError> {
    let limit = limit.unwrap_or(PAGE).min(MAX_PAGE);
    let wanted = match (payment_hash, before) {
        (Some(hash), _) => wanted_hash(&hash)?,
        (None, Some(before)) => Wanted::After(cursor_of(&before)?),
        (None, None) => Wanted::After(Vec::new()),
    };
    page(app, wanted, limit).await
}

async fn page<T: Listed>(app: &App, wanted: Wanted, limit: usize) -> Result<Page<T>, ApiError> {
    // The store last: what ends moves there, never back.
    let of_live = wanted.clone();
    let mut found: BTreeMap<Vec<u8>, T> = app
        .node
        .query(move |node| {
            let live = T::live(node)
                .into_iter()
                .filter(|entry| of_live.has(*entry));
            live.map(|entry| (entry.key(), entry.clone())).collect()
        })
        .await?;
    let (node, of_ended) = (app.node.clone(), wanted.clone());
    let ended: Vec<T> = blocking(move || match of_ended {
        Wanted::Hash(hash) => {
            let records =
                node.record_of_each(vec![RecordKey::new(T::ARCHIVE, *hash.as_bytes())])?;
            Ok(records
                .iter()
                .flatten()
                .filter_map(|record| T::read(record))
                .collect())
        }
        Wanted::Prefix(digits) => {
            let whole_bytes = digits.split_at(digits.len() & !1).0;
            let from = Vec::<u8>::from_hex(whole_bytes).unwrap_or_default();
            let records = node.records(T::ARCHIVE, from, PAGE)?;
            Ok(records
                .iter()
                .filter_map(|(_, record)| T::read(record))
                .collect())
        }
        Wanted::After(place) => by_time(&node, place, limit.saturating_add(1)),
    })
    .await?;
    for entry in ended.into_iter().filter(|entry| wanted.has(entry)) {
        found.insert(entry.key(), entry);
    }
    let is_more = found.len() > limit;
    let entries: Vec<T> = found.into_values().take(limit).collect();
    let next = entries.last().filter(|_| is_more);
    let next = next.map(|last| views::hex(&last.key()));
    Ok(Page { entries, next })
}

/// At most `limit` ended ones, newest first, after a place in the list.
fn by_time<T: Listed>(node: &NodeAccess, after: Vec<u8>, limit: usize) -> Result<Vec<T>, ApiError> {
    let mut entries = Vec::new();
    let mut from = match after.is_empty() {
        true => after,
        false => fulmen_persister::after(&after),
    };
    while entries.len() < limit {
        let wanted = limit - entries.len();
        let page = node.records(T::BY_TIME, from, wanted)?;
        let is_last = page.len() < wanted;
        from = match page.last() {
            Some((last, _)) => fulmen_persister::after(last),
            None => break,
        };
        let keys = page.iter().filter_map(|(key, _)| payment_hash_of_key(key));
        let keys = keys.map(|hash| RecordKey::new(T::ARCHIVE, *hash.as_bytes()));
        let records = node.record_of_each(keys.collect())?;
        entries.extend(
            records
                .iter()
                .flatten()
                .filter_map(|record| T::read(record)),
        );
        if is_last {
            break;
        }
    }
    Ok(entries)
}

/// A payment hash, or its beginning.
fn wanted_hash(text: &str) -> Result<Wanted, ApiError> {
    let digits = text.trim().to_ascii_lowercase();
    if let Ok(hash) = digits.parse() {
        return Ok(Wanted::Hash(hash));
    }
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hex && (MIN_DIGITS..HASH_DIGITS).contains(&digits.len()) {
        return Ok(Wanted::Prefix(digits));
    }
    Err(ApiError::invalid(format!(
        "{:?} is not a payment hash ({HASH_DIGITS} hex digits, of which the first {MIN_DIGITS} or more are enough)",
        views::printable(text)
    )))
}

fn cursor_of(text: &str) -> Result<Vec<u8>, ApiError> {
    Vec::<u8>::from_hex(text)
        .ok()
        .filter(|key| payment_hash_of_key(key).is_some())
        .ok_or_else(|| {
            ApiError::invalid(format!(
                "before = {:?} is not what a list gave as `next`; leave it out to begin with the newest",
                views::printable(text)
            ))
        })
}
