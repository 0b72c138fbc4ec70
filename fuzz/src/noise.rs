//! BOLT 8: handshakes and transports fed with anything, in any pieces.

use fulmen_noise::{Handshake, LocalKey, Progress, Transport};

use crate::keys::{public, secret};

/// The first byte chooses: a responder, an initiator, a transport after a good handshake, or messages to be
/// encrypted and read again in pieces.
pub(crate) fn noise(data: &[u8]) {
    let Some((which, data)) = crate::choice(data) else {
        return;
    };
    match which % 4 {
        0 => {
            let responder = Handshake::responder(LocalKey::new(secret(2)), secret(3));
            feed(responder, data);
        }
        1 => {
            let (initiator, _) =
                Handshake::initiator(LocalKey::new(secret(1)), secret(4), public(2))
                    .expect("the keys are good");
            feed(initiator, data);
        }
        2 => {
            let (_, mut receiver) = connected();
            for piece in data.chunks(1 + data.len() / 3) {
                let mut input = piece;
                loop {
                    match receiver.decrypt(&mut input) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return,
                    }
                }
                assert!(input.is_empty(), "None means that all was taken");
            }
        }
        _ => round_trip(data),
    }
}

fn feed(mut handshake: Handshake<LocalKey>, data: &[u8]) {
    let mut input = data;
    // Three acts at the most, and each call takes something or ends it.
    for _ in 0..4 {
        match handshake.receive(&mut input) {
            Ok(Progress::Send(_)) => {}
            Ok(Progress::NeedMore | Progress::Done(_)) | Err(_) => return,
        }
    }
    panic!("a handshake has three acts");
}

fn connected() -> (Transport, Transport) {
    let (mut initiator, act_one) =
        Handshake::initiator(LocalKey::new(secret(1)), secret(4), public(2)).expect("good keys");
    let mut responder = Handshake::responder(LocalKey::new(secret(2)), secret(3));
    let Ok(Progress::Send(act_two)) = responder.receive(&mut act_one.as_slice()) else {
        panic!("act one is good");
    };
    let Ok(Progress::Done(ours)) = initiator.receive(&mut act_two.as_slice()) else {
        panic!("act two is good");
    };
    let Ok(Progress::Done(theirs)) = responder.receive(&mut ours.send.as_slice()) else {
        panic!("act three is good");
    };
    assert_eq!(theirs.remote, public(1));
    (ours.transport, theirs.transport)
}

/// Each message of the data (a length byte, then so many bytes) is sent; the stream is cut where the bytes
/// say, and one bit is flipped if the first of them says so.
fn round_trip(data: &[u8]) {
    let Some((flip, mut data)) = crate::choice(data) else {
        return;
    };
    let (mut sender, mut receiver) = connected();
    let (mut sent, mut stream, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((len, rest)) = crate::choice(data) {
        let (message, rest) = rest.split_at(rest.len().min(usize::from(len)));
        sender.encrypt(message, &mut stream).expect("it is short");
        sent.push(message);
        cuts.push(usize::from(len) * 3 % (stream.len() + 1));
        data = rest;
    }
    let broken = flip % 2 == 1 && !stream.is_empty();
    if broken {
        let at = usize::from(flip) * 7 % stream.len();
        stream[at] ^= 1 << (flip % 8);
    }
    cuts.push(stream.len());
    cuts.sort_unstable();
    let (mut received, mut from) = (0, 0);
    for cut in cuts {
        let mut input = &stream[from..cut];
        from = cut;
        loop {
            match receiver.decrypt(&mut input) {
                Ok(Some(message)) => {
                    assert_eq!(sent.get(received).copied(), Some(message.as_slice()));
                    received += 1;
                }
                Ok(None) => break,
                Err(_) => {
                    assert!(broken, "nobody touched the stream");
                    return;
                }
            }
        }
    }
    assert!(!broken, "a changed bit goes through");
    assert_eq!(received, sent.len());
}
