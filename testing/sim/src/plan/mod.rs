//! What a run is like: drawn from its seed before anything happens.

mod draw;

use serde::{Deserialize, Serialize};

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
    /// Who gets to know of it.
    #[serde(default)]
    pub visibility: Visibility,
}

/// Who gets to know of a channel, and by which name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visibility {
    /// Everybody: it is announced.
    #[default]
    Announced,
    /// Its two ends.
    Unannounced,
    /// Its two ends, which call it by its aliases alone (`option_scid_alias` as its type).
    AliasOnly,
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

const fn as_estimated() -> u32 {
    1
}

const fn usual_reorg() -> u32 {
    2
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
    /// A block comes with a reorganisation, as deep as [`Plan::deepest_reorg`] at the most.
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
    /// At a question signer, wallet and router go away for a while.
    pub absent: u64,
    /// Before a block a transaction is dropped from the mempool.
    pub evict: u64,
    /// A block is empty; never more than two in a row.
    pub empty_block: u64,
    /// Before a block the miners agree to leave a transaction out for up to three blocks.
    pub censor: u64,
    /// Feerates rise at once by a factor of up to eight for some blocks.
    pub spike: u64,
    /// How far clocks are ahead at the most, another time after each start, in milliseconds.
    pub clock: u64,
}

impl Faults {
    /// Every kind by its name, for who leaves kinds out.
    pub fn kinds(&mut self) -> [(&'static str, &mut u64); 16] {
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
            ("clock", &mut self.clock),
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
    /// How many times the background feerate they ask for as long as there are payments, whatever estimates say.
    #[serde(default = "as_estimated")]
    pub miners_ask: u32,
    /// Whether feerates rise for good while what was closed by force is claimed.
    #[serde(default)]
    pub market_rises: bool,
    /// How many blocks a reorganisation replaces at the most.
    #[serde(default = "usual_reorg")]
    pub deepest_reorg: u32,
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
