//! Answers to commands, kept so that asking twice does it once.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use fulmen_types::{
    Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, decode_text, encode_text},
    record::{RecordKey, Space, WriteBatch},
};

use crate::{command::Reply, input::CommandId};

/// How long an answer is kept.
const KEPT_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// The most answers that are kept: the oldest go first.
const KEPT_MAX: usize = 10_000;
const VERSION: u8 = 1;

/// Commands of the last day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies {
    /// `None` while the command is being worked on.
    known: BTreeMap<CommandId, Option<(Timestamp, Reply)>>,
    by_age: BTreeMap<(Timestamp, CommandId), ()>,
}

impl Replies {
    /// The answer to a command that was given before; `Some(None)` while it is being worked on.
    pub(crate) fn get(&self, id: &CommandId) -> Option<Option<&Reply>> {
        self.known
            .get(id)
            .map(|reply| reply.as_ref().map(|(_, reply)| reply))
    }

    pub(crate) fn begin(&mut self, id: CommandId) {
        self.known.insert(id, None);
    }

    /// A refused command may be given again: it changed nothing.
    pub(crate) fn end(
        &mut self,
        now: Timestamp,
        id: CommandId,
        reply: Option<&Reply>,
        batch: &mut WriteBatch,
    ) {
        let Some(reply) = reply else {
            self.known.remove(&id);
            return;
        };
        self.keep(now, id, reply.clone());
        put(id, now, reply, batch);
        while let Some(((at, old), ())) = self.by_age.first_key_value()
            && (self.by_age.len() > KEPT_MAX || now.millis_since(*at) > KEPT_MILLIS)
        {
            let (at, old) = (*at, *old);
            self.by_age.remove(&(at, old));
            self.known.remove(&old);
            batch.delete(key(old));
        }
    }

    fn keep(&mut self, at: Timestamp, id: CommandId, reply: Reply) {
        self.known.insert(id, Some((at, reply)));
        self.by_age.insert((at, id), ());
    }

    /// Adds the records of all answers that are on disk.
    pub(crate) fn write(&self, batch: &mut WriteBatch) {
        for (id, reply) in &self.known {
            if let Some((at, reply)) = reply {
                put(*id, *at, reply, batch);
            }
        }
    }

    pub(crate) fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let id = CommandId(<[u8; 16]>::from_bytes(key)?);
        let mut r = Reader::new(value);
        if u8::decode(&mut r)? != VERSION {
            return Err(DecodeError::InvalidValue(
                "command record of a newer version",
            ));
        }
        let at = Timestamp::decode(&mut r)?;
        let reply = Reply::decode(&mut r)?;
        r.finish()?;
        self.keep(at, id, reply);
        Ok(())
    }
}

fn key(id: CommandId) -> RecordKey {
    RecordKey::new(Space::Command, id.0)
}

/// Writes an answer that must be durable.
fn put(id: CommandId, at: Timestamp, reply: &Reply, batch: &mut WriteBatch) {
    if must_be_durable(reply) {
        let mut value = alloc::vec![VERSION];
        at.encode(&mut value);
        reply.encode(&mut value);
        batch.put(key(id), value);
    }
}

/// Whether doing it again would do something twice: a payment that has failed since would be tried anew.
const fn must_be_durable(reply: &Reply) -> bool {
    match reply {
        Reply::ChannelOpening { .. } | Reply::Invoice { .. } | Reply::Payment { .. } => true,
        Reply::Done => false,
    }
}

impl Encode for Reply {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done => out.push(0),
            Self::ChannelOpening {
                channel_id,
                funding,
            } => {
                out.push(1);
                channel_id.encode(out);
                funding.encode(out);
            }
            Self::Invoice {
                invoice,
                payment_hash,
            } => {
                out.push(2);
                encode_text(invoice, out);
                payment_hash.encode(out);
            }
            Self::Payment {
                payment_hash,
                ended,
            } => {
                out.push(3);
                payment_hash.encode(out);
                ended.clone().map(fulmen_types::codec::U16Bytes).encode(out);
            }
        }
    }
}

impl Decode for Reply {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(r)? {
            0 => Self::Done,
            1 => Self::ChannelOpening {
                channel_id: Decode::decode(r)?,
                funding: Decode::decode(r)?,
            },
            2 => {
                let invoice: String = decode_text(r)?;
                Self::Invoice {
                    invoice,
                    payment_hash: Decode::decode(r)?,
                }
            }
            3 => Self::Payment {
                payment_hash: Decode::decode(r)?,
                ended: Option::<fulmen_types::codec::U16Bytes>::decode(r)?.map(|b| b.0),
            },
            _ => return Err(DecodeError::InvalidValue("reply of a newer version")),
        })
    }
}
