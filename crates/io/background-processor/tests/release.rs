//! The rules of release, one by one (`design-rules`, rules 2 to 4 and 10 to 12).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Mood, Step, TestSigner, channel, init, key, lane, scope, text, unsigned};
use fulmen_background_processor::{Released, Releaser, RunAhead, SigningJob};
use fulmen_node::{
    ActionKind, ConnEpoch, DisconnectReason, Effects, Input, NoteLevel, ReleaseClass, Scope,
};
use fulmen_signer::{OutMessage, Signer};
use fulmen_types::Timestamp;
use fulmen_wire::Message;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn note(text: &str) -> ActionKind {
    ActionKind::Note {
        level: NoteLevel::Info,
        text: text.to_owned(),
    }
}

fn disconnect(peer: u8, epoch: u64) -> ActionKind {
    let reason = DisconnectReason::Requested;
    ActionKind::Disconnect {
        peer: key(peer),
        epoch: ConnEpoch(epoch),
        reason,
    }
}

/// What comes out, in words; signing jobs are put aside.
struct Driven {
    releaser: Releaser,
    jobs: Vec<SigningJob>,
    /// What the node is told.
    refused: Vec<Input>,
}

impl Driven {
    fn new() -> Self {
        Self::with(Releaser::new(RunAhead::default()))
    }

    fn with(releaser: Releaser) -> Self {
        Self {
            releaser,
            jobs: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Connected with peer 1 in epoch 1, `init` sent.
    fn connected() -> Self {
        let mut driven = Self::new();
        driven.releaser.connected(key(1), ConnEpoch(1));
        let said = driven.push(Step::new(1).send(lane(1, 1, None), init()).done());
        assert_eq!(said, ["init"]);
        driven
    }

    fn push(&mut self, effects: Effects) -> Vec<String> {
        let has_batch = !effects.batch.is_empty();
        assert_eq!(self.releaser.push(NOW, effects).is_some(), has_batch);
        self.drain()
    }

    fn committed(&mut self, seq: u64) -> Vec<String> {
        self.releaser.committed(seq);
        self.drain()
    }

    fn sign(&mut self, signer: &dyn Signer) -> Vec<String> {
        for job in std::mem::take(&mut self.jobs) {
            self.refused.extend(self.releaser.signed(job.run(signer)));
        }
        self.drain()
    }

    fn drain(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(released) = self.releaser.pop() {
            match released {
                Released::Send { message, .. } => said.push(describe(&message)),
                Released::Sign(job) => self.jobs.push(job),
                Released::Disconnect { .. } => said.push("disconnect".to_owned()),
                Released::Do(ActionKind::Note { text, .. }) => said.push(text),
                Released::Do(other) => panic!("{other:?}"),
            }
        }
        said
    }
}

fn describe(message: &Message) -> String {
    match message {
        Message::Warning(warning) => warning.text().to_string(),
        other => other.name().to_owned(),
    }
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn nothing_that_must_be_durable_leaves_before_it_is() {
    let mut d = Driven::new();
    let step = Step::new(1)
        .stored()
        .act(ReleaseClass::All, note("all"))
        .act(ReleaseClass::Primary, note("primary"))
        .act(ReleaseClass::Now, note("now"));
    assert_eq!(d.push(step.done()), ["now"]);
    assert_eq!(d.committed(1), ["primary", "all"]);
    assert!(d.releaser.is_idle());
}

#[test]
fn a_mandatory_replica_holds_up_only_what_all_must_have() {
    let mut d = Driven::with(Releaser::with_replicas(RunAhead::default()));
    let step = Step::new(1)
        .stored()
        .act(ReleaseClass::All, note("all"))
        .act(ReleaseClass::Primary, note("primary"));
    assert_eq!(d.push(step.done()), none());
    assert_eq!(d.committed(1), ["primary"]);
    d.releaser.replicated(1);
    assert_eq!(d.drain(), ["all"]);
    // A replica that is ahead of the primary releases nothing by itself.
    d.push(
        Step::new(2)
            .stored()
            .act(ReleaseClass::All, note("two"))
            .done(),
    );
    d.releaser.replicated(2);
    assert_eq!(d.drain(), none());
    assert_eq!(d.committed(2), ["two"]);
}

#[test]
fn later_batches_wait_for_earlier_ones() {
    let mut d = Driven::new();
    for seq in 1..=3 {
        let step = Step::new(seq).scope(scope(1)).stored();
        d.push(step.act(ReleaseClass::All, note(&seq.to_string())).done());
    }
    assert_eq!(d.committed(2), ["1", "2"]);
    assert_eq!(d.committed(3), ["3"]);
}

#[test]
fn an_empty_batch_waits_for_the_last_of_its_scopes() {
    let mut d = Driven::new();
    d.push(Step::new(1).scope(scope(1)).stored().done());
    d.push(Step::new(2).scope(scope(2)).stored().done());
    let free = Step::new(3)
        .scope(Scope::Node)
        .act(ReleaseClass::All, note("unrelated"));
    assert_eq!(d.push(free.done()), ["unrelated"]);
    let one = Step::new(4)
        .scope(scope(1))
        .act(ReleaseClass::All, note("one"));
    assert_eq!(d.push(one.done()), none());
    let two = Step::new(5)
        .scope(scope(1))
        .scope(scope(2))
        .act(ReleaseClass::All, note("two"));
    assert_eq!(d.push(two.done()), none());
    // A step that does not say what it touched waits for everything.
    assert_eq!(
        d.push(Step::new(6).act(ReleaseClass::All, note("any")).done()),
        none()
    );
    assert_eq!(d.committed(1), ["one"]);
    assert_eq!(d.committed(2), ["two", "any"]);
}

#[test]
fn init_goes_first_whatever_else_is_ready() {
    let mut d = Driven::new();
    d.releaser.connected(key(1), ConnEpoch(1));
    assert_eq!(
        d.push(Step::new(1).send(lane(1, 1, Some(1)), text("early")).done()),
        none()
    );
    let step = Step::new(2).stored().send(lane(1, 1, None), init());
    assert_eq!(d.push(step.done()), none());
    assert_eq!(d.committed(2), ["init", "early"]);
}

#[test]
fn a_lane_keeps_its_order_and_blocks_no_other() {
    let mut d = Driven::connected();
    let step = Step::new(2).stored().send(lane(1, 1, Some(1)), text("a1"));
    d.push(step.done());
    // Ready by itself, but behind what waits in its lane.
    let step = Step::new(3)
        .scope(scope(7))
        .send(lane(1, 1, Some(1)), text("a2"))
        .send(lane(1, 1, Some(2)), text("b1"));
    assert_eq!(d.push(step.done()), ["b1"]);
    assert_eq!(d.committed(2), ["a1", "a2"]);
}

#[test]
fn the_signer_sees_nothing_that_is_not_durable_and_keeps_the_lane_order() {
    let signer = TestSigner::new(Mood::Signs);
    let mut d = Driven::connected();
    let step = Step::new(2)
        .stored()
        .send(lane(1, 1, Some(1)), unsigned(1, 5))
        .send(lane(1, 1, Some(1)), text("after 5"))
        .send(lane(1, 1, Some(1)), unsigned(1, 6));
    d.push(step.done());
    d.push(
        Step::new(3)
            .stored()
            .send(lane(1, 1, Some(1)), unsigned(1, 7))
            .done(),
    );
    assert!(d.jobs.is_empty(), "nothing is durable");
    assert_eq!(d.committed(2), none());
    assert_eq!(d.jobs.len(), 1);
    // While the signer works, what becomes durable waits for its turn, and other lanes go on.
    let step = Step::new(4)
        .scope(scope(3))
        .send(lane(1, 1, Some(2)), text("b"));
    assert_eq!(d.push(step.done()), ["b"]);
    assert_eq!(d.committed(3), none());
    assert_eq!(d.jobs.len(), 1, "one job per lane at a time");
    assert_eq!(
        d.sign(&*signer),
        ["commitment_signed", "after 5", "commitment_signed"]
    );
    assert_eq!(d.sign(&*signer), ["commitment_signed"]);
    assert_eq!(*signer.asked.lock().unwrap(), [5, 6, 7]);
    assert!(d.releaser.is_idle());
}

#[test]
fn an_unavailable_signer_is_asked_again() {
    let signer = TestSigner::new(Mood::IsAway);
    let mut d = Driven::connected();
    let step = Step::new(2)
        .send(lane(1, 1, Some(1)), text("before"))
        .send(lane(1, 1, Some(1)), unsigned(1, 5))
        .send(lane(1, 1, Some(1)), text("after"));
    assert_eq!(d.push(step.done()), ["before"]);
    assert_eq!(d.sign(&*signer), none());
    assert!(d.jobs.is_empty(), "not before it is told to");
    *signer.mood.lock().unwrap() = Mood::Signs;
    d.releaser.retry_signing();
    assert_eq!(d.drain(), none());
    assert_eq!(d.sign(&*signer), ["commitment_signed", "after"]);
}

#[test]
fn a_refusal_ends_the_lane_and_no_other() {
    let signer = TestSigner::new(Mood::Refuses);
    let mut d = Driven::connected();
    let step = Step::new(2)
        .send(lane(1, 1, Some(1)), unsigned(1, 5))
        .send(lane(1, 1, Some(1)), text("never"));
    d.push(step.done());
    assert_eq!(d.sign(&*signer), none());
    let step = Step::new(3)
        .send(lane(1, 1, Some(1)), text("never either"))
        .send(lane(1, 1, Some(2)), text("other"));
    assert_eq!(d.push(step.done()), ["other"]);
    // The node hears what was refused, and that it was never signed.
    let refused = |d: &mut Driven| match d.refused.pop() {
        Some(Input::SigningRefused { lane, refused }) => {
            (lane.epoch, refused.message.name(), refused.may_be_signed)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut d), (ConnEpoch(1), "commitment_signed", false));
    d.releaser.retry_signing();
    assert_eq!(d.sign(&*signer), none());
    assert!(d.refused.is_empty(), "nobody asks again");
    // Of the last words of a channel an error must arrive.
    let step = Step::new(4).send(lane(1, 1, Some(1)), error(1));
    assert_eq!(d.push(step.done()), ["error"]);
    // On a new connection the lane is new.
    d.releaser.disconnected(key(1), ConnEpoch(1));
    d.releaser.connected(key(1), ConnEpoch(2));
    let step = Step::new(5)
        .send(lane(1, 2, None), init())
        .send(lane(1, 2, Some(1)), text("again"));
    assert_eq!(d.push(step.done()), ["init", "again"]);

    // After a try without an answer it may be signed. And the node hears of it when the connection is over.
    *signer.mood.lock().unwrap() = Mood::IsAway;
    let step = Step::new(6).send(lane(1, 2, Some(1)), unsigned(1, 6));
    d.push(step.done());
    assert_eq!(d.sign(&*signer), none());
    assert!(d.refused.is_empty(), "who is away has not refused");
    *signer.mood.lock().unwrap() = Mood::Refuses;
    d.releaser.retry_signing();
    d.drain();
    d.releaser.disconnected(key(1), ConnEpoch(2));
    assert_eq!(d.sign(&*signer), none());
    assert_eq!(refused(&mut d), (ConnEpoch(2), "commitment_signed", true));
}

#[test]
fn a_disconnect_drops_what_was_not_sent_for_good() {
    let signer = TestSigner::new(Mood::Signs);
    let mut d = Driven::connected();
    d.push(
        Step::new(2)
            .stored()
            .send(lane(1, 1, Some(1)), text("too late"))
            .done(),
    );
    d.push(
        Step::new(3)
            .scope(scope(9))
            .send(lane(1, 1, Some(2)), unsigned(2, 5))
            .done(),
    );
    d.releaser.disconnected(key(1), ConnEpoch(1));
    assert_eq!(d.committed(2), none());
    // The answer comes after the connection: it causes nothing, on no connection.
    d.releaser.connected(key(1), ConnEpoch(2));
    assert_eq!(d.sign(&*signer), none());
    // Nor does what the node still emits for the old one.
    assert_eq!(
        d.push(Step::new(4).send(lane(1, 1, None), init()).done()),
        none()
    );
    assert!(d.releaser.is_idle());
}

#[test]
fn an_old_connections_end_does_not_touch_the_new_one() {
    let mut d = Driven::connected();
    d.releaser.connected(key(1), ConnEpoch(2));
    d.releaser.disconnected(key(1), ConnEpoch(1));
    assert_eq!(
        d.push(Step::new(2).send(lane(1, 2, None), init()).done()),
        ["init"]
    );
}

#[test]
fn the_last_words_leave_before_the_disconnect() {
    let signer = TestSigner::new(Mood::Signs);
    let mut d = Driven::connected();
    let step = Step::new(2)
        .stored()
        .send(lane(1, 1, Some(1)), unsigned(1, 5))
        .send(lane(1, 1, Some(2)), text("error"))
        .act(ReleaseClass::All, disconnect(1, 1))
        .send(lane(1, 1, Some(2)), text("after the end"));
    assert_eq!(d.push(step.done()), none());
    assert_eq!(d.committed(2), ["error"]);
    assert_eq!(d.sign(&*signer), ["commitment_signed", "disconnect"]);
    assert!(d.releaser.is_idle());
}

#[test]
fn a_disconnect_does_not_wait_for_ever() {
    let mut d = Driven::connected();
    let step = Step::new(2)
        .send(lane(1, 1, Some(1)), unsigned(1, 5))
        .act(ReleaseClass::All, disconnect(1, 1));
    assert_eq!(d.push(step.done()), none());
    d.releaser.end_overdue(NOW.plus_millis(4_999), 5_000);
    assert_eq!(d.drain(), none());
    d.releaser.end_overdue(NOW.plus_millis(5_000), 5_000);
    assert_eq!(d.drain(), ["disconnect"]);
}

fn reestablish(n: u8) -> OutMessage {
    Message::ChannelReestablish(fulmen_wire::ChannelReestablish {
        channel_id: common::channel(n),
        next_commitment_number: 1,
        next_revocation_number: 0,
        your_last_per_commitment_secret: [0; 32],
        my_current_per_commitment_point: key(3),
        next_funding: None,
        my_current_funding_locked: None,
        next_local_nonces: None,
    })
    .into()
}

fn error(n: u8) -> OutMessage {
    OutMessage::Ready(fulmen_wire::Error::new(channel(n), "over").into())
}

#[test]
fn what_waits_in_one_lane_is_withdrawn_and_in_no_other() {
    let signer = TestSigner::new(Mood::Signs);
    let mut d = Driven::connected();
    let step = Step::new(2)
        .send(lane(1, 1, Some(1)), text("said"))
        .send(lane(1, 1, Some(1)), unsigned(1, 5))
        .send(lane(1, 1, Some(1)), text("never"))
        .send(lane(1, 1, Some(2)), unsigned(2, 6));
    assert_eq!(d.push(step.done()), ["said"]);
    // The signer has the signatures already, and its answer comes after the channel's end.
    let step = Step::new(3)
        .withdraw(lane(1, 1, Some(1)))
        .send(lane(1, 1, Some(1)), error(1));
    assert_eq!(d.push(step.done()), ["error"]);
    let step = Step::new(4).send(lane(1, 1, Some(1)), text("unknown channel"));
    assert_eq!(d.push(step.done()), ["unknown channel"]);
    assert_eq!(
        d.sign(&*signer),
        ["commitment_signed"],
        "of the other channel"
    );
    assert!(d.releaser.is_idle());
}

#[test]
fn the_reestablish_that_tells_of_lost_state_is_not_withdrawn() {
    let mut d = Driven::connected();
    let step = Step::new(2)
        .stored()
        .send(lane(1, 1, Some(1)), reestablish(1))
        .send(lane(1, 1, Some(1)), text("never"))
        .withdraw(lane(1, 1, Some(1)))
        .send(lane(1, 1, Some(1)), error(1));
    assert_eq!(d.push(step.done()), none());
    assert_eq!(d.committed(2), ["channel_reestablish", "error"]);
}

#[test]
fn a_reestablish_waits_for_what_the_connection_said_before() {
    let mut d = Driven::connected();
    // `peer_storage_retrieval`, say, which is not durable yet.
    d.push(
        Step::new(2)
            .stored()
            .send(lane(1, 1, None), text("first"))
            .done(),
    );
    let step = Step::new(3)
        .scope(scope(5))
        .send(lane(1, 1, Some(1)), reestablish(1))
        .send(lane(1, 1, Some(2)), text("free"));
    assert_eq!(d.push(step.done()), ["free"]);
    assert_eq!(d.committed(2), ["first", "channel_reestablish"]);
}

#[test]
fn run_ahead_is_bounded_in_batches_and_bytes() {
    let mut d = Driven::with(Releaser::new(RunAhead {
        batches: 3,
        bytes: 1_000_000,
    }));
    for seq in 1..=3 {
        assert!(!d.releaser.is_behind());
        d.push(Step::new(seq).stored().done());
    }
    assert!(d.releaser.is_behind());
    d.committed(1);
    assert!(!d.releaser.is_behind());
    let mut d = Driven::with(Releaser::new(RunAhead {
        batches: 100,
        bytes: 30,
    }));
    d.push(Step::new(1).stored().done());
    d.push(Step::new(2).stored().done());
    assert!(d.releaser.is_behind());
}

proptest! {
    /// Whatever the interleaving of steps, commits and signatures: each lane's messages leave complete
    /// and in order, and none before its step is durable.
    #[test]
    fn lanes_are_in_order_and_durable(events in proptest::collection::vec((0u8..4, 0u8..3), 1..80)) {
        let signer = TestSigner::new(Mood::Signs);
        let mut releaser = Releaser::new(RunAhead::default());
        releaser.connected(key(1), ConnEpoch(1));
        releaser.push(NOW, Step::new(1).send(lane(1, 1, None), init()).done());
        let (mut seq, mut durable) = (1u64, 1u64);
        let mut jobs: Vec<SigningJob> = Vec::new();
        let mut sent: [Vec<u64>; 3] = Default::default();
        let mut emitted: [Vec<u64>; 3] = Default::default();
        let finish = [(2u8, 0u8), (3, 0), (3, 0), (3, 0), (3, 0)];
        // At the end everything is committed and signed, one after the other.
        for (what, which) in events.into_iter().chain(finish.into_iter().cycle().take(60)) {
            match what {
                0 | 1 => {
                    seq += 1;
                    let mut step = Step::new(seq).stored();
                    let message = if what == 0 { text(&seq.to_string()) } else { unsigned(which, seq) };
                    step = step.send(lane(1, 1, Some(which)), message);
                    emitted[usize::from(which)].push(seq);
                    releaser.push(NOW, step.done());
                }
                2 => {
                    durable = seq.saturating_sub(u64::from(which)).max(durable);
                    releaser.committed(durable);
                }
                _ => {
                    if !jobs.is_empty() {
                        let job = jobs.remove(usize::from(which) % jobs.len());
                        assert!(releaser.signed(job.run(&*signer)).is_none());
                    }
                }
            }
            while let Some(released) = releaser.pop() {
                match released {
                    Released::Sign(job) => jobs.push(job),
                    Released::Send { message: Message::Init(_), .. } => {}
                    Released::Send { message: Message::Warning(w), .. } => {
                        let n: u64 = w.text().to_string().parse().unwrap();
                        prop_assert!(n <= durable);
                        let lane = emitted.iter().position(|l| l.contains(&n)).unwrap();
                        sent[lane].push(n);
                    }
                    Released::Send { message: Message::CommitmentSigned(c), .. } => {
                        // The signer asked last in this lane tells which one it is.
                        let lane = usize::from(c.channel_id.to_byte_array()[0]);
                        let n = emitted[lane][sent[lane].len()];
                        prop_assert!(n <= durable);
                        prop_assert!(signer.asked.lock().unwrap().contains(&n));
                        sent[lane].push(n);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        prop_assert_eq!(sent, emitted);
        prop_assert!(releaser.is_idle());
    }
}
