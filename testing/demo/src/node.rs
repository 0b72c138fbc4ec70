//! A daemon as a process of its own, and its client.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fulmen_api::{
    BalanceInfo, ChannelInfo, Client, ClientError, Connect, Event, GetInfo, Invoice, InvoiceInfo,
    ListChannels, NewAddress, NodeInfo, OpenChannel, OpenChannelAnswer, Pay, PaymentInfo,
    PaymentState, Request,
};
use fulmen_seed::{Birthday, Seed, SeedFile};

use crate::{daemon, process::Process};

/// How long a daemon may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A daemon with its data directory. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: &'static str,
    dir: PathBuf,
    process: Process,
    client: Client,
    info: Option<NodeInfo>,
}

impl Node {
    /// Makes the data directory with a seed and the configuration; starts nothing.
    pub(crate) fn create(
        parent: &Path,
        name: &'static str,
        settings: &daemon::Settings,
    ) -> Result<Self> {
        let dir = parent.join(name);
        SeedFile::create(&dir, &Seed::generate()?, Birthday::Now, None)?;
        let api = format!("127.0.0.1:{}", free_port()?);
        let listen = format!("127.0.0.1:{}", free_port()?);
        daemon::write_config(&dir, name, &listen, &api, settings)?;
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let mut arguments: Vec<OsString> = vec!["daemon".into()];
        arguments.extend(daemon::arguments(&dir));
        let process = Process::new(program, arguments, parent.join(format!("{name}.log")));
        // The token does not exist before the first start.
        let client = Client::new(api, "");
        Ok(Self {
            name,
            dir,
            process,
            client,
            info: None,
        })
    }

    /// Starts the daemon and waits until it answers and has seen the chain.
    pub(crate) async fn start(&mut self) -> Result<()> {
        self.process
            .start()
            .with_context(|| format!("{} does not start", self.name))?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.ended() {
                bail!(
                    "{} ended with {status}; the last of its log:\n{}",
                    self.name,
                    self.process.log_tail()
                );
            }
            if let Ok(client) = Client::with_token_of(self.client.address(), &self.dir) {
                let client = client.with_timeout(Duration::from_secs(600));
                if let Ok(info) = client.call(&GetInfo {}).await {
                    self.client = client;
                    self.info = Some(info);
                    return Ok(());
                }
            }
            if begun.elapsed() > START_PATIENCE {
                bail!(
                    "{} does not answer after {} s; the last of its log:\n{}",
                    self.name,
                    START_PATIENCE.as_secs(),
                    self.process.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Pulls the plug.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill().with_context(|| self.name)
    }

    /// Asks it to stop, and waits.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.process.stop().await.with_context(|| self.name)
    }

    /// Holds it still, with its connections open.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.process.freeze().with_context(|| self.name)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.process.thaw().with_context(|| self.name)
    }

    /// Whether it was started and is neither stopped nor frozen.
    pub(crate) fn is_awake(&self) -> bool {
        self.process.is_awake()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// `node_id@host:port`.
    pub(crate) fn uri(&self) -> Result<String> {
        let info = self
            .info
            .as_ref()
            .with_context(|| format!("{} was never started", self.name))?;
        Ok(info.uri.clone())
    }

    /// A command.
    pub(crate) async fn call<R: Request>(&self, request: &R) -> Result<R::Answer> {
        self.try_call(request)
            .await
            .with_context(|| format!("{}: {}", self.name, R::NAME))
    }

    async fn try_call<R: Request>(&self, request: &R) -> Result<R::Answer, ClientError> {
        self.client.call(request).await
    }

    pub(crate) async fn getinfo(&self) -> Result<NodeInfo> {
        self.call(&GetInfo {}).await
    }

    pub(crate) async fn balance(&self) -> Result<BalanceInfo> {
        self.call(&fulmen_api::Balance {}).await
    }

    pub(crate) async fn channels(&self) -> Result<Vec<ChannelInfo>> {
        Ok(self.call(&ListChannels {}).await?.channels)
    }

    /// The channel with this funding output.
    pub(crate) async fn channel(&self, funding: &str) -> Result<ChannelInfo> {
        self.find_channel(funding)
            .await?
            .with_context(|| format!("{} has no channel with funding {funding}", self.name))
    }

    pub(crate) async fn find_channel(&self, funding: &str) -> Result<Option<ChannelInfo>> {
        let channels = self.channels().await?;
        Ok(channels
            .into_iter()
            .find(|c| c.funding.as_deref() == Some(funding)))
    }

    /// HTLCs in flight over all its channels.
    pub(crate) async fn htlcs_in_flight(&self) -> Result<usize> {
        Ok(self.channels().await?.iter().map(htlcs).sum())
    }

    pub(crate) async fn payments(&self) -> Result<Vec<PaymentInfo>> {
        self.client.all_payments().await.with_context(|| self.name)
    }

    pub(crate) async fn invoices(&self) -> Result<Vec<InvoiceInfo>> {
        self.client.all_invoices().await.with_context(|| self.name)
    }

    /// All events so far.
    pub(crate) async fn events(&self) -> Result<Vec<Event>> {
        let mut stream = self
            .client
            .events(1, false)
            .await
            .with_context(|| self.name)?;
        let mut events = Vec::new();
        while let Some(event) = stream.next().await {
            events.push(event.with_context(|| format!("{}: events", self.name))?);
        }
        Ok(events)
    }

    pub(crate) async fn new_address(&self) -> Result<String> {
        Ok(self.call(&NewAddress {}).await?.address)
    }

    pub(crate) async fn connect(&self, other: &Self) -> Result<()> {
        self.call(&Connect { peer: other.uri()? }).await?;
        Ok(())
    }

    pub(crate) async fn open(
        &self,
        other: &Self,
        amount_sat: u64,
        push_sat: u64,
    ) -> Result<OpenChannelAnswer> {
        let mut request = OpenChannel::new(other.uri()?, amount_sat);
        request.push_msat = push_sat * 1_000;
        self.call(&request).await
    }

    /// An invoice's text.
    pub(crate) async fn invoice(&self, amount_msat: u64, description: &str) -> Result<String> {
        let answer = self
            .call(&Invoice::of_msat(amount_msat, description))
            .await?;
        Ok(answer.bolt11)
    }

    /// Pays and waits for the end; an error when the payment fails.
    pub(crate) async fn pay(&self, bolt11: &str, max_fee_msat: u64) -> Result<PaymentInfo> {
        let info = self.call(&pay_request(bolt11, max_fee_msat)).await?;
        ensure!(
            info.state == PaymentState::Succeeded,
            "{}: the payment {} failed: {}",
            self.name,
            info.payment_hash,
            info.failure.unwrap_or_default()
        );
        Ok(info)
    }
}

/// HTLCs in flight, both ways.
pub(crate) const fn htlcs(channel: &ChannelInfo) -> usize {
    channel.htlcs_in + channel.htlcs_out
}

/// A payment that looks for ways for two minutes.
pub(crate) fn pay_request(bolt11: &str, max_fee_msat: u64) -> Pay {
    Pay {
        max_fee_msat: Some(max_fee_msat),
        timeout_secs: Some(120),
        ..Pay::new(bolt11)
    }
}

/// A port that nobody listens on, and that no outgoing connection takes before the daemon does: systems
/// give those ports from 32768 on, or from 49152 on.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: Range<u16> = 12_000..32_000;
    for _ in PORTS {
        // Each process begins somewhere else.
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(64).wrapping_add(turn);
        let port = PORTS.start + u16::try_from(place % u32::from(PORTS.end - PORTS.start))?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!(
        "programs listen on all ports from {} to {}",
        PORTS.start,
        PORTS.end
    )
}

/// Waits until `done` says so; an error with `what` after `patience`.
pub(crate) async fn wait_until<F>(what: &str, patience: Duration, mut done: F) -> Result<()>
where
    F: AsyncFnMut() -> Result<bool>,
{
    let begun = Instant::now();
    loop {
        if done().await? {
            return Ok(());
        }
        if begun.elapsed() > patience {
            bail!("{what} did not happen within {} s", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
