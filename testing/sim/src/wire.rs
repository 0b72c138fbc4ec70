//! What happens on connections.

use std::collections::VecDeque;

use bitcoin::secp256k1::PublicKey;
use fulmen_node::{ConnEpoch, Direction, DisconnectReason, Input, PeerAddress};
use fulmen_wire::Message;

use crate::{
    net::{Connection, Item},
    world::{Happening, World},
};

/// More than any commit takes, in milliseconds.
const LONGEST_COMMIT: u64 = 1_000;

impl World {
    /// A host dials another.
    pub(crate) fn dial(&mut self, from: usize, to: usize) {
        if self.hosts[from].node.is_none() {
            return;
        }
        let peer = self.hosts[to].id;
        if self.hosts[from].connections.contains_key(&peer) {
            return;
        }
        self.connect(from, to);
    }

    /// The same, whether they are connected or not.
    pub(crate) fn connect(&mut self, from: usize, to: usize) {
        if self.hosts[from].node.is_none() {
            return;
        }
        let peer = self.hosts[to].id;
        let is_parted = self.is_hidden(from)
            || self.is_hidden(to)
            || self
                .parted
                .get(&(from, to))
                .is_some_and(|until| self.now < *until);
        if is_parted || self.hosts[to].node.is_none() {
            self.feed(
                from,
                Input::ConnectFailed {
                    peer,
                    reason: "nobody answers".into(),
                },
            );
            return self.redial(from, peer);
        }
        self.last_connection += 1;
        let id = self.last_connection;
        let connection = Connection {
            ends: [from, to],
            boots: [self.hosts[from].boot, self.hosts[to].boot],
            to: [VecDeque::new(), VecDeque::new()],
            last: [self.now, self.now],
            open: true,
        };
        self.connections.insert(id, connection);
        self.put(id, 0, Item::Connected);
        self.put(id, 1, Item::Connected);
    }

    fn redial(&mut self, from: usize, peer: PublicKey) {
        if self.hosts[from].keep.contains(&peer)
            && let Some(to) = self.host_of(&peer)
        {
            let pause = self.rng.between(200, 2_000);
            self.after(pause, Happening::Dial { from, to });
        }
    }

    /// Puts something on its way to a side, after what is on its way already.
    fn put(&mut self, id: u64, side: usize, item: Item) {
        let delay = 1 + self.delay(self.faults.delay);
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let at = (now + delay).max(connection.last[side]);
        connection.last[side] = at;
        connection.to[side].push_back(item);
        self.at(
            at,
            Happening::Deliver {
                connection: id,
                side,
            },
        );
    }

    pub(crate) fn put_on_wire(&mut self, id: u64, from: usize, bytes: Vec<u8>) {
        let Some(connection) = self.connections.get(&id).filter(|c| c.open) else {
            return;
        };
        let side = 1 - connection.side_of(from);
        let to = connection.ends[side];
        if self.faults.stall > 0 && self.rng.chance(self.faults.stall) {
            let until = self.now + self.rng.between(500, 2 * self.block_interval());
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.last[side] = connection.last[side].max(until);
            }
            self.stats.stalls += 1;
            self.say(format!("#{id} stalls from n{from} to n{to}"));
        }
        for bytes in self.twist(from, to, bytes) {
            self.put(id, side, Item::Message(bytes));
        }
    }

    /// What is under way arrives, in its order.
    pub(crate) fn end_stalls(&mut self) {
        let now = self.now;
        let mut arriving = Vec::new();
        for (id, connection) in &mut self.connections {
            for side in 0..2 {
                if connection.last[side] > now + self.faults.delay {
                    connection.last[side] = now;
                    arriving.extend(connection.to[side].iter().map(|_| (*id, side)));
                }
            }
        }
        for (connection, side) in arriving {
            // The later delivery that was arranged for it finds nothing.
            self.after(1, Happening::Deliver { connection, side });
        }
    }

    /// The next item arrives.
    pub(crate) fn deliver(&mut self, id: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(item) = connection.to[side].pop_front() else {
            return;
        };
        let host = connection.ends[side];
        let other = connection.ends[1 - side];
        let boot = connection.boots[side];
        if !connection.open && connection.to.iter().all(VecDeque::is_empty) {
            self.connections.remove(&id);
        }
        if !self.is_boot(host, boot) {
            return;
        }
        let peer = self.hosts[other].id;
        let epoch = ConnEpoch(id);
        match item {
            Item::Connected => {
                // A newer one came first: the driver keeps that.
                if self.hosts[host]
                    .connections
                    .get(&peer)
                    .is_some_and(|known| *known > id)
                {
                    return;
                }
                self.hosts[host].connections.insert(peer, id);
                self.say(format!("n{host} - n{other} #{id} connected"));
                self.last_unrest = self.now;
                let (direction, address) = if side == 0 {
                    let address = PeerAddress(format!("n{other}:9735"));
                    (Direction::Outbound, Some(address))
                } else {
                    (Direction::Inbound, None)
                };
                self.feed(
                    host,
                    Input::PeerConnected {
                        peer,
                        epoch,
                        direction,
                        address,
                    },
                );
            }
            Item::Message(bytes) => {
                if self.hosts[host].connections.get(&peer) != Some(&id) {
                    return;
                }
                let message = match Message::decode(&bytes) {
                    Ok(message) => message,
                    Err(error) => {
                        self.blame(other, format!("n{host} can't read n{other}: {error:?}"));
                        return self.cut(id);
                    }
                };
                self.stats.messages += 1;
                self.say(format!("n{host} < n{other} #{id} {}", message.name()));
                self.cover_message(host, &message);
                self.feed(
                    host,
                    Input::PeerMessage {
                        peer,
                        epoch,
                        message,
                    },
                );
                if self.faults.disconnect > 0 && self.rng.chance(self.faults.disconnect) {
                    self.stats.disconnects += 1;
                    self.say(format!("#{id} between n{host} and n{other} breaks"));
                    self.cut(id);
                } else if self.faults.race > 0 && self.rng.chance(self.faults.race) {
                    self.stats.races += 1;
                    self.connect(host, other);
                    if self.rng.chance(500) {
                        self.connect(other, host);
                    }
                }
            }
            Item::Disconnected => {
                if self.hosts[host].connections.get(&peer) != Some(&id) {
                    return;
                }
                self.hosts[host].connections.remove(&peer);
                self.hosts[host].outbox.disconnected(peer, epoch);
                self.say(format!("n{host} - n{other} #{id} disconnected"));
                self.feed(host, Input::PeerDisconnected { peer, epoch });
                self.redial(host, peer);
            }
        }
    }

    /// A connection breaks: a prefix of what is under way may still arrive at each side.
    pub(crate) fn cut(&mut self, id: u64) {
        for side in 0..2 {
            let kept = self.rng.chance(300);
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            connection.open = false;
            let len = connection.to[side].len();
            let keep = if kept { self.rng.index(len + 1) } else { 0 };
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.to[side].truncate(keep);
            }
            self.put(id, side, Item::Disconnected);
        }
    }

    /// Everything of a host breaks: it has crashed.
    pub(crate) fn cut_all(&mut self, host: usize) {
        let ids: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| c.open && c.ends.contains(&host))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.cut(id);
        }
    }

    /// Two hosts don't hear each other any more.
    pub(crate) fn cut_between(&mut self, a: usize, b: usize) {
        let ids: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| c.open && c.ends.contains(&a) && c.ends.contains(&b))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.cut(id);
        }
    }

    /// A node ends a connection: what it said before still arrives.
    pub(crate) fn node_disconnects(
        &mut self,
        host: usize,
        peer: PublicKey,
        epoch: u64,
        reason: &DisconnectReason,
    ) {
        match reason {
            DisconnectReason::ProtocolViolation(why) | DisconnectReason::Incompatible(why) => {
                let other = self.host_of(&peer);
                // Some feerates are refused rightly; the end of the connection waits for the disk.
                let is_excused = self.hosts[host]
                    .feerate_refused
                    .is_some_and(|at| self.now < at + LONGEST_COMMIT);
                if !other.is_some_and(|other| self.is_villain(other)) && !is_excused {
                    self.blame(
                        host,
                        format!("n{host} finds fault with an honest peer: {why}"),
                    );
                }
            }
            DisconnectReason::Timeout
            | DisconnectReason::ChannelReset
            | DisconnectReason::Requested
            | DisconnectReason::Replaced => {}
        }
        if self.hosts[host].connections.get(&peer) == Some(&epoch) {
            self.hosts[host].connections.remove(&peer);
        }
        self.hosts[host].outbox.disconnected(peer, ConnEpoch(epoch));
        if let Some(connection) = self.connections.get_mut(&epoch)
            && connection.open
        {
            connection.open = false;
            let side = connection.side_of(host);
            connection.to[side].clear();
            self.put(epoch, 1 - side, Item::Disconnected);
        }
        self.redial(host, peer);
    }
}
