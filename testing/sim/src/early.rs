//! Channels that are closed in the middle of the payments, by force or together, as soon as they hold HTLCs.

use fulmen_types::ChannelId;

use crate::{user::TaskKind, world::World};

/// How a channel is to be closed once it holds HTLCs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EarlyClose {
    by: usize,
    force: bool,
}

impl World {
    /// When the time of the plan has come, so many milliseconds after the payments began.
    pub(crate) fn choose_early_closes(&mut self, lasted: u64) {
        if self.plan.close_in_flight.is_some_and(|at| lasted > at) {
            self.plan.close_in_flight = None;
            for (id, plan) in &self.users.channels {
                if let Some(by) = plan.force_close {
                    self.to_close.insert(*id, EarlyClose { by, force: true });
                }
            }
        }
        if self.plan.close_together.is_some_and(|at| lasted > at) {
            self.plan.close_together = None;
            for (id, plan) in &self.users.channels {
                if plan.force_close.is_none() && self.rng.chance(500) {
                    let ends = [plan.from, plan.to];
                    let by = ends[self.rng.index(2)];
                    self.to_close.insert(*id, EarlyClose { by, force: false });
                }
            }
        }
    }

    /// A channel that is to be closed early holds HTLCs: now, most of the time. After a close by force there is
    /// often no word between its ends for some blocks, so that the chain must tell who gets what; before one together
    /// its HTLCs come to their ends.
    pub(crate) fn close_with_htlcs(&mut self, host: usize, channel_id: ChannelId) {
        if !self.rng.chance(300) {
            return;
        }
        let (Some(EarlyClose { by, force }), Some(plan)) = (
            self.to_close.remove(&channel_id),
            self.users.channels.get(&channel_id).copied(),
        ) else {
            return;
        };
        let how = if force { "by force" } else { "together" };
        self.say(format!(
            "n{host} has HTLCs in {channel_id}: n{by} closes it {how}"
        ));
        if force {
            self.forced.insert(channel_id);
        } else {
            self.closed_early.insert(channel_id);
        }
        self.want(
            0,
            TaskKind::Close {
                channel_id,
                by,
                force,
            },
        );
        if force && self.rng.chance(600) {
            let silence = self.rng.between(1, 8) * self.block_interval();
            for pair in [(plan.from, plan.to), (plan.to, plan.from)] {
                self.parted.insert(pair, self.now + silence);
            }
            self.cut_between(plan.from, plan.to);
        }
    }
}
