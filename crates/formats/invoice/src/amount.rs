//! The human-readable part: currency and amount.

use alloc::{format, string::String};
use core::fmt;

use bitcoin::Network;
use fulmen_types::Msat;

use crate::ParseError;

/// Millisatoshis of one bitcoin.
pub(crate) const MSAT_PER_BITCOIN: u64 = 100_000_000_000;

/// What an invoice is paid in: the BIP 173 prefix after `ln`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Currency {
    /// `bc`.
    Bitcoin,
    /// `tb`: the test networks.
    Testnet,
    /// `tbs`.
    Signet,
    /// `bcrt`.
    Regtest,
}

impl Currency {
    /// The currency of a network.
    pub const fn of(network: Network) -> Self {
        match network {
            Network::Bitcoin => Self::Bitcoin,
            Network::Testnet | Network::Testnet4 => Self::Testnet,
            Network::Signet => Self::Signet,
            Network::Regtest => Self::Regtest,
        }
    }

    /// Whether an invoice in this currency can be paid on `network`.
    pub fn is_for(self, network: Network) -> bool {
        Self::of(network) == self
    }

    /// A network that it is used on: of the test networks that share `tb`, the oldest.
    pub const fn network(self) -> Network {
        match self {
            Self::Bitcoin => Network::Bitcoin,
            Self::Testnet => Network::Testnet,
            Self::Signet => Network::Signet,
            Self::Regtest => Network::Regtest,
        }
    }

    /// The prefix without `ln`.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Bitcoin => "bc",
            Self::Testnet => "tb",
            Self::Signet => "tbs",
            Self::Regtest => "bcrt",
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bitcoin => "bitcoin",
            Self::Testnet => "testnet",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        })
    }
}

/// Reads the part before the separator, in lower case.
pub(crate) fn parse(hrp: &str) -> Result<(Currency, Option<Msat>), ParseError> {
    let rest = hrp.strip_prefix("ln").ok_or(ParseError::NotAnInvoice)?;
    let digits_at = rest
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (prefix, amount) = rest.split_at(digits_at);
    let currency = [
        Currency::Bitcoin,
        Currency::Testnet,
        Currency::Signet,
        Currency::Regtest,
    ]
    .into_iter()
    .find(|currency| currency.prefix() == prefix)
    .ok_or(ParseError::UnknownCurrency)?;
    Ok((currency, parse_amount(amount)?))
}

/// Digits, then a multiplier or none. Multipliers that are not the largest possible are accepted.
fn parse_amount(text: &str) -> Result<Option<Msat>, ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let mut units = unit.chars();
    let multiplier = units.next();
    if units.next().is_some() {
        return Err(ParseError::AmountNotANumber);
    }
    if let Some(c) = multiplier
        && !matches!(c, 'm' | 'u' | 'n' | 'p')
    {
        return Err(ParseError::UnknownMultiplier(c));
    }
    // Only digits are left, so the one way to fail is size. In pico-bitcoin 64 bits would be too few.
    let number: u128 = digits.parse().map_err(|_| ParseError::AmountTooLarge)?;
    let unit = u128::from(MSAT_PER_BITCOIN);
    let msat = match multiplier {
        None => number.checked_mul(unit),
        Some('m') => number.checked_mul(unit / 1_000),
        Some('u') => number.checked_mul(unit / 1_000_000),
        Some('n') => number.checked_mul(unit / 1_000_000_000),
        // A tenth of a millisatoshi. BOLT 11: the last digit must be 0.
        Some(_) if !number.is_multiple_of(10) => return Err(ParseError::SubMillisatoshi),
        Some(_) => Some(number / 10),
    };
    match msat.and_then(|msat| u64::try_from(msat).ok()) {
        None => Err(ParseError::AmountTooLarge),
        Some(0) => Err(ParseError::AmountZero),
        Some(msat) if Msat::new(msat) > Msat::MAX_MONEY => Err(ParseError::AmountTooLarge),
        Some(msat) => Ok(Some(Msat::new(msat))),
    }
}

/// The part before the separator, with the largest multiplier that is exact.
pub(crate) fn write(currency: Currency, amount: Option<Msat>) -> String {
    let prefix = currency.prefix();
    let Some(msat) = amount.map(Msat::to_msat) else {
        return format!("ln{prefix}");
    };
    let units = [
        ("", MSAT_PER_BITCOIN),
        ("m", MSAT_PER_BITCOIN / 1_000),
        ("u", MSAT_PER_BITCOIN / 1_000_000),
        ("n", MSAT_PER_BITCOIN / 1_000_000_000),
    ];
    match units
        .into_iter()
        .find(|(_, size)| msat.is_multiple_of(*size))
    {
        Some((letter, size)) => format!("ln{prefix}{}{letter}", msat / size),
        // One millisatoshi is ten pico-bitcoin.
        None => format!("ln{prefix}{msat}0p"),
    }
}
