//! What the owner decides: the file `fulmend.toml`, the environment and flags, in this order.

use std::{
    convert::Infallible,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use bitcoin::{Amount, Network};
use clap::Args;
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use fulmen::{
    connect::ConnectConfig, default_cookie, dns::Conditions, rapid_gossip_sync::Source, rpc_port,
};
use fulmen_block_sync::{Auth, FeeFallback};
use fulmen_node::NodeConfig;
use fulmen_types::{FeeratePerKw, Msat};
use fulmen_wire::{NetAddress, NodeAlias, Rgb};
use serde::{Deserialize, Serialize};

/// The configuration file's name in the data directory.
pub const CONFIG_FILE: &str = "fulmend.toml";
const ENV_PREFIX: &str = "FULMEN_";
/// Names of the environment that are not options: the place of everything else, and the passphrase.
const ENV_OTHERS: &[&str] = &["data_dir", "config", "passphrase"];

/// Options that are texts: in the environment `0123` is a name or password, not a number.
const TEXTS: &[&str] = &[
    "network",
    "listen",
    "api",
    "bitcoind",
    "bitcoind_cookie",
    "bitcoind_user",
    "bitcoind_password",
    "alias",
    "color",
    "log_level",
    "log_format",
    "rapid_gossip_sync",
];

/// All options. Each can stand in `fulmend.toml` under its name, in the environment as `FULMEN_<NAME>`
/// and as a flag. What is left out has a default.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The network: regtest, signet, testnet4 or mainnet [default: regtest]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Needed to run on mainnet: this software is young
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub i_accept_the_risk_of_losing_funds: Option<bool>,
    /// Where peers connect; port 0 takes a free one [default: 127.0.0.1, port 9735 on mainnet]
    #[arg(long, value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where peers find the node from outside; announced to the network. May be given several times
    #[arg(long, value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce_addresses: Option<Vec<SocketAddr>>,
    /// The most peers without channels that may connect to the node [default: 128]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_inbound_peers: Option<usize>,
    /// With how many peers at least to be connected, for gossip: as long as there are fewer, nodes of the
    /// network are dialled; 0 dials none [default: 5, 0 on regtest]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_peers: Option<usize>,
    /// The most nodes that are dialled for it [default: 8]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_outbound_peers: Option<usize>,
    /// Asks DNS seeds for peers when nobody else is known (BOLT 10) [default: true, false on regtest]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<bool>,
    /// A DNS seed to ask, instead of those that are known for the network. May be given several times
    #[arg(long = "dns-seed", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_seeds: Option<Vec<String>>,
    /// Where the API listens; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<SocketAddr>,
    /// Lets the API listen on other addresses than loopback. It is not encrypted: put a proxy before it
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_allow_remote: Option<bool>,
    /// Bitcoin Core's RPC [default: 127.0.0.1 and the network's port]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitcoind: Option<String>,
    /// Bitcoin Core's cookie file [default: where Bitcoin Core writes it]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitcoind_cookie: Option<PathBuf>,
    /// The RPC user, instead of the cookie
    #[arg(long, value_name = "USER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitcoind_user: Option<String>,
    /// The RPC password. Better in the file or the environment: others can see flags
    #[arg(long, value_name = "PASSWORD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitcoind_password: Option<Secret>,
    /// The first block with coins of the wallet, for a wallet restored from words
    #[arg(long, value_name = "HEIGHT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wallet_birthday_height: Option<u32>,
    /// The name that the network sees, at most 32 bytes [default: fulmen]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The colour that the network sees [default: f5c211]
    #[arg(long, value_name = "RRGGBB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// Asked for each forwarded payment, in millisatoshi [default: 1000]
    #[arg(long, value_name = "MSAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee_base_msat: Option<u32>,
    /// Asked besides, in millionths of the amount [default: 100]
    #[arg(long, value_name = "PPM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee_ppm: Option<u32>,
    /// Blocks between an incoming and an outgoing HTLC, at least 34 [default: 80]
    #[arg(long, value_name = "BLOCKS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cltv_expiry_delta: Option<u16>,
    /// The smallest channel that peers may open, in satoshi [default: 20000]
    #[arg(long, value_name = "SAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_channel_sat: Option<u64>,
    /// The greatest channel, in satoshi [default: 10 bitcoin]
    #[arg(long, value_name = "SAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_channel_sat: Option<u64>,
    /// Confirmations before a channel that a peer opened is used [default: 3]
    #[arg(long, value_name = "BLOCKS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_depth: Option<u32>,
    /// How often gossip is passed on, in milliseconds [default: 60000, 1000 on regtest]
    #[arg(long, value_name = "MILLIS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gossip_flush_millis: Option<u64>,
    /// The most that a payment may cost when its command does not say, in millionths [default: 10000]
    #[arg(long, value_name = "PPM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_max_fee_ppm: Option<u32>,
    /// The same for small payments, in satoshi [default: 5]
    #[arg(long, value_name = "SAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_max_fee_sat: Option<u64>,
    /// How long a payment looks for ways when its command does not say, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_pay_timeout_secs: Option<u32>,
    /// The most HTLCs that a payment is split into, where its payee takes parts [default: 16]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payment_parts: Option<u16>,
    /// Say so when the data directory was put back from a backup or a copy: no channel is closed by a state that
    /// may be old before its peer has confirmed it. Needed for the first start only; the channels remember it
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_from_backup: Option<bool>,
    /// How often to look for a new block, in milliseconds [default: 1000, 100 on regtest]
    #[arg(long, value_name = "MILLIS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_poll_millis: Option<u64>,
    /// How often to look for deposits in Bitcoin Core's mempool, in milliseconds; 0 shows them when they
    /// are confirmed [default: 10000, 1000 on regtest]
    #[arg(long, value_name = "MILLIS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mempool_poll_millis: Option<u64>,
    /// The feerate where Bitcoin Core has no estimate, in satoshi per virtual byte [default: 5]
    #[arg(long, value_name = "SAT/VB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_feerate_sat_per_vb: Option<u32>,
    /// How often the graph of the network is saved, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_save_secs: Option<u64>,
    /// Where snapshots of the network come from once a day, besides what peers tell: the address of a server
    /// (<https://rapidsync.lightningdevkit.org/v2/snapshot>), a folder or a file. Nothing in them is signed: the
    /// server can hide channels or invent some [default: none]
    #[arg(long, value_name = "URL|PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rapid_gossip_sync: Option<String>,
    /// The most pages of 4 kB that the store may have [default: no limit]
    #[arg(long, value_name = "PAGES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_max_pages: Option<u32>,
    /// What is logged: error, warn, info, debug, trace, or a filter like `info,fulmen_node=debug`
    /// [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// How it is logged: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// A text that is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What is wrong with the configuration; the text says where and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The configuration of a daemon, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is.
    pub data_dir: PathBuf,
    /// Where peers connect.
    pub listen: SocketAddr,
    /// Limits of connections: slots, how many strangers to dial, whether DNS seeds are asked.
    pub connect: ConnectConfig,
    /// The DNS seeds, where they are not those that are known for the network.
    pub dns_seeds: Option<Vec<String>>,
    /// Where the API listens.
    pub api: SocketAddr,
    /// `host:port` of Bitcoin Core's RPC.
    pub bitcoind: String,
    /// How to show Bitcoin Core who we are.
    pub bitcoind_auth: Auth,
    /// The first block with coins of the wallet, where the seed file does not know better.
    pub wallet_birthday_height: Option<u32>,
    /// How often to look for a new block, in milliseconds.
    pub chain_poll_millis: u64,
    /// How often to look for deposits in Bitcoin Core's mempool, in milliseconds; 0 is never.
    pub mempool_poll_millis: u64,
    /// What to take where Bitcoin Core has no estimate.
    pub fee_fallback: FeeFallback,
    /// How often the graph is saved, in seconds.
    pub graph_save_secs: u64,
    /// Where snapshots of the network come from.
    pub rapid_gossip_sync: Option<Source>,
    /// The most pages that the store may have.
    pub store_max_pages: Option<u32>,
    /// What is logged.
    pub log_level: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// The passphrase of the seed file.
    pub passphrase: Option<Secret>,
    /// The policy of the node.
    pub node: NodeConfig,
}

impl Config {
    /// The defaults for a network in a data directory; change what you like.
    pub fn new(data_dir: impl Into<PathBuf>, network: Network) -> Self {
        let ports = Ports::of(network);
        let mut node = NodeConfig::new(network);
        let is_regtest = network == Network::Regtest;
        if is_regtest {
            node.gossip_flush_millis = 1_000;
        }
        Self {
            data_dir: data_dir.into(),
            listen: loopback(ports.peers),
            connect: fulmen::default_limits(network),
            dns_seeds: None,
            api: loopback(ports.api),
            bitcoind: format!("127.0.0.1:{}", rpc_port(network)),
            bitcoind_auth: Auth::CookieFile(default_cookie(network)),
            wallet_birthday_height: None,
            chain_poll_millis: if is_regtest { 100 } else { 1_000 },
            mempool_poll_millis: if is_regtest { 1_000 } else { 10_000 },
            fee_fallback: FeeFallback::default(),
            graph_save_secs: 600,
            rapid_gossip_sync: None,
            store_max_pages: None,
            log_level: "info".into(),
            log_format: LogFormat::Text,
            passphrase: None,
            node,
        }
    }

    /// Reads the configuration file of a data directory (or the one given), the environment and flags.
    pub fn load(
        data_dir: PathBuf,
        file: Option<&Path>,
        flags: &Options,
    ) -> Result<Self, ConfigError> {
        let default_file = data_dir.join(CONFIG_FILE);
        let file = file.unwrap_or(&default_file);
        if file != default_file && !file.exists() {
            return Err(ConfigError(format!("there is no file {}", file.display())));
        }
        let mut figment = Figment::new();
        if file.exists() {
            figment = figment.merge(Toml::file_exact(file));
        }
        figment = figment.merge(Env::prefixed(ENV_PREFIX).ignore(ENV_OTHERS).ignore(TEXTS));
        for name in TEXTS {
            let variable = format!("{ENV_PREFIX}{}", name.to_uppercase());
            if let Ok(text) = std::env::var(variable) {
                figment = figment.merge((*name, text));
            }
        }
        let options: Options = figment
            .merge(Serialized::globals(flags))
            .extract()
            .map_err(|e| ConfigError(explain(&e)))?;
        Self::from_options(data_dir, options)
    }

    /// Checks options and fills in what is left out.
    pub fn from_options(data_dir: PathBuf, options: Options) -> Result<Self, ConfigError> {
        let network = parse_network(options.network.as_deref().unwrap_or("regtest"))?;
        if network == Network::Bitcoin && options.i_accept_the_risk_of_losing_funds != Some(true) {
            return Err(ConfigError(
                "mainnet is for those who can afford to lose what they put in: this software is young; set `i_accept_the_risk_of_losing_funds = true` to use it all the same, or take another network".into(),
            ));
        }
        let mut config = Self::new(data_dir, network);
        set(&mut config.listen, options.listen);
        config.set_connections(
            ConnectOptions {
                max_inbound: options.max_inbound_peers,
                min_peers: options.min_peers,
                max_outbound: options.max_outbound_peers,
                bootstrap: options.bootstrap,
            },
            options.dns_seeds,
        )?;
        set(&mut config.api, options.api);
        if !config.api.ip().is_loopback() && options.api_allow_remote != Some(true) {
            return Err(ConfigError(format!(
                "api = \"{}\" is not a loopback address, and the API is not encrypted; take 127.0.0.1, or set `api_allow_remote = true` and put an encrypting proxy before it",
                config.api
            )));
        }
        if let Some(bitcoind) = options.bitcoind {
            config.bitcoind = host_and_port(&bitcoind)?;
        }
        config.bitcoind_auth = match (
            options.bitcoind_user,
            options.bitcoind_password,
            options.bitcoind_cookie,
        ) {
            (Some(user), Some(password), None) => Auth::UserPassword {
                user,
                password: password.0,
            },
            (None, None, Some(cookie)) => Auth::CookieFile(cookie),
            (None, None, None) => config.bitcoind_auth,
            _ => {
                return Err(ConfigError(
                        "for Bitcoin Core give either `bitcoind_cookie`, or both `bitcoind_user` and `bitcoind_password`".into(),
                    ));
            }
        };
        config.wallet_birthday_height = options.wallet_birthday_height;
        set(&mut config.chain_poll_millis, options.chain_poll_millis);
        set(&mut config.mempool_poll_millis, options.mempool_poll_millis);
        set(&mut config.graph_save_secs, options.graph_save_secs);
        set(&mut config.log_level, options.log_level);
        set(&mut config.log_format, options.log_format);
        config.store_max_pages = options.store_max_pages;
        if let Some(source) = options.rapid_gossip_sync {
            let source: Source = source
                .parse()
                .map_err(|e| ConfigError(format!("rapid_gossip_sync: {e}")))?;
            config.rapid_gossip_sync = Some(source);
        }
        if let Some(rate) = options.fallback_feerate_sat_per_vb {
            let rate = FeeratePerKw::from_sat_per_kvb_ceil(u64::from(rate).saturating_mul(1_000));
            config.fee_fallback = FeeFallback {
                background: rate,
                normal: rate,
                urgent: rate,
            };
        }
        let node = &mut config.node;
        if let Some(alias) = options.alias {
            node.alias = NodeAlias::new(&alias).ok_or_else(|| {
                ConfigError(format!(
                    "alias is {} bytes long; at most 32 are allowed",
                    alias.len()
                ))
            })?;
        }
        if let Some(color) = options.color {
            node.rgb = parse_color(&color)?;
        }
        node.addresses = options
            .announce_addresses
            .unwrap_or_default()
            .into_iter()
            .map(net_address)
            .collect();
        set(&mut node.forward.fee_base_msat, options.fee_base_msat);
        set(
            &mut node.forward.fee_proportional_millionths,
            options.fee_ppm,
        );
        if let Some(delta) = options.cltv_expiry_delta {
            if delta < 34 {
                return Err(ConfigError(format!(
                    "cltv_expiry_delta = {delta} leaves too few blocks to claim on chain; take at least 34"
                )));
            }
            node.forward.cltv_expiry_delta = delta;
        }
        if let Some(sat) = options.min_channel_sat {
            node.channel.min_funding = Amount::from_sat(sat);
        }
        if let Some(sat) = options.max_channel_sat {
            node.channel.max_funding = Amount::from_sat(sat);
        }
        set(&mut node.channel.minimum_depth, options.minimum_depth);
        set(&mut node.gossip_flush_millis, options.gossip_flush_millis);
        set(&mut node.default_max_fee_ppm, options.default_max_fee_ppm);
        if let Some(sat) = options.default_max_fee_sat {
            node.default_max_fee_least = Msat::from_sat(sat);
        }
        if options.max_payment_parts == Some(0) {
            return Err(ConfigError(
                "max_payment_parts = 0 lets no payment go out; take at least 1".into(),
            ));
        }
        set(&mut node.max_payment_parts, options.max_payment_parts);
        set(&mut node.declared_restore, options.restored_from_backup);
        set(
            &mut node.default_pay_timeout_secs,
            options.default_pay_timeout_secs,
        );
        Ok(config)
    }

    fn set_connections(
        &mut self,
        options: ConnectOptions,
        dns_seeds: Option<Vec<String>>,
    ) -> Result<(), ConfigError> {
        let connect = &mut self.connect;
        set(&mut connect.max_inbound, options.max_inbound);
        set(&mut connect.min_peers, options.min_peers);
        set(&mut connect.max_outbound, options.max_outbound);
        set(&mut connect.bootstrap, options.bootstrap);
        let most = connect.max_inbound.max(connect.max_outbound);
        if most.max(connect.min_peers) > MAX_PEERS {
            return Err(ConfigError(format!(
                "max_inbound_peers, max_outbound_peers and min_peers can be {MAX_PEERS} at most"
            )));
        }
        // Those that are let in must fit the node too, which has a limit of its own.
        let strangers = connect.max_inbound.saturating_add(connect.max_outbound);
        self.node.max_strangers = self.node.max_strangers.max(strangers.saturating_add(16));
        for seed in dns_seeds.iter().flatten() {
            if let Err(error) = Conditions::default().name(seed) {
                return Err(ConfigError(format!("dns_seeds: {seed:?}: {error}")));
            }
        }
        self.dns_seeds = dns_seeds;
        Ok(())
    }

    /// The network.
    pub const fn network(&self) -> Network {
        self.node.network
    }
}

/// More peers than this no node needs, and each costs a socket.
const MAX_PEERS: usize = 10_000;

/// What the owner says of connections.
struct ConnectOptions {
    max_inbound: Option<usize>,
    min_peers: Option<usize>,
    max_outbound: Option<usize>,
    bootstrap: Option<bool>,
}

/// A network by the name that users know it by.
pub fn parse_network(name: &str) -> Result<Network, ConfigError> {
    match name {
        "mainnet" => Ok(Network::Bitcoin),
        "testnet4" => Ok(Network::Testnet4),
        "signet" => Ok(Network::Signet),
        "regtest" => Ok(Network::Regtest),
        other => Err(ConfigError(format!(
            "network = {other:?} is not known; take regtest, signet, testnet4 or mainnet"
        ))),
    }
}

struct Ports {
    peers: u16,
    api: u16,
}

impl Ports {
    const fn of(network: Network) -> Self {
        let peers = match network {
            Network::Bitcoin => 9_735,
            Network::Testnet => 29_735,
            Network::Testnet4 => 49_735,
            Network::Signet => 39_735,
            Network::Regtest => 19_735,
        };
        Self {
            peers,
            api: peers + 5,
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}

fn host_and_port(text: &str) -> Result<String, ConfigError> {
    let bare = text
        .strip_prefix("http://")
        .unwrap_or(text)
        .trim_end_matches('/');
    match bare.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(bare.to_owned())
        }
        _ => Err(ConfigError(format!(
            "bitcoind = {text:?} is not host:port, for instance 127.0.0.1:8332"
        ))),
    }
}

fn parse_color(text: &str) -> Result<Rgb, ConfigError> {
    use hex_conservative::FromHex;
    match <[u8; 3]>::from_hex(text.trim_start_matches('#')) {
        Ok([red, green, blue]) => Ok(Rgb { red, green, blue }),
        Err(_) => Err(ConfigError(format!("color = {text:?} is not like f5c211"))),
    }
}

fn net_address(address: SocketAddr) -> NetAddress {
    match address {
        SocketAddr::V4(v4) => NetAddress::Ipv4 {
            addr: *v4.ip(),
            port: v4.port(),
        },
        SocketAddr::V6(v6) => NetAddress::Ipv6 {
            addr: *v6.ip(),
            port: v6.port(),
        },
    }
}

/// Figment's errors in one line each, with the file's or variable's name.
fn explain(error: &figment::Error) -> String {
    let lines: Vec<String> = error
        .clone()
        .into_iter()
        .map(|e| {
            let place = match e
                .metadata
                .as_ref()
                .map(|m| (m.name.to_string(), m.source.as_ref()))
            {
                Some((_, Some(source))) => format!(" ({source})"),
                Some((name, None)) => format!(" ({name})"),
                None => String::new(),
            };
            let key = if e.path.is_empty() {
                String::new()
            } else {
                format!("{}: ", e.path.join("."))
            };
            format!("{key}{}{place}", e.kind.to_string().trim_end())
        })
        .collect();
    format!("the configuration has a mistake: {}", lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(CONFIG_FILE), toml).expect("it is ours");
        Config::load(dir.path().to_path_buf(), None, &Options::default())
    }

    #[test]
    fn defaults_are_complete() {
        let config = load("").expect("nothing is needed");
        assert_eq!(config.network(), Network::Regtest);
        assert_eq!(config.node.gossip_flush_millis, 1_000);
        assert!(config.api.ip().is_loopback());
        assert!(!config.node.declared_restore);
    }

    #[test]
    fn a_backup_is_declared() {
        let config = load("restored_from_backup = true").expect("no mistake");
        assert!(config.node.declared_restore);
    }

    #[test]
    fn mistakes_are_named() {
        for (toml, words) in [
            ("netwrok = 'regtest'", "netwrok"),
            ("network = 'testnet'", "testnet4"),
            ("network = 'mainnet'", "i_accept_the_risk_of_losing_funds"),
            ("fee_ppm = 'much'", "fee_ppm"),
            ("fee_ppm = -1", "fee_ppm"),
            ("api = '0.0.0.0:1'", "api_allow_remote"),
            ("bitcoind = 'nowhere'", "host:port"),
            ("bitcoind_user = 'me'", "bitcoind_password"),
            ("cltv_expiry_delta = 3", "34"),
            ("color = 'red'", "f5c211"),
            ("alias = '123456789012345678901234567890123'", "32"),
            ("log_format = 'xml'", "log_format"),
            ("rapid_gossip_sync = 'ftp://a.org'", "rapid_gossip_sync"),
            ("= 3", "fulmend.toml"),
        ] {
            let error = load(toml).expect_err(toml).to_string();
            assert!(error.contains(words), "{toml}: {error}");
        }
    }

    #[test]
    fn flags_go_before_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(
            dir.path().join(CONFIG_FILE),
            "fee_ppm = 1\nfee_base_msat = 2",
        )
        .expect("it is ours");
        let flags = Options {
            fee_ppm: Some(7),
            ..Options::default()
        };
        let config = Config::load(dir.path().to_path_buf(), None, &flags).expect("no mistake");
        assert_eq!(config.node.forward.fee_proportional_millionths, 7);
        assert_eq!(config.node.forward.fee_base_msat, 2);
    }
}
