//! Waiting for things to become true.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// For what takes some messages.
pub(crate) const SHORT: Duration = Duration::from_secs(20);
/// For what takes many messages, retries or timers.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Looks again and again until a condition holds.
pub(crate) fn until(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        if begun.elapsed() > patience {
            bail!("waited {} s in vain until {what}", patience.as_secs());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}
