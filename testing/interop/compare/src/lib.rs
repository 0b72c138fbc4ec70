//! What Fulmen and LDK read from the same bytes, compared field by field.
//!
//! LDK is used through its public functions alone. Where the two may differ, a verdict says why.

mod generate;
mod invoice;
mod messages;
mod node;
mod offers;
mod onion;
mod same;
mod source;
mod verdict;

pub use invoice::{compare_invoice, differences as invoice_differences};
pub use messages::LdkMessage;
pub use node::{KeyOnly, Silent};
pub use offers::{
    bolt12_invoice_differences, compare_bolt12_invoice, compare_offer, compare_request,
    compare_static_invoice, offer_differences, refund_differences, request_differences,
    static_invoice_differences,
};
pub use onion::{LdkHtlc, LdkPeeled, as_ldk, ldk_peel};
pub use same::Same;
pub use source::Source;
pub use verdict::{Verdict, compare_message};
