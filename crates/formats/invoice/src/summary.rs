//! An invoice for people.

use core::fmt;

use fulmen_types::{Msat, Printable, Timestamp};

use crate::{Description, Invoice, amount::MSAT_PER_BITCOIN};

/// An invoice as a small table, safe to print: what a stranger wrote moves no cursor. See
/// [`Invoice::summary`].
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    invoice: &'a Invoice,
    now: Timestamp,
}

impl Invoice {
    /// For people: what is asked for, by whom, what for, how it can be paid and how long it holds.
    ///
    /// ```
    /// # use fulmen_invoice::Invoice;
    /// # use fulmen_types::Timestamp;
    /// let invoice: Invoice = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh".parse()?;
    /// assert_eq!(invoice.summary(Timestamp::from_secs(1_496_314_660)).to_string(), "\
    /// amount        250000 sat (0.0025 BTC)
    /// network       bitcoin
    /// description   1 cup coffee
    /// payee         03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad
    /// payment hash  0001020304050607080900010203040506070809000102030405060708090102
    /// payable       in one part
    /// expires in    58 s");
    /// # Ok::<(), fulmen_invoice::ParseError>(())
    /// ```
    pub const fn summary(&self, now: Timestamp) -> Summary<'_> {
        Summary { invoice: self, now }
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = self.invoice.details();
        match details.amount {
            Some(amount) => row(f, "amount", format_args!("{}", InBoth(amount)))?,
            None => row(f, "amount", format_args!("any"))?,
        }
        row(f, "network", format_args!("{}", details.currency))?;
        match &details.description {
            Description::Text(text) => {
                let text = Printable(text.as_bytes());
                row(f, "description", format_args!("{text}"))?;
            }
            Description::Hash(hash) => {
                row(
                    f,
                    "description",
                    format_args!("given elsewhere, with the hash {hash}"),
                )?;
            }
        }
        row(f, "payee", format_args!("{}", self.invoice.payee()))?;
        row(f, "payment hash", format_args!("{}", details.payment_hash))?;
        let parts = match details.allows_multi_part() {
            true => "in one part or several",
            false => "in one part",
        };
        match (details.route_hints.len(), details.blinded_paths.len()) {
            (0, 0) => row(f, "payable", format_args!("{parts}"))?,
            (hints, 0) => row(
                f,
                "payable",
                format_args!("{parts}, with {hints} route hints"),
            )?,
            (_, paths) => row(
                f,
                "payable",
                format_args!("{parts}, over {paths} blinded paths"),
            )?,
        }
        for fallback in &details.fallbacks {
            let address = fallback.to_address(details.currency.network());
            row(f, "on chain", format_args!("{address}"))?;
        }
        if details.is_expired(self.now) {
            return write!(f, "{:<WIDTH$}yes", "expired");
        }
        let secs = details.expires_at().millis_since(self.now) / 1_000;
        write!(f, "{:<WIDTH$}{}", "expires in", Span(secs))
    }
}

/// Where the second column begins.
const WIDTH: usize = 14;

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "{name:<WIDTH$}{value}")
}

/// Satoshis with three decimals only where there are any, and the same in bitcoin.
struct InBoth(Msat);

impl fmt::Display for InBoth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let msat = self.0.to_msat();
        match msat % 1_000 {
            0 => write!(f, "{} sat", msat / 1_000)?,
            below => write!(f, "{}.{below:03} sat", msat / 1_000)?,
        }
        let whole = msat / MSAT_PER_BITCOIN;
        match msat % MSAT_PER_BITCOIN {
            0 => write!(f, " ({whole} BTC)"),
            below => {
                let decimals = alloc::format!("{below:011}");
                write!(f, " ({whole}.{} BTC)", decimals.trim_end_matches('0'))
            }
        }
    }
}

/// Seconds in the two largest units.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, mins, hours, days) = (
            self.0 % 60,
            self.0 / 60 % 60,
            self.0 / 3_600 % 24,
            self.0 / 86_400,
        );
        match (days, hours, mins) {
            (0, 0, 0) => write!(f, "{secs} s"),
            (0, 0, _) => write!(f, "{mins} min {secs} s"),
            (0, _, _) => write!(f, "{hours} h {mins} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}
