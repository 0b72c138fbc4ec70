//! Messages.

use anyhow::{Result, ensure};
use bitcoin::secp256k1::ecdsa::Signature;
use fulmen_compare::{LdkMessage, Source, Verdict, compare_message};
use fulmen_wire::Message;
use lightning::{
    ln::msgs,
    util::ser::{LengthReadable, Writeable},
};

use crate::Row;

/// The HTLCs that BOLT 2 allows in each direction.
const HTLCS: usize = 483;

pub(crate) fn rows(g: &mut Source) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for message in LdkMessage::generate_all(g) {
        match message {
            LdkMessage::ChannelUpdate(mut m) => {
                m.contents.excess_data.clear();
                let bytes = signature_bytes(&[m.signature]);
                rows.extend(pair("channel_update", *m, 258, bytes)?);
            }
            LdkMessage::ChannelAnnouncement(mut m) => {
                m.contents.excess_data.clear();
                let signatures = [
                    m.node_signature_1,
                    m.node_signature_2,
                    m.bitcoin_signature_1,
                    m.bitcoin_signature_2,
                ];
                rows.extend(pair(
                    "channel_announcement",
                    *m,
                    256,
                    signature_bytes(&signatures),
                )?);
            }
            LdkMessage::CommitmentSigned(mut m) => {
                m.htlc_signatures = (0..HTLCS).map(|_| g.signature()).collect();
                let mut signatures = m.htlc_signatures.clone();
                signatures.push(m.signature);
                let name = "commitment_signed, 483 HTLCs";
                rows.extend(pair(name, *m, 132, signature_bytes(&signatures))?);
            }
            _ => {}
        }
    }
    Ok(rows)
}

fn signature_bytes(signatures: &[Signature]) -> Vec<[u8; 64]> {
    signatures
        .iter()
        .map(Signature::serialize_compact)
        .collect()
}

/// Reading and writing. Bare: the signatures alone, read into a list, or written into a vector with room for the message.
fn pair<M: Writeable + LengthReadable + 'static>(
    name: &str,
    theirs: M,
    type_: u16,
    signatures: Vec<[u8; 64]>,
) -> Result<[Row; 2]> {
    let payload = theirs.encode();
    let bytes = [&type_.to_be_bytes()[..], &payload].concat();
    let (ours, verdict) = compare_message(&bytes);
    ensure!(verdict == Verdict::Same, "{name}: {verdict:?}");
    let ours = ours?;
    ensure!(ours.encode() == bytes, "{name}: the encodings differ");
    let len = bytes.len();
    let parsed: Vec<Signature> = signatures
        .iter()
        .map(|bytes| Signature::from_compact(bytes))
        .collect::<Result<_, _>>()?;
    let decode = Row::new(format!("decode {name}"), move || Message::decode(&bytes))
        .ldk(move || {
            M::read_from_fixed_length_buffer(&mut payload.as_slice())
                .map_err(|_: msgs::DecodeError| ())
        })
        .floor(move || {
            let read = signatures
                .iter()
                .map(|bytes| Signature::from_compact(bytes));
            read.collect::<Result<Vec<_>, _>>()
        });
    let encode = Row::new(format!("encode {name}"), move || ours.encode())
        .ldk(move || theirs.encode())
        .floor(move || {
            let mut out = Vec::with_capacity(len);
            for signature in &parsed {
                out.extend_from_slice(&signature.serialize_compact());
            }
            out
        });
    Ok([decode, encode])
}
