//! The scenarios. Each is written once and run for each opener and each channel type.

mod cheat;
mod close;
mod failures;
mod forward;
mod gossip;
mod loss;
mod pay;
mod reconnect;

use anyhow::Result;

use crate::node::ChannelKind;
use crate::world::{AnyNode, Impl, World};

/// One run of a scenario.
pub(crate) struct Case<'a> {
    /// Its chain.
    pub(crate) world: &'a World,
    /// Who opens the channels.
    pub(crate) opener: Impl,
    /// The other implementation.
    pub(crate) peer: Impl,
    /// Whose nodes the scenario calls Fulmen's: LDK's own when LDK is tried against itself.
    pub(crate) fulmen: Impl,
    /// The type of the channels.
    pub(crate) kind: ChannelKind,
}

impl Case<'_> {
    /// Two nodes: the opener and its peer.
    pub(crate) fn pair(&self) -> Result<(AnyNode, AnyNode)> {
        let opener = self.world.node(self.opener, "opener")?;
        let peer = self.world.node(self.peer, "peer")?;
        Ok((opener, peer))
    }

    /// Opens a public channel between two nodes, by the one whose turn it is as the opener.
    pub(crate) fn channel(&self, a: &AnyNode, b: &AnyNode, a_is: Impl) -> Result<()> {
        self.channel_with(a, b, a_is, true)
    }

    /// The same, public or not.
    pub(crate) fn channel_with(
        &self,
        a: &AnyNode,
        b: &AnyNode,
        a_is: Impl,
        public: bool,
    ) -> Result<()> {
        let (from, to) = if a_is == self.opener { (a, b) } else { (b, a) };
        self.world.channel(from, to, self.kind, public)?;
        Ok(())
    }
}

/// A scenario with its name.
pub(crate) struct Scenario {
    /// The name, as on the command line.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    /// The scenario.
    pub(crate) run: fn(&Case<'_>) -> Result<()>,
}

/// Those that stop Fulmen's daemon and touch what it has stored: nothing for LDK against itself.
pub(crate) const OF_FULMEN_ALONE: &[&str] = &["cheat-by-fulmen", "data-loss-of-fulmen"];

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "open",
        about: "open a channel of the asked type and use it",
        run: pay::open,
    },
    Scenario {
        name: "pay-both-ways",
        about: "pay in both directions, one after the other and many at once",
        run: pay::both_ways,
    },
    Scenario {
        name: "mpp-from-ldk",
        about: "LDK splits a payment over two channels",
        run: pay::split,
    },
    Scenario {
        name: "forward-through-ldk",
        about: "Fulmen pays Fulmen through LDK, both ways",
        run: forward::through_ldk,
    },
    Scenario {
        name: "forward-through-fulmen",
        about: "LDK pays LDK through Fulmen, both ways",
        run: forward::through_fulmen,
    },
    Scenario {
        name: "failures-of-fulmen",
        about: "LDK decodes the failure codes of Fulmen as forwarder and as payee",
        run: failures::of_fulmen,
    },
    Scenario {
        name: "failures-of-ldk",
        about: "Fulmen decodes the failure codes of LDK as forwarder and as payee",
        run: failures::of_ldk,
    },
    Scenario {
        name: "reestablish",
        about: "cut the connection with HTLCs in flight, again and again; all end well",
        run: reconnect::with_htlcs,
    },
    Scenario {
        name: "reestablish-held",
        about: "HTLCs wait over a cut; the preimage is given while the peers are apart",
        run: reconnect::with_held_htlcs,
    },
    Scenario {
        name: "close-by-opener",
        about: "close together, begun by the opener",
        run: close::cooperative_by_opener,
    },
    Scenario {
        name: "close-by-peer",
        about: "close together, begun by the opener's peer",
        run: close::cooperative_by_peer,
    },
    Scenario {
        name: "force-close-by-opener",
        about: "the opener's commitment on chain; all outputs swept",
        run: close::forced_by_opener,
    },
    Scenario {
        name: "force-close-by-peer",
        about: "the peer's commitment on chain; all outputs swept",
        run: close::forced_by_peer,
    },
    Scenario {
        name: "force-close-htlcs-by-opener",
        about: "the same with HTLCs: one claimed with its preimage, one timed out",
        run: close::forced_with_htlcs_by_opener,
    },
    Scenario {
        name: "force-close-htlcs-by-peer",
        about: "the same on the other commitment",
        run: close::forced_with_htlcs_by_peer,
    },
    Scenario {
        name: "force-close-forward-by-opener",
        about: "a forward through Fulmen whose incoming channel goes on chain, by its opener",
        run: close::forced_forward_by_opener,
    },
    Scenario {
        name: "force-close-forward-by-peer",
        about: "the same, by the other side",
        run: close::forced_forward_by_peer,
    },
    Scenario {
        name: "cheat-by-ldk",
        about: "an old state of LDK's on chain, HTLCs both ways, one in its second stage; Fulmen takes all",
        run: cheat::by_ldk,
    },
    Scenario {
        name: "cheat-by-fulmen",
        about: "the same with an old state of Fulmen's; LDK takes all",
        run: cheat::by_fulmen,
    },
    Scenario {
        name: "data-loss-of-fulmen",
        about: "Fulmen starts from an old copy: it broadcasts nothing, and has all of its balance",
        run: loss::of_fulmen,
    },
    Scenario {
        name: "gossip",
        about: "learn the graph of strangers from each other",
        run: gossip::learned,
    },
];
