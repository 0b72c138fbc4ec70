//! BOLT 11: any text, and any content under a good checksum and signature.

use bech32::{ByteIterExt as _, Fe32, Fe32IterExt as _, Hrp};
use bitcoin::{
    hashes::{Hash, sha256},
    secp256k1::Message,
};
use fulmen_compare::{Verdict, compare_invoice};
use fulmen_types::Timestamp;

use crate::{
    choice,
    keys::{SECP, secret},
};

/// The first byte chooses: a text as it is; or a prefix by length, then quintets, which are signed.
pub(crate) fn bolt11(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    let text = if which % 2 == 0 {
        let Ok(text) = core::str::from_utf8(data) else {
            return;
        };
        text.to_owned()
    } else {
        let Some(text) = signed(usize::from(which / 2), data) else {
            return;
        };
        text
    };
    let (ours, verdict) = compare_invoice(&text);
    if let Verdict::Different(how) = verdict {
        panic!("{how}: {text}");
    }
    let Ok(invoice) = ours else { return };
    let again: fulmen_invoice::Invoice = invoice.as_str().parse().expect("it was shown");
    assert_eq!(again, invoice);
    let _ = invoice
        .summary(Timestamp::from_secs(1_800_000_000))
        .to_string();
    let _ = invoice.details().final_cltv_expiry_delta();
    // What was read can be written, and says the same then.
    if let Ok(unsigned) = invoice.details().clone().into_unsigned() {
        if invoice.details().payee.is_some() {
            return;
        }
        let written = unsigned
            .sign_with_key(&SECP, &secret(1))
            .expect("the key is good");
        let again: fulmen_invoice::Invoice = written.as_str().parse().expect("it was written");
        assert_eq!(again.details(), invoice.details());
    }
}

fn signed(hrp_len: usize, data: &[u8]) -> Option<String> {
    let (hrp, data) = data.split_at_checked(hrp_len)?;
    let hrp = Hrp::parse(core::str::from_utf8(hrp).ok()?).ok()?;
    let quintets: Vec<Fe32> = data
        .iter()
        .map(|byte| Fe32::try_from(byte & 31))
        .collect::<Result<_, _>>()
        .ok()?;
    let mut content = hrp.to_lowercase().into_bytes();
    let padded = quintets.len().next_multiple_of(8);
    let zeros = core::iter::repeat_n(Fe32::Q, padded - quintets.len());
    let bytes: Vec<u8> = quintets
        .iter()
        .copied()
        .chain(zeros)
        .fes_to_bytes()
        .collect();
    content.extend_from_slice(&bytes[..(quintets.len() * 5).div_ceil(8)]);
    let hash = sha256::Hash::hash(&content).to_byte_array();
    let signature = SECP.sign_ecdsa_recoverable(&Message::from_digest(hash), &secret(1));
    let (id, compact) = signature.serialize_compact();
    let signature = compact.into_iter().chain([u8::try_from(id.to_i32()).ok()?]);
    let all: Vec<Fe32> = quintets
        .into_iter()
        .chain(signature.bytes_to_fes())
        .collect();
    Some(
        all.into_iter()
            .with_checksum::<Bolt11>(&hrp)
            .chars()
            .collect(),
    )
}

/// Bech32 for texts of any length.
enum Bolt11 {}

impl bech32::Checksum for Bolt11 {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = 6;
    const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
}
