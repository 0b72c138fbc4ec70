//! BOLT 8 beside the bare cipher. LDK's encryption is not public.

use anyhow::{Result, bail, ensure};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use chacha20_poly1305::{ChaCha20Poly1305, Key, Nonce};
use fulmen_noise::{Handshake, LocalKey, Progress, Transport};

use crate::Row;

pub(crate) fn rows() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for len in [16usize, 256, 1_400, 16_384, 65_535] {
        let message = vec![7; len];
        let (mut sender, mut receiver) = connected()?;
        let mut stream = Vec::new();
        sender.encrypt(&message, &mut stream)?;
        ensure!(receiver.decrypt(&mut stream.as_slice())? == Some(message.clone()));
        rows.push(
            Row::new(format!("noise, {len} B there and back"), move || {
                stream.clear();
                let sent = sender.encrypt(&message, &mut stream);
                (sent, receiver.decrypt(&mut stream.as_slice()))
            })
            .floor(bare(len)),
        );
    }
    Ok(rows)
}

/// Two seals and two opens: of the length, and of the message, which is copied there and back.
fn bare(len: usize) -> impl FnMut() -> Result<Vec<u8>, chacha20_poly1305::Error> {
    let message = vec![7; len];
    move || {
        let cipher = || ChaCha20Poly1305::new(Key::new([1; 32]), Nonce::new([0; 12]));
        let mut header = [0; 2];
        let tag = cipher().encrypt(&mut header, None);
        cipher().decrypt(&mut header, tag, None)?;
        let mut content = message.clone();
        let tag = cipher().encrypt(&mut content, None);
        cipher().decrypt(&mut content, tag, None)?;
        Ok(content)
    }
}

fn connected() -> Result<(Transport, Transport)> {
    let secp = Secp256k1::new();
    let keys = [1u8, 2, 3, 4].map(|i| SecretKey::from_slice(&[i; 32]).expect("a key"));
    let remote = PublicKey::from_secret_key(&secp, &keys[1]);
    let (mut initiator, act_one) = Handshake::initiator(LocalKey::new(keys[0]), keys[2], remote)?;
    let mut responder = Handshake::responder(LocalKey::new(keys[1]), keys[3]);
    let Progress::Send(act_two) = responder.receive(&mut act_one.as_slice())? else {
        bail!("no act two");
    };
    let Progress::Done(ours) = initiator.receive(&mut act_two.as_slice())? else {
        bail!("no act three");
    };
    let Progress::Done(theirs) = responder.receive(&mut ours.send.as_slice())? else {
        bail!("no end");
    };
    Ok((ours.transport, theirs.transport))
}
