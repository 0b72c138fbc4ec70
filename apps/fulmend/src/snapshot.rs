//! Snapshots of the network for others.

use std::path::Path;

use fulmen::{load_graph, rapid_gossip_sync};
use fulmen_background_processor::{Clock, SystemClock};

use crate::{Config, ConfigError, DaemonError};

/// Makes snapshots from the graph that a daemon of this configuration has saved, into a folder that any web
/// server can offer. The daemon may run or not.
///
/// # Errors
/// When there is no graph, or the folder can't be written.
pub fn publish(config: &Config, out: &Path) -> Result<(), DaemonError> {
    let saved = load_graph(&config.data_dir, config.network());
    let (graph, messages) = saved.ok_or_else(|| {
        ConfigError(format!(
            "{} has no graph of this network; a daemon saves one every few minutes, and when it stops",
            config.data_dir.display()
        ))
    })?;
    let now = SystemClock.now();
    let files = rapid_gossip_sync::publish(out, &graph, Some(&messages.times()), now);
    let files = files.map_err(|error| DaemonError::Io {
        path: out.to_path_buf(),
        error,
    })?;
    println!("{} snapshots are in {}", files.len(), out.display());
    Ok(())
}
