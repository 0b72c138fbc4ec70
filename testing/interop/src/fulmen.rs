//! A Fulmen daemon in this process, used through its HTTP interface as anybody would.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Network, OutPoint, ScriptBuf};
use fulmen_api as api;
use fulmen_block_sync::Auth;
use fulmen_devchain::Backend;
use fulmen_seed::{Birthday, Seed, SeedFile};
use fulmend::{Config, Daemon};
use tokio::runtime::Runtime;

use crate::node::{ChannelKind, ChannelView, Close, OpenChannel, PaymentStatus, TestNode};
use crate::wait::{SHORT, until};

/// A daemon that runs or has been stopped. Dropping it stops it.
pub(crate) struct FulmenNode {
    name: String,
    node_id: PublicKey,
    address: SocketAddr,
    config: Config,
    runtime: Option<Runtime>,
    running: Option<(Daemon, api::Client)>,
    folder: tempfile::TempDir,
}

impl FulmenNode {
    /// Starts a daemon with a fresh seed on a backend.
    pub(crate) fn start(name: &str, backend: &Backend) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fulmen-").tempdir()?;
        let data_dir = folder.path().join("node");
        std::fs::create_dir(&data_dir)?;
        SeedFile::create(&data_dir, &Seed::generate()?, Birthday::Now, None)?;
        let mut config = Config::new(data_dir, Network::Regtest);
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        config.listen = loopback;
        config.api = loopback;
        config.bitcoind = backend.addr().to_string();
        config.bitcoind_auth = Auth::CookieFile(backend.cookie_path().to_owned());
        config.chain_poll_millis = 50;
        config.node.gossip_flush_millis = 500;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let daemon = runtime.block_on(Daemon::start(config.clone()))?;
        let client = daemon.client();
        // Started again, it is where it was.
        config.listen = daemon.listen_address();
        Ok(Self {
            name: name.to_owned(),
            node_id: daemon.node_id(),
            address: daemon.listen_address(),
            config,
            runtime: Some(runtime),
            running: Some((daemon, client)),
            folder,
        })
    }

    /// Stops the daemon.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let (daemon, _) = self.running.take().context("the daemon does not run")?;
        let stopping = daemon.stop();
        Ok(self.runtime()?.block_on(stopping)?)
    }

    /// Starts the daemon again, from what it has stored.
    pub(crate) fn resume(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "the daemon runs");
        let starting = Daemon::start(self.config.clone());
        let daemon = self.runtime()?.block_on(starting)?;
        let client = daemon.client();
        self.running = Some((daemon, client));
        Ok(())
    }

    /// Copies everything that the stopped daemon has stored; the copy lives as long as the node.
    pub(crate) fn copy(&self, name: &str) -> Result<PathBuf> {
        ensure!(self.running.is_none(), "the daemon runs");
        let copy = self.folder.path().join(name);
        fulmen_cheat::copy_data_dir(&self.config.data_dir, &copy)?;
        Ok(copy)
    }

    /// Puts a copy in the place of everything that the stopped daemon has stored.
    pub(crate) fn replace(&self, copy: &Path) -> Result<()> {
        ensure!(self.running.is_none(), "the daemon runs");
        std::fs::remove_dir_all(&self.config.data_dir)?;
        fulmen_cheat::copy_data_dir(copy, &self.config.data_dir)
    }

    /// The funding output of a channel.
    pub(crate) fn funding(&self, channel: &ChannelView) -> Result<OutPoint> {
        let channels = self.all_channels()?;
        let found = channels.iter().find(|one| one.channel_id == channel.id);
        let funding = found.and_then(|one| one.funding.as_deref());
        Ok(funding.context("no funding output")?.parse()?)
    }

    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().context("the runtime is gone")
    }

    fn call<R: api::Request>(&self, request: &R) -> Result<R::Answer> {
        let (_, client) = self.running.as_ref().context("the daemon is stopped")?;
        self.runtime()?
            .block_on(client.call(request))
            .map_err(|error| anyhow!("{}: {}: {error}", self.name, R::NAME))
    }

    fn info(&self) -> Result<api::NodeInfo> {
        self.call(&api::GetInfo {})
    }

    fn all_channels(&self) -> Result<Vec<api::ChannelInfo>> {
        Ok(self.call(&api::ListChannels {})?.channels)
    }
}

impl TestNode for FulmenNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn node_id(&self) -> PublicKey {
        self.node_id
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn deposit_script(&self) -> Result<ScriptBuf> {
        let address = self.call(&api::NewAddress {})?.address;
        Ok(Address::from_str(&address)?
            .assume_checked()
            .script_pubkey())
    }

    fn height(&self) -> Result<u32> {
        let info = self.info()?;
        Ok(info.block_height.min(info.wallet_height))
    }

    fn onchain_sat(&self) -> Result<u64> {
        Ok(self.call(&api::Balance {})?.onchain_confirmed_sat)
    }

    fn sweeping_sat(&self) -> Result<u64> {
        Ok(self.call(&api::Balance {})?.sweeping_sat)
    }

    fn connect(&self, peer: PublicKey, address: SocketAddr) -> Result<()> {
        self.call(&api::Connect {
            peer: format!("{peer}@{address}"),
        })?;
        until("Fulmen is connected", SHORT, || self.is_connected(peer))
    }

    fn is_connected(&self, peer: PublicKey) -> Result<bool> {
        let peers = self.call(&api::ListPeers {})?.peers;
        let peer = peer.to_string();
        Ok(peers.iter().any(|one| one.node_id == peer && one.connected))
    }

    fn disconnect(&self, peer: PublicKey) -> Result<()> {
        self.call(&api::Disconnect {
            node_id: peer.to_string(),
            force: true,
        })?;
        Ok(())
    }

    fn open_channel(&self, open: OpenChannel) -> Result<()> {
        let mut request = api::OpenChannel::new(open.peer.to_string(), open.capacity_sat);
        request.push_msat = open.push_msat;
        request.private = !open.public;
        request.channel_type = Some(open.kind.name().to_owned());
        self.call(&request)?;
        Ok(())
    }

    fn channels(&self) -> Result<Vec<ChannelView>> {
        let mut views = Vec::new();
        for channel in self.all_channels()? {
            if matches!(&*channel.state, "force_closing" | "on_chain" | "stale") {
                continue;
            }
            views.push(ChannelView {
                id: channel.channel_id,
                peer: channel.peer.parse()?,
                short_channel_id: match channel.short_channel_id {
                    Some(text) => Some(parse_short_channel_id(&text)?),
                    None => None,
                },
                usable: channel.usable,
                kind: ChannelKind::ALL
                    .into_iter()
                    .find(|kind| kind.name() == channel.channel_type),
                spendable_msat: channel.spendable_msat,
                htlcs: channel.htlcs_out + channel.htlcs_in,
                capacity_sat: channel.capacity_sat,
            });
        }
        Ok(views)
    }

    fn invoice(&self, amount_msat: u64, description: &str) -> Result<String> {
        let request = api::Invoice::of_msat(amount_msat, description);
        Ok(self.call(&request)?.bolt11)
    }

    fn pay(&self, bolt11: &str) -> Result<String> {
        let mut request = api::Pay::new(bolt11).without_waiting();
        request.max_fee_msat = Some(1_000_000);
        request.timeout_secs = Some(20);
        Ok(self.call(&request)?.payment_hash)
    }

    fn payment(&self, payment_hash: &str) -> Result<PaymentStatus> {
        let request = api::ListPayments {
            payment_hash: Some(payment_hash.to_owned()),
            ..Default::default()
        };
        let payments = self.call(&request)?.payments;
        let payment = payments.into_iter().next().context("no such payment")?;
        Ok(match payment.state {
            api::PaymentState::Pending => PaymentStatus::Pending,
            api::PaymentState::Succeeded => PaymentStatus::Succeeded {
                preimage: payment.preimage.context("no preimage")?,
                fee_msat: payment.fee_msat.context("no fee")?,
            },
            api::PaymentState::Failed => PaymentStatus::Failed(format!(
                "{}: {}",
                payment.failure_reason.unwrap_or_default(),
                payment.failure.unwrap_or_default()
            )),
        })
    }

    fn received_msat(&self, payment_hash: &str) -> Result<Option<u64>> {
        let request = api::ListInvoices {
            payment_hash: Some(payment_hash.to_owned()),
            ..Default::default()
        };
        let invoices = self.call(&request)?.invoices;
        Ok(invoices.first().and_then(|invoice| invoice.received_msat))
    }

    fn close(&self, channel: &ChannelView, how: Close) -> Result<()> {
        self.call(&api::CloseChannel {
            channel: channel.id.clone(),
            force: how == Close::Force,
            address: None,
            feerate_sat_per_vb: None,
        })?;
        Ok(())
    }

    fn graph_size(&self) -> Result<(usize, usize)> {
        let info = self.info()?;
        // A channel counts once the terms of both its ends are known.
        Ok((info.graph_nodes, info.graph_policies / 2))
    }
}

/// `height x index x output` as the number of BOLT 7.
fn parse_short_channel_id(text: &str) -> Result<u64> {
    let parts: Vec<&str> = text.split('x').collect();
    let [height, index, output] = parts[..] else {
        bail!("{text} is no short channel id");
    };
    Ok((height.parse::<u64>()? << 40) | (index.parse::<u64>()? << 16) | output.parse::<u64>()?)
}

impl Drop for FulmenNode {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        if let Some((daemon, _)) = self.running.take()
            && let Err(error) = runtime.block_on(daemon.stop())
        {
            eprintln!("{} did not stop well: {error}", self.name);
        }
        runtime.shutdown_background();
    }
}
