//! The daemon inside this program: `fulmen-demo daemon ...` is `fulmend ...`.

use std::{ffi::OsString, fmt::Write as _, fs, path::Path, process::ExitCode};

use anyhow::Result;

use crate::chain::Chain;

/// What all daemons of a run share, and what one may have of its own.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `host:port` of the chain's RPC.
    pub(crate) bitcoind: String,
    /// Its cookie file.
    pub(crate) cookie: String,
    /// Asked for each forwarded payment.
    pub(crate) fee_base_msat: u64,
    /// Asked besides, in millionths.
    pub(crate) fee_ppm: u32,
}

impl Settings {
    pub(crate) fn new(chain: &Chain) -> Self {
        Self {
            bitcoind: chain.url().trim_start_matches("http://").to_owned(),
            cookie: chain.cookie_path().display().to_string(),
            fee_base_msat: 1_000,
            fee_ppm: 100,
        }
    }

    /// Asks for more.
    #[must_use]
    pub(crate) fn with_fees(mut self, base_msat: u64, ppm: u32) -> Self {
        (self.fee_base_msat, self.fee_ppm) = (base_msat, ppm);
        self
    }

    /// What forwarding this amount costs, in millisatoshi (BOLT 7, "HTLC Fees").
    pub(crate) fn fee_msat(&self, amount_msat: u64) -> u64 {
        self.fee_base_msat + amount_msat * u64::from(self.fee_ppm) / 1_000_000
    }
}

/// Writes `fulmend.toml`.
pub(crate) fn write_config(
    dir: &Path,
    name: &str,
    listen: &str,
    api: &str,
    settings: &Settings,
) -> Result<()> {
    let mut text = String::new();
    for (key, value) in [
        ("network", "regtest"),
        ("alias", name),
        ("listen", listen),
        ("api", api),
        ("bitcoind", &settings.bitcoind),
        ("bitcoind_cookie", &settings.cookie),
        ("log_level", "info"),
    ] {
        // Rust's escapes of a plain path or name are TOML's.
        writeln!(text, "{key} = {value:?}")?;
    }
    writeln!(text, "fee_base_msat = {}", settings.fee_base_msat)?;
    writeln!(text, "fee_ppm = {}", settings.fee_ppm)?;
    // The story counts its HTLCs: one for each payment.
    writeln!(text, "max_payment_parts = 1")?;
    fs::write(dir.join("fulmend.toml"), text)?;
    Ok(())
}

/// The daemon's flags.
pub(crate) fn arguments(dir: &Path) -> Vec<OsString> {
    vec!["--data-dir".into(), dir.into()]
}

/// Is the daemon until it ends, or until whoever started it has gone.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    std::thread::spawn(|| {
        // Nobody ever writes: the end of the input is the end of the parent, however it ended.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    fulmend::main_with_args(std::iter::once("fulmend".into()).chain(arguments))
}
