//! The official test vectors of the BOLTs, counted: a test that has run a group of them says so with
//! [`report`], which holds the number against [`GROUPS`]. `cargo run -p fulmen-vectors` runs all such tests
//! and prints the table.

/// A group of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The BOLT.
    pub bolt: u8,
    /// Its file or appendix.
    pub name: &'static str,
    /// How many there are.
    pub count: usize,
    /// The crate whose tests run them.
    pub package: &'static str,
}

const fn group(bolt: u8, name: &'static str, count: usize, package: &'static str) -> Group {
    Group {
        bolt,
        name,
        count,
        package,
    }
}

/// How a line that [`report`] prints begins.
pub const MARK: &str = "vectors:";

/// Every group, by BOLT. The numbers are those of the specification; the last of BOLT 4 are those of
/// drafts and of what was merged after it.
pub const GROUPS: &[Group] = &[
    group(1, "Appendix A, BigSize decoding", 18, "fulmen-types"),
    group(1, "Appendix A, BigSize encoding", 8, "fulmen-types"),
    group(1, "Appendix B, TLV decoding failures", 33, "fulmen-types"),
    group(1, "Appendix B, TLV stream failures", 5, "fulmen-types"),
    group(1, "Appendix B, TLV successes", 19, "fulmen-types"),
    group(1, "Appendix C, valid extensions", 2, "fulmen-wire"),
    group(1, "Appendix C, invalid extensions", 3, "fulmen-wire"),
    group(1, "Appendix D, signed integers", 23, "fulmen-types"),
    group(4, "onion-test", 1, "fulmen-onion"),
    group(4, "onion-error-test", 1, "fulmen-onion"),
    group(4, "returning errors, attribution data", 1, "fulmen-onion"),
    group(4, "returning success, attribution data", 1, "fulmen-onion"),
    group(4, "route-blinding-test", 1, "fulmen-onion"),
    group(4, "blinded-payment-onion-test", 1, "fulmen-onion"),
    group(4, "blinded-onion-message-onion-test", 1, "fulmen-onion"),
    group(
        4,
        "returning success, fulfillment_payload",
        1,
        "fulmen-onion",
    ),
    group(4, "trampoline-payment-onion-test", 1, "fulmen-onion"),
    group(
        4,
        "trampoline-to-blinded-path-payment-onion-test",
        2,
        "fulmen-onion",
    ),
    group(4, "trampoline-onion-error-test", 2, "fulmen-onion"),
    group(7, "extended-queries", 5, "fulmen-wire"),
    group(7, "extended-queries in zlib, refused", 5, "fulmen-wire"),
    group(8, "Appendix A, initiator", 5, "fulmen-noise"),
    group(8, "Appendix A, responder", 10, "fulmen-noise"),
    group(8, "Appendix A, messages", 6, "fulmen-noise"),
    group(10, "Examples", 11, "fulmen-dns"),
    group(11, "valid invoices", 16, "fulmen-invoice"),
    group(11, "invalid invoices", 10, "fulmen-invoice"),
    group(12, "format-string-test, valid", 6, "fulmen-offers"),
    group(12, "format-string-test, invalid", 6, "fulmen-offers"),
    group(12, "offers-test, valid", 20, "fulmen-offers"),
    group(12, "offers-test, invalid", 33, "fulmen-offers"),
    group(12, "signature-test", 4, "fulmen-offers"),
    group(12, "payer-proof-test, valid", 5, "fulmen-offers"),
    group(12, "payer-proof-test, invalid", 23, "fulmen-offers"),
];

/// Says that a test has run `count` vectors of a group.
///
/// # Panics
/// When there is no such group, or it has another number of vectors.
pub fn report(bolt: u8, name: &str, count: usize) {
    let group = GROUPS
        .iter()
        .find(|group| group.bolt == bolt && group.name == name)
        .expect("the table has a group of this name");
    println!("{MARK} BOLT {bolt} {name}: {count} of {}", group.count);
    assert_eq!(count, group.count, "BOLT {bolt}, {name}");
}
