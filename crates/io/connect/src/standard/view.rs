//! What the policy knows, for people; and what it forgets.

use fulmen_types::Timestamp;

use super::{Peer, Stage, StandardPolicy};
use crate::policy::{BanView, ConnId, PeerState, PeerView, View};

impl StandardPolicy {
    pub(super) fn look(&self, now: Timestamp) -> View {
        let peers = self.peers.iter().map(|(peer, entry)| PeerView {
            peer: *peer,
            has_channel: entry.has_channel,
            state: self.state_of(peer, entry),
            failures: entry.failures,
            last_error: entry.last_error.clone(),
            score: self.scores.of_peer(now, peer),
            addresses: entry.addresses(),
        });
        let by_user = self.bans.iter().map(|(peer, until)| BanView {
            peer: *peer,
            until: *until,
            by_user: true,
        });
        let by_score = self
            .scores
            .banned(now)
            .filter(|(peer, _)| !self.has_channel(peer) && !self.bans.contains_key(peer))
            .map(|(peer, until)| BanView {
                peer,
                until,
                by_user: false,
            });
        View {
            peers: peers.collect(),
            bans: by_user.chain(by_score).collect(),
        }
    }

    fn state_of(&self, peer: &fulmen_types::NodeId, entry: &Peer) -> PeerState {
        if let Some((id, conn)) = self.live_of(peer) {
            let direction = ConnId::direction(*id);
            let since = conn.since;
            return PeerState::Connected { direction, since };
        }
        if self.dial_of(peer).is_some() {
            return PeerState::Dialling;
        }
        match entry {
            Peer { wish: Some(at), .. } => PeerState::Waiting { until: *at },
            Peer { resting: true, .. } => PeerState::Resting,
            Peer {
                has_channel: true,
                not_before,
                ..
            } => PeerState::Waiting { until: *not_before },
            Peer { .. } => PeerState::Idle,
        }
    }

    /// Forgets peers that nothing hangs on, the longest unseen first.
    pub(super) fn forget(&mut self) {
        if self.peers.len() <= self.config.max_known {
            return;
        }
        let busy: std::collections::BTreeSet<_> = self
            .conns
            .values()
            .filter_map(|conn| match conn.stage {
                Stage::Live { peer, .. } | Stage::Dial { peer, .. } => Some(peer),
                Stage::Handshake => None,
            })
            .collect();
        let mut idle: Vec<_> = self
            .peers
            .iter()
            .filter(|(peer, p)| !p.has_channel && p.wish.is_none() && !busy.contains(*peer))
            // What a user said counts for more than who was seen when; who was never reached, for least.
            .map(|(peer, p)| (p.resting, !p.worked.is_empty(), p.last_good, *peer))
            .collect();
        let surplus = idle.len().saturating_sub(self.config.max_known);
        if surplus == 0 {
            return;
        }
        idle.sort_unstable();
        for (.., peer) in idle.into_iter().take(surplus) {
            self.peers.remove(&peer);
        }
    }
}
