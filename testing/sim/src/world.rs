//! The world: time as a queue of happenings, and everything that they happen to.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, Network, ScriptBuf, Txid};
use fulmen_devchain::{Chain, Config, burn_script};
use fulmen_node::{Answer, BlockId, Boot, Feerates, Input, Node, NodeConfig, RequestId};
use fulmen_types::{BlockHeight, FeeratePerKw, Msat, Timestamp};

use crate::{
    Options,
    coverage::Coverage,
    deadline::Overdue,
    disk::Disk,
    early::EarlyClose,
    host::{Host, Keys},
    net::Connection,
    outbox::Outbox,
    phase::Phase,
    plan::{Faults, Plan},
    rng::Rng,
    spends::Spends,
    trace::Trace,
    user::Users,
    villain::Villainy,
    wallet::Wallet,
};

/// When runs begin: the chain's own start, in milliseconds since 1970.
const START_MILLIS: u64 = 1_750_000_000_000;
/// Coins that each wallet starts with, and their value.
const COINS: usize = 8;
const COIN_SAT: u64 = 5_000_000;
/// No run has more steps.
const MOST_STEPS: u64 = 2_000_000;

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A node asked to be woken.
    Tick { host: usize, boot: u32 },
    /// Batches up to a step reach the disk.
    Commit { host: usize, boot: u32, seq: u64 },
    /// A port answers.
    Answer {
        host: usize,
        boot: u32,
        id: RequestId,
        answer: Box<Answer>,
    },
    /// The next item of a connection arrives at a side.
    Deliver { connection: u64, side: usize },
    /// A host tries to connect to another.
    Dial { from: usize, to: usize },
    /// A host hears of the next block.
    ChainStep { host: usize, boot: u32 },
    /// A block is found.
    Mine,
    /// Signer and wallet of a host are back.
    Return { host: usize, boot: u32 },
    /// The villain begins, or goes on.
    Villainy,
    /// A host comes back.
    Restart { host: usize },
    /// A task goes on.
    Task { task: usize },
    /// The phase may be over.
    Phase,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Steps of nodes.
    pub steps: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Crashes.
    pub crashes: u64,
    /// Batches that crashes lost.
    pub lost_batches: u64,
    /// Connections cut.
    pub disconnects: u64,
    /// Blocks found.
    pub blocks: u64,
    /// Reorganisations.
    pub reorgs: u64,
    /// Payments that succeeded.
    pub paid: u64,
    /// Payments that failed.
    pub unpaid: u64,
    /// Payments that went through others.
    pub forwards: u64,
    /// Attempts to pay in parts.
    pub split: u64,
    /// Small HTLCs that were failed upstream undecided.
    pub given_up: u64,
    /// Channels opened.
    pub channels: u64,
    /// Closes together and by force.
    pub closes: u64,
    /// Closes by force.
    pub forced: u64,
    /// Of these, seen by a node that had HTLCs in the channel.
    pub forced_in_flight: u64,
    /// Comparisons of a node with what its disk gives.
    pub restores: u64,
    /// Transactions dropped from the mempool.
    pub evictions: u64,
    /// Transactions left out by miners for a while.
    pub censored: u64,
    /// Empty blocks.
    pub empty_blocks: u64,
    /// Spikes of the feerate.
    pub spikes: u64,
    /// Stalls of one direction.
    pub stalls: u64,
    /// Reconnections though connected.
    pub races: u64,
    /// Times that signer and wallet were away.
    pub absences: u64,
    /// Commits that failed.
    pub failed_commits: u64,
    /// Hosts that played a trick.
    pub villains: u64,
    /// Revoked commitments that were confirmed.
    pub breaches: u64,
    /// Claims that a villain threw out of the mempool.
    pub cycled: u64,
    /// Hosts with more bad luck than the budget allows.
    pub unlucky: u64,
    /// Messages that were changed, dropped, doubled or made up.
    pub mutated: u64,
}

impl Stats {
    /// Every count with its name.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let mut copy = *self;
        let fields = copy.fields();
        fields
            .into_iter()
            .map(|(name, count)| (name, *count))
            .collect()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for ((_, sum), (_, more)) in self.fields().into_iter().zip(other.named()) {
            *sum += more;
        }
    }

    fn fields(&mut self) -> [(&'static str, &mut u64); 30] {
        [
            ("steps", &mut self.steps),
            ("messages", &mut self.messages),
            ("channels", &mut self.channels),
            ("payments succeeded", &mut self.paid),
            ("payments failed", &mut self.unpaid),
            ("forwards", &mut self.forwards),
            ("attempts in parts", &mut self.split),
            ("HTLCs given up", &mut self.given_up),
            ("crashes", &mut self.crashes),
            ("batches lost", &mut self.lost_batches),
            ("failed commits", &mut self.failed_commits),
            ("disconnects", &mut self.disconnects),
            ("stalls", &mut self.stalls),
            ("reconnection races", &mut self.races),
            ("absences of signer, wallet and router", &mut self.absences),
            ("blocks", &mut self.blocks),
            ("empty blocks", &mut self.empty_blocks),
            ("reorganisations", &mut self.reorgs),
            ("evictions", &mut self.evictions),
            ("censored transactions", &mut self.censored),
            ("spikes", &mut self.spikes),
            ("closes", &mut self.closes),
            ("closes by force", &mut self.forced),
            ("of them with HTLCs", &mut self.forced_in_flight),
            ("villains", &mut self.villains),
            ("breaches", &mut self.breaches),
            ("claims cycled out", &mut self.cycled),
            ("twisted messages", &mut self.mutated),
            ("restarts compared", &mut self.restores),
            ("runs with bad luck beyond the budget", &mut self.unlucky),
        ]
    }
}

/// A simulated world.
pub(crate) struct World {
    /// What was drawn for it.
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    /// What happened.
    pub(crate) trace: Trace,
    pub(crate) now: u64,
    begun: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    pub(crate) chain: Chain,
    /// Blocks up to here are of the start.
    pub(crate) first_height: u32,
    pub(crate) hosts: Vec<Host>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) last_connection: u64,
    pub(crate) users: Users,
    pub(crate) phase: Phase,
    pub(crate) phase_since: u64,
    /// The faults that are on now.
    pub(crate) faults: Faults,
    /// Transactions that fund channels, and who paid for them.
    pub(crate) fundings: BTreeMap<Txid, usize>,
    /// Secrets that were revealed: host, channel, newest number.
    pub(crate) revealed: BTreeMap<(usize, [u8; 32]), u64>,
    /// Answers that errors of nodes may not be compared with: channels closed by force on purpose.
    pub(crate) forced: BTreeSet<fulmen_types::ChannelId>,
    /// When the last crash, start or connection was, and the height when all had last been well for a while after it.
    pub(crate) last_unrest: u64,
    pub(crate) rested_at: u32,
    /// The highest feerate that any node was told.
    pub(crate) highest_feerate: u32,
    /// Channels that are to be closed as soon as they hold HTLCs.
    pub(crate) to_close: BTreeMap<fulmen_types::ChannelId, EarlyClose>,
    /// Those of them that their users wanted to close together.
    pub(crate) closed_early: BTreeSet<fulmen_types::ChannelId>,
    /// Pairs of hosts that can't connect before a time.
    pub(crate) parted: BTreeMap<(usize, usize), u64>,
    /// Transactions that miners leave out, and until which height; none twice.
    pub(crate) censored: BTreeMap<Txid, u32>,
    pub(crate) ever_censored: BTreeSet<Txid>,
    /// How many blocks in a row were empty.
    pub(crate) empty_in_a_row: u32,
    /// A spike: when it ends, and the feerates then.
    pub(crate) spike: Option<(u32, [u32; 3])>,
    /// Who broadcast what first.
    pub(crate) broadcasters: BTreeMap<Txid, usize>,
    /// What every commitment of a peer that was signed is: host, channel, number, digest.
    pub(crate) signed: BTreeMap<(usize, [u8; 32]), (u64, [u8; 32])>,
    pub(crate) secp: fulmen_tx::Secp,
    /// What blocks spend, those of forks as well.
    pub(crate) spends: Spends,
    /// HTLCs whose channel should have been closed for them, and the height when that was first seen.
    pub(crate) overdue: BTreeMap<Overdue, u32>,
    /// What was reached.
    pub(crate) coverage: Coverage,
    /// The villain's state.
    pub(crate) villainy: Villainy,
    /// Commands that users thought of in the middle of a step.
    pub(crate) pending_commands: Vec<(usize, fulmen_node::CommandId, fulmen_node::Command)>,
    /// What was counted.
    pub(crate) stats: Stats,
    /// What is wrong.
    pub(crate) failure: Option<String>,
}

impl World {
    /// The world of a plan, before anything has happened.
    pub(crate) fn new(plan: Plan, mut rng: Rng, options: Options) -> Self {
        let mut chain = Chain::new(Config {
            block_interval: 600,
            ..Config::default()
        });
        let mut hosts: Vec<Host> = (0..plan.nodes)
            .map(|index| new_host(index, &plan, &mut rng))
            .collect();
        for host in &mut hosts {
            for _ in 0..COINS {
                let value = bitcoin::Amount::from_sat(COIN_SAT);
                let script: ScriptBuf = host.wallet.script();
                chain
                    .fund_unconfirmed(&script, value)
                    .expect("the faucet has coins");
                chain.generate_to_script(1, &burn_script());
            }
            host.initial_sat = host.wallet.total_sat(&chain);
        }
        chain.set_block_interval(0);
        let now = START_MILLIS.max(u64::from(chain.time()) * 1_000 + 1_000_000);
        let first_height = chain.height();
        Self {
            trace: Trace::new(options.trace),
            rng,
            now,
            begun: now,
            queue: BTreeMap::new(),
            scheduled: 0,
            chain,
            first_height,
            hosts,
            connections: BTreeMap::new(),
            last_connection: 0,
            users: Users::default(),
            phase: Phase::Open,
            phase_since: now,
            faults: Faults {
                outage: 1,
                ..Faults::default()
            },
            fundings: BTreeMap::new(),
            revealed: BTreeMap::new(),
            forced: BTreeSet::new(),
            last_unrest: now,
            rested_at: first_height,
            highest_feerate: plan.feerates[2],
            to_close: BTreeMap::new(),
            closed_early: BTreeSet::new(),
            parted: BTreeMap::new(),
            censored: BTreeMap::new(),
            ever_censored: BTreeSet::new(),
            empty_in_a_row: 0,
            spike: None,
            broadcasters: BTreeMap::new(),
            signed: BTreeMap::new(),
            secp: fulmen_tx::Secp::new(),
            spends: Spends::default(),
            overdue: BTreeMap::new(),
            coverage: if options.coverage {
                Coverage::counting()
            } else {
                Coverage::default()
            },
            villainy: Villainy::default(),
            pending_commands: Vec::new(),
            stats: Stats::default(),
            failure: None,
            plan,
        }
    }

    /// Runs to the end, or to the first thing that is wrong.
    pub(crate) fn run(&mut self) {
        self.begin();
        while self.failure.is_none() && self.phase != Phase::Over {
            let Some(((at, _), happening)) = self.queue.pop_first() else {
                self.fail("nothing is left to happen, but not everything is done");
                break;
            };
            self.now = self.now.max(at);
            if self.stats.steps > MOST_STEPS {
                self.fail("the nodes don't come to rest");
            }
            self.happen(happening);
            self.give_pending_commands();
            self.crash_where_due();
            self.check_moment();
        }
    }

    fn begin(&mut self) {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
        self.begin_open();
        self.after(self.plan.block_interval, Happening::Mine);
        self.after(100, Happening::Phase);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { host, boot } => {
                let due = self.is_boot(host, boot) && self.hosts[host].wake == Some(self.now);
                if due {
                    self.hosts[host].wake = None;
                    self.feed(host, Input::Tick);
                }
            }
            Happening::Commit { host, boot, seq } => {
                if self.is_boot(host, boot) {
                    self.commit(host, seq);
                }
            }
            Happening::Answer {
                host,
                boot,
                id,
                answer,
            } => {
                if self.is_boot(host, boot) {
                    self.feed(
                        host,
                        Input::Answer {
                            id,
                            answer: *answer,
                        },
                    );
                }
            }
            Happening::Deliver { connection, side } => self.deliver(connection, side),
            Happening::Dial { from, to } => self.dial(from, to),
            Happening::ChainStep { host, boot } => {
                if self.is_boot(host, boot) {
                    self.chain_step(host);
                }
            }
            Happening::Mine => self.mine(),
            Happening::Return { host, boot } => {
                if self.is_boot(host, boot) {
                    self.last_unrest = self.now;
                    let mut inputs = std::collections::VecDeque::new();
                    self.release(host, &mut inputs);
                    self.feed_all(host, inputs);
                }
            }
            Happening::Villainy => self.villainy(),
            Happening::Restart { host } => self.start(host),
            Happening::Task { task } => self.task(task),
            Happening::Phase => self.phase(),
        }
    }

    /// Has something happen `millis` from now.
    pub(crate) fn after(&mut self, millis: u64, happening: Happening) {
        self.at(self.now + millis, happening);
    }

    pub(crate) fn at(&mut self, at: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue
            .insert((at.max(self.now), self.scheduled), happening);
    }

    /// A delay of at most so long.
    pub(crate) fn delay(&mut self, most: u64) -> u64 {
        if most == 0 {
            0
        } else {
            self.rng.between(0, most)
        }
    }

    pub(crate) fn is_boot(&self, host: usize, boot: u32) -> bool {
        self.hosts[host].node.is_some() && self.hosts[host].boot == boot
    }

    pub(crate) fn timestamp(&self, host: usize) -> Timestamp {
        Timestamp::new(self.now + self.hosts[host].clock)
    }

    /// Milliseconds since the run began.
    pub(crate) fn elapsed(&self) -> u64 {
        self.now.saturating_sub(self.begun)
    }

    pub(crate) fn say(&mut self, text: impl AsRef<str>) {
        let elapsed = self.elapsed();
        self.trace.line(elapsed, text.as_ref());
        self.coverage.line(text.as_ref());
    }

    /// Something is wrong: the run ends.
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.say(format!("FAILURE: {what}"));
        self.failure.get_or_insert(what);
    }

    /// What a fee estimator says now.
    pub(crate) fn feerates(&self) -> Feerates {
        let [background, normal, urgent] = self.plan.feerates.map(FeeratePerKw::new);
        Feerates {
            background,
            normal,
            urgent,
            floor: FeeratePerKw::FLOOR,
        }
    }

    /// Something is wrong with a host: it counts unless that host is the villain at work.
    pub(crate) fn blame(&mut self, host: usize, what: impl Into<String>) {
        if self.is_villain(host) {
            self.say(format!("(the villain: {})", what.into()));
        } else {
            self.fail(what);
        }
    }

    /// A node begins, new or from its disk.
    pub(crate) fn start(&mut self, index: usize) {
        if self.hosts[index].node.is_some() {
            return;
        }
        if self.faults.clock > 0 {
            self.hosts[index].clock = self.rng.below(self.faults.clock);
        }
        let now = self.timestamp(index);
        let tip = BlockId {
            height: BlockHeight::new(self.chain.height()),
            hash: self.chain.tip(),
        };
        let boot = Boot {
            entropy: self.rng.bytes32(),
        };
        let host = &mut self.hosts[index];
        host.boot += 1;
        let records = host.disk.records();
        let config = host.config.clone();
        let started = if records.is_empty() {
            Ok(Node::create(config, host.id, &boot, now, tip))
        } else {
            Node::restore(config, host.id, &boot, now, &records)
        };
        let (mut node, effects) = match started {
            Ok(started) => started,
            Err(error) => return self.fail(format!("n{index} can't be restored: {error}")),
        };
        if let Some((graph, messages)) = host.graph.take() {
            node.set_gossip_cache(graph, messages);
        }
        host.wallet.keep_leases(&node.coin_leases());
        let new_events: BTreeSet<u64> = effects
            .actions
            .iter()
            .filter_map(|action| match &action.kind {
                fulmen_node::ActionKind::Event(event) => Some(event.number),
                _ => None,
            })
            .collect();
        let known = host
            .events
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        let missed: Vec<_> = node
            .events_after(known)
            .filter(|event| !new_events.contains(&event.number))
            .cloned()
            .collect();
        host.node = Some(node);
        let boot = host.boot;
        self.say(format!("n{index} starts ({boot})"));
        self.last_unrest = self.now;
        for event in missed {
            self.event(index, event);
        }
        let mut inputs = std::collections::VecDeque::new();
        self.effects(index, effects, &mut inputs);
        inputs.push_back(Input::Feerates(self.feerates()));
        let host = &self.hosts[index];
        let height = host
            .node
            .as_ref()
            .map_or(0, |n| n.chain_tip()[0].height.to_u32());
        inputs.push_back(Input::WalletBalance(
            host.wallet.balance(&self.chain, height),
        ));
        self.feed_all(index, inputs);
        self.ask_chain(index);
    }
}

fn new_host(index: usize, plan: &Plan, rng: &mut Rng) -> Host {
    let keys = Keys::new(rng.bytes32());
    let mut config = NodeConfig::new(Network::Regtest);
    config.gossip_flush_millis = 1_000;
    let limits = plan.limits;
    config.max_payment_parts = limits.parts;
    config.channel.max_accepted_htlcs = limits.htlcs;
    config.channel.max_in_flight_percent = limits.in_flight_percent;
    config.channel.dust_limit = Amount::from_sat(limits.dust_sat);
    config.channel.max_dust_htlc_exposure = Msat::from_sat(limits.dust_exposure_sat);
    config.channel.to_self_delay = plan.to_self_delay;
    config.channel.closing_timeout_millis = 20 * 60 * 1_000;
    config.forward.cltv_expiry_delta = plan.cltv_expiry_delta;
    // Every other node waits for its peers after a start.
    if index.is_multiple_of(2) {
        config.channel.reconnect_grace_millis = 0;
    }
    Host {
        index,
        id: fulmen_signer::Signer::node_id(&keys),
        config,
        keys,
        disk: Disk::default(),
        wallet: Wallet::new(rng.bytes32()),
        node: None,
        boot: 0,
        outbox: Outbox::default(),
        wake: None,
        connections: BTreeMap::new(),
        keep: BTreeSet::new(),
        feerate_refused: None,
        filtered: rng.chance(500),
        outpoints: BTreeSet::new(),
        scripts: BTreeSet::new(),
        chain_step: false,
        catches_up: false,
        lag: rng.below(4),
        absent_until: 0,
        clock: 0,
        keeps_graph: rng.chance(500),
        graph: None,
        events: BTreeMap::new(),
        acknowledged: 0,
        initial_sat: 0,
        crash: false,
        touched: false,
    }
}
