//! Where a client finds the daemon.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The file in the data directory that holds the bearer token.
pub const TOKEN_FILE: &str = "api-token";
/// The file in the data directory in which a running daemon says where its API listens.
pub const ADDRESS_FILE: &str = "api-address";

/// The data directory when nobody says otherwise: `~/.fulmen/<network>`. `None` without a home.
pub fn default_data_dir(network: &str) -> Option<PathBuf> {
    let home = env::var_os("HOME").or_else(|| env::var_os("USERPROFILE"))?;
    Some(Path::new(&home).join(".fulmen").join(network))
}

/// Where the API listens when nobody says otherwise.
pub fn default_api_address(network: &str) -> &'static str {
    match network {
        "mainnet" => "127.0.0.1:9740",
        "testnet4" => "127.0.0.1:49740",
        "signet" => "127.0.0.1:39740",
        _ => "127.0.0.1:19740",
    }
}
