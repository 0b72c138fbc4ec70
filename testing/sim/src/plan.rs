//! What a run is like: drawn from its seed before anything happens.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// A channel to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelPlan {
    /// Who opens it.
    pub from: usize,
    /// With whom.
    pub to: usize,
    /// Its capacity.
    pub amount_sat: u64,
    /// What the other end gets at once.
    pub push_sat: u64,
    /// Whether with anchors.
    pub anchors: bool,
    /// Whether it is closed by force at the end.
    pub force_close: Option<usize>,
    /// Whether it is not announced.
    #[serde(default)]
    pub private: bool,
    /// Whether it is called by its aliases alone (`option_scid_alias` as its type).
    #[serde(default)]
    pub alias: bool,
}

/// What nodes allow that differs from the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// `max_accepted_htlcs`.
    pub htlcs: u16,
    /// The share of a channel that HTLCs may hold, in percent.
    pub in_flight_percent: u8,
    /// The smallest output on a commitment, in satoshis.
    pub dust_sat: u64,
    /// What HTLCs without an output may hold in a channel, in satoshis.
    pub dust_exposure_sat: u64,
    /// Into how many parts a payment may be split.
    pub parts: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            htlcs: 483,
            in_flight_percent: 100,
            dust_sat: 354,
            dust_exposure_sat: 50_000,
            // Two payers of one invoice may fill one set with their parts, and both succeed for less than the
            // amount: the ledger takes such payments to be whole.
            parts: 1,
        }
    }
}

/// A payment to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentPlan {
    /// Milliseconds after the payments begin.
    pub at: u64,
    /// Who pays.
    pub from: usize,
    /// Who is paid.
    pub to: usize,
    /// How much.
    pub amount_msat: u64,
    /// Whether the invoice leaves the amount open.
    pub amountless: bool,
    /// Somebody else who pays the same invoice, so that two HTLCs of one hash are under way.
    pub again: Option<usize>,
    /// After how many seconds it is given up, if not after the usual time.
    #[serde(default)]
    pub timeout_secs: Option<u32>,
}

/// What the one host that is no ordinary one does. All others are honest, within the budget of faults, and must
/// not lose anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trick {
    /// It broadcasts revoked commitments, with all that its node of that time does to enforce them.
    Revoked,
    /// From the moment that a channel of it holds an HTLC it says nothing more to anybody for so many blocks,
    /// or never; the chain it uses as ever. So it withholds, holds to the deadline, and shows preimages
    /// on chain only.
    Silent {
        /// For how long.
        blocks: Option<u32>,
        /// After how many blocks it closes all its channels by force, without a word.
        #[serde(default)]
        closes: Option<u32>,
    },
    /// From the moment that it would show a preimage it says nothing more to anybody, and broadcasts nothing for so
    /// many blocks. Until then it throws claims of HTLCs that its peers had offered out of mempools,
    /// before each block, as by a claim with the preimage that is itself replaced again.
    Cycler {
        /// How often of a thousand times it wins the race for a block.
        permille: u64,
        /// For how long.
        blocks: u32,
        /// How often the claim of one output is thrown out at the most.
        #[serde(default = "most_cycles")]
        most: u32,
    },
    /// So many of a thousand of its messages are changed, dropped, doubled or replaced by earlier ones.
    Mutator {
        /// How many.
        permille: u64,
    },
    /// Its `channel_reestablish` is not true.
    Liar,
    /// It sends much that nobody asked for.
    Flooder,
    /// Its disk is replaced by an older state of it. This is beyond the budget.
    OldBackup,
    /// It is away for so many blocks, beyond every deadline.
    LongOutage {
        /// For how long.
        blocks: u32,
    },
    /// Its signer is away for so many blocks, beyond every deadline.
    AbsentSigner {
        /// For how long.
        blocks: u32,
    },
}

/// From an expiry to the next are 34 blocks: what is left of them is for the close, the depth of the claim, and the
/// budget of faults.
const fn most_cycles() -> u32 {
    12
}

impl Trick {
    /// Whether the host means no harm, but has more bad luck than the budget allows.
    pub const fn is_bad_luck(&self) -> bool {
        match self {
            Self::OldBackup | Self::LongOutage { .. } | Self::AbsentSigner { .. } => true,
            Self::Revoked
            | Self::Silent { .. }
            | Self::Cycler { .. }
            | Self::Mutator { .. }
            | Self::Liar
            | Self::Flooder => false,
        }
    }
}

/// Who plays a trick, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Villain {
    /// Who.
    pub host: usize,
    /// Milliseconds after the payments begin.
    pub at: u64,
    /// What.
    pub trick: Trick,
}

/// How often what goes wrong, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// Crash at a commit, before or after it counts.
    pub crash: u64,
    /// Disconnect after a delivered message.
    pub disconnect: u64,
    /// A block is followed by a reorganisation of up to two blocks.
    pub reorg: u64,
    /// The longest delay of a message, in milliseconds.
    pub delay: u64,
    /// The longest commit, in milliseconds.
    pub commit: u64,
    /// The longest delay of a block, in milliseconds.
    pub block_delay: u64,
    /// The longest outage after a crash, in milliseconds.
    pub outage: u64,
    /// The longest delay of an answer of signer, wallet, router or chain, in milliseconds.
    pub answer: u64,
    /// A message begins a stall of its direction of the connection.
    pub stall: u64,
    /// After a delivered message both ends dial, though they are connected.
    pub race: u64,
    /// A commit fails, or finds the disk full: the node stops and what was not durable is gone.
    pub failing_commit: u64,
    /// At a question signer and wallet go away for a while.
    pub absent: u64,
    /// Before a block a transaction is dropped from the mempool.
    pub evict: u64,
    /// A block is empty; never more than two in a row.
    pub empty_block: u64,
    /// Before a block the miners agree to leave a transaction out for up to three blocks.
    pub censor: u64,
    /// Feerates rise at once by a factor of up to eight for some blocks.
    pub spike: u64,
}

impl Faults {
    /// Every kind by its name, for who leaves kinds out.
    pub fn kinds(&mut self) -> [(&'static str, &mut u64); 15] {
        [
            ("crash", &mut self.crash),
            ("disconnect", &mut self.disconnect),
            ("reorg", &mut self.reorg),
            ("delay", &mut self.delay),
            ("commit", &mut self.commit),
            ("block_delay", &mut self.block_delay),
            ("answer", &mut self.answer),
            ("stall", &mut self.stall),
            ("race", &mut self.race),
            ("failing_commit", &mut self.failing_commit),
            ("absent", &mut self.absent),
            ("evict", &mut self.evict),
            ("empty_block", &mut self.empty_block),
            ("censor", &mut self.censor),
            ("spike", &mut self.spike),
        ]
    }
}

/// The whole plan of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// Their channels.
    pub channels: Vec<ChannelPlan>,
    /// Their payments.
    pub payments: Vec<PaymentPlan>,
    /// What goes wrong while channels are opened and payments made.
    pub faults: Faults,
    /// Whether faults begin with the opens, or only with the payments.
    pub faults_at_open: bool,
    /// Milliseconds between blocks.
    pub block_interval: u64,
    /// `to_self_delay` that everybody asks for.
    pub to_self_delay: u16,
    /// When channels are closed by force in the middle of the payments: milliseconds after these begin.
    pub close_in_flight: Option<u64>,
    /// When channels are chosen that are closed together in the middle of the payments, as soon as they hold
    /// HTLCs: milliseconds after these begin.
    #[serde(default)]
    pub close_together: Option<u64>,
    /// Whether faults go on while channels are closed.
    pub faults_at_close: bool,
    /// How often feerates change, in thousandths per block.
    pub feerate_change: u64,
    /// Feerates in sat per 1000 weight units: background, normal, urgent.
    pub feerates: [u32; 3],
    /// Whether miners leave out what pays less than the background feerate.
    pub fee_market: bool,
    /// Whether feerates rise for good while what was closed by force is claimed.
    #[serde(default)]
    pub market_rises: bool,
    /// `cltv_expiry_delta` that everybody asks for.
    pub cltv_expiry_delta: u16,
    /// What nodes allow.
    #[serde(default)]
    pub limits: Limits,
    /// Whether a restart is compared with the running node after every batch, not after some.
    pub compare_always: bool,
    /// The host that is no ordinary one.
    pub villain: Option<Villain>,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        Self::draw_from(seed, &mut Rng::new(seed))
    }

    /// The plan that a stream of chance gives, under the name of a seed.
    pub fn draw_from(seed: u64, rng: &mut Rng) -> Self {
        let nodes = match rng.below(10) {
            0..4 => 2,
            4..7 => 3,
            7..9 => 4,
            _ => usize::try_from(rng.between(5, 9)).unwrap_or(5),
        };
        let channels = draw_channels(rng, nodes);
        let mut plan = Self {
            seed,
            nodes,
            payments: draw_payments(rng, nodes),
            channels,
            faults: draw_faults(rng),
            faults_at_open: rng.chance(500),
            block_interval: rng.between(2_000, 20_000),
            to_self_delay: u16::try_from(rng.between(6, 30)).unwrap_or(6),
            close_in_flight: rng.chance(500).then(|| rng.below(30_000)),
            close_together: None,
            faults_at_close: rng.chance(500),
            feerate_change: if rng.chance(500) { 300 } else { 0 },
            feerates: [253, 500, 1_000],
            fee_market: false,
            market_rises: false,
            cltv_expiry_delta: u16::try_from(rng.between(34, 80)).unwrap_or(34),
            limits: Limits::default(),
            compare_always: rng.chance(20),
            villain: None,
        };
        if rng.chance(300) {
            let scale = u32::try_from(rng.between(2, 10)).unwrap_or(2);
            plan.feerates = plan.feerates.map(|rate| rate * scale);
        }
        // Without anchors a commitment's fee can't be raised afterwards.
        plan.fee_market = plan.channels.iter().all(|c| c.anchors) && rng.chance(500);
        if plan.fee_market {
            // Spikes pass; what rises for good leaves mutual closes behind.
            plan.feerate_change = 0;
        }
        plan.villain = draw_villain(rng, &plan);
        if plan.villain.is_some() {
            // Time enough for the budget: an outage, a reorganisation, empty blocks and censorship.
            plan.to_self_delay = plan.to_self_delay.max(18);
        }
        draw_haste(rng, &mut plan);
        draw_rises(rng, &mut plan);
        plan.close_together = rng.chance(300).then(|| rng.below(30_000));
        draw_features(rng, &mut plan);
        plan
    }

    /// The plan as text.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan is numbers and lists of numbers")
    }

    /// The plan of a text.
    ///
    /// # Errors
    /// The text is no plan, or its numbers don't fit each other.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let is_host = |host: &usize| *host < plan.nodes;
        let hosts = plan
            .channels
            .iter()
            .flat_map(|c| [Some(c.from), Some(c.to), c.force_close])
            .chain(
                plan.payments
                    .iter()
                    .flat_map(|p| [Some(p.from), Some(p.to), p.again]),
            )
            .chain([plan.villain.map(|v| v.host)])
            .flatten();
        if plan.nodes < 2 || !hosts.into_iter().all(|host| is_host(&host)) {
            return Err("the plan names hosts that it does not have".into());
        }
        Ok(plan)
    }
}

fn draw_villain(rng: &mut Rng, plan: &Plan) -> Option<Villain> {
    let draw = rng.below(1_000);
    let blocks = rng.between(3, 60);
    let blocks = u32::try_from(blocks).unwrap_or(3);
    let trick = match draw {
        0..400 => return None,
        400..550 => Trick::Revoked,
        550..600 => Trick::Cycler {
            permille: rng.between(300, 900),
            blocks: 40 + blocks,
            most: most_cycles(),
        },
        600..700 => Trick::Silent {
            blocks: rng.chance(600).then_some(blocks),
            closes: rng.chance(500).then_some(blocks / 6),
        },
        700..800 => Trick::Mutator {
            permille: rng.between(1, 60),
        },
        800..850 => Trick::Liar,
        850..900 => Trick::Flooder,
        900..940 => Trick::OldBackup,
        940..970 => Trick::LongOutage {
            blocks: 40 + blocks,
        },
        _ => Trick::AbsentSigner {
            blocks: 40 + blocks,
        },
    };
    let last = plan.payments.iter().map(|p| p.at).max().unwrap_or(0);
    Some(Villain {
        host: rng.index(plan.nodes),
        at: rng.between(last / 5, last + 2_000),
        trick,
    })
}

/// Payers who have little time and pay all at once: HTLCs wait for signatures that others wait for, and the time of a
/// payment is over while its node is down.
fn draw_haste(rng: &mut Rng, plan: &mut Plan) {
    if !rng.chance(300) {
        return;
    }
    let burst = rng.index(8) + 1;
    for payments in plan.payments.chunks_mut(burst) {
        let at = payments.iter().map(|p| p.at).min().unwrap_or(0);
        for payment in payments {
            payment.at = at;
            if rng.chance(700) {
                payment.timeout_secs = u32::try_from(rng.between(1, 8)).ok();
            }
        }
    }
}

/// A closing transaction that both have signed stays behind when feerates rise for good; so all are by force.
fn draw_rises(rng: &mut Rng, plan: &mut Plan) {
    if !plan.fee_market || !rng.chance(400) {
        return;
    }
    plan.market_rises = true;
    for channel in &mut plan.channels {
        let closer = if rng.chance(500) {
            channel.from
        } else {
            channel.to
        };
        channel.force_close = channel.force_close.or(Some(closer));
    }
}

/// What is off in most runs, or tight in some.
fn draw_features(rng: &mut Rng, plan: &mut Plan) {
    if rng.chance(200) {
        for channel in &mut plan.channels {
            channel.private = rng.chance(500);
            channel.alias = channel.private && rng.chance(500);
        }
    }
    let limits = &mut plan.limits;
    let small = |number: u64| u16::try_from(number).unwrap_or(1);
    if rng.chance(200) {
        limits.htlcs = small(rng.between(1, 12));
    }
    if rng.chance(100) {
        limits.in_flight_percent = u8::try_from(rng.between(5, 60)).unwrap_or(60);
    }
    if rng.chance(100) {
        limits.dust_sat = rng.between(354, 3_000);
    }
    if rng.chance(100) {
        limits.dust_exposure_sat = rng.between(1_000, 20_000);
    }
    let is_paid_twice = plan.payments.iter().any(|p| p.again.is_some());
    if !is_paid_twice && rng.chance(600) {
        limits.parts = small(rng.between(2, 10));
        // More than one channel can hold.
        for payment in &mut plan.payments {
            if rng.chance(200) {
                payment.amount_msat = rng.between(200_000_000, 1_500_000_000);
            }
        }
    }
}

fn draw_channels(rng: &mut Rng, nodes: usize) -> Vec<ChannelPlan> {
    let line = rng.chance(600);
    let mut pairs: Vec<(usize, usize)> = (1..nodes)
        .map(|to| (if line { to - 1 } else { rng.index(to) }, to))
        .collect();
    let more = rng.below(3);
    for _ in 0..more {
        let from = rng.index(nodes);
        let to = (from + 1 + rng.index(nodes - 1)) % nodes;
        pairs.push((from, to));
    }
    let types = rng.below(3);
    let forces = rng.chance(400);
    pairs
        .into_iter()
        .map(|(a, b)| {
            let (from, to) = if rng.chance(500) { (a, b) } else { (b, a) };
            let amount_sat = rng.between(200_000, 2_000_000);
            let anchors = match types {
                0 => true,
                1 => false,
                _ => rng.chance(500),
            };
            let closer = if rng.chance(500) { from } else { to };
            ChannelPlan {
                from,
                to,
                amount_sat,
                push_sat: amount_sat * rng.between(20, 60) / 100,
                anchors,
                force_close: (forces && rng.chance(500)).then_some(closer),
                private: false,
                alias: false,
            }
        })
        .collect()
}

/// Less than this is not worth splitting.
const NEVER_SPLIT_MSAT: u64 = 1_000_000;

fn draw_payments(rng: &mut Rng, nodes: usize) -> Vec<PaymentPlan> {
    let count = rng.between(10, 60);
    let within = rng.between(1_000, 60_000);
    let mut payments: Vec<PaymentPlan> = (0..count)
        .map(|_| {
            let from = rng.index(nodes);
            let amount_msat = match rng.below(10) {
                // Dust on the commitment.
                0..3 => rng.between(1, 353_000),
                3..9 => rng.between(354_000, 20_000_000),
                // Most of these don't fit.
                _ => rng.between(20_000_000, 1_500_000_000),
            };
            PaymentPlan {
                at: rng.below(within),
                from,
                to: (from + 1 + rng.index(nodes - 1)) % nodes,
                amount_msat,
                amountless: rng.chance(100),
                again: None,
                timeout_secs: None,
            }
        })
        .collect();
    payments.sort_by_key(|payment| payment.at);
    if nodes > 2 && rng.chance(300) {
        for payment in &mut payments {
            let other = rng.index(nodes);
            // Parts of two payers may make up one payment, and both are told that it succeeded: only what is
            // never split is paid twice.
            let small = payment.amount_msat < NEVER_SPLIT_MSAT;
            if rng.chance(400) && small && other != payment.from && other != payment.to {
                payment.again = Some(other);
            }
        }
    }
    payments
}

/// Each kind of fault is left out of some runs: what is rare shows where the others don't cover it.
fn draw_faults(rng: &mut Rng) -> Faults {
    let mut some = |permille: u64, most: u64| {
        let on = rng.chance(permille);
        let value = rng.between(1, most);
        if on { value } else { 0 }
    };
    Faults {
        crash: some(800, 30),
        disconnect: some(700, 30),
        reorg: some(600, 400),
        delay: some(800, 400),
        commit: some(700, 100),
        block_delay: some(700, 3_000),
        outage: 1 + some(900, 20_000),
        answer: some(600, 200),
        stall: some(300, 15),
        race: some(300, 20),
        failing_commit: some(300, 5),
        absent: some(300, 20),
        evict: some(300, 500),
        empty_block: some(300, 400),
        censor: some(300, 300),
        spike: some(200, 100),
    }
}
