//! Keys, scripts and transactions of BOLT 3, made by `fulmen-tx` and by LDK's `chan_utils` from the same
//! values: all of them must be the same, and the signatures of LDK's signer must be valid for what
//! `fulmen-tx` built.

mod draw;

use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey, ecdsa};
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute};
use fulmen_tx::{
    BuiltCommitment, ChannelParameters, ClaimKind, ClaimPreparer, ClosingContent, ClosingOutputs,
    CommitmentContent, CommitmentFormat, CommitmentHtlc, CommitmentKeys, CommitmentSecrets,
    HtlcKind, Secp, Side, build_commitment, derive_private_key, derive_revocation_private_key,
    derive_secret, obscuring_factor, scripts, secret_index,
};
use fulmen_types::{CommitmentNumber, PaymentPreimage};
use lightning::chain::transaction::OutPoint;
use lightning::ln::chan_utils as ldk;
use lightning::sign::ecdsa::EcdsaChannelSigner;
use lightning::sign::{ChannelSigner, InMemorySigner, KeysManager, SignerProvider};
use lightning::types::features::ChannelTypeFeatures;
use lightning::types::payment::PaymentHash;

use self::draw::Draw;

/// How many of the peer's secrets are stored and read back for each of some channels.
const SECRETS: u64 = 100;

/// Compares so many channels of each type; prints the result and says whether all was the same.
pub(crate) fn report(channels: u32) -> bool {
    let begun = Instant::now();
    let formats = [
        (CommitmentFormat::StaticRemoteKey, "static_remotekey"),
        (CommitmentFormat::AnchorsZeroFeeHtlc, "anchors"),
    ];
    for (format, name) in formats {
        let mut compared = Compared::default();
        for number in 0..channels {
            let draw = Draw::new(format!("{name} {number}"));
            let result = Channel::new(draw, format).and_then(|one| one.compare(&mut compared));
            if let Err(error) = result {
                println!("FAILED  comparison with LDK, {name}, channel {number}: {error:#}");
                return false;
            }
        }
        println!(
            "ok      comparison with LDK, {name}: {channels} channels, {} commitments, {} HTLC transactions, {} closings, {} signatures ({:.1} s)",
            compared.commitments,
            compared.htlc_txs,
            compared.closings,
            compared.signatures,
            begun.elapsed().as_secs_f64()
        );
    }
    true
}

/// What was found to be the same.
#[derive(Default)]
struct Compared {
    commitments: usize,
    htlc_txs: usize,
    closings: usize,
    signatures: usize,
}

/// A channel in both forms. LDK's holder is our [`Side::Local`].
struct Channel {
    draw: Draw,
    secp: Secp,
    local: InMemorySigner,
    remote: InMemorySigner,
    params: ChannelParameters,
    as_local: ldk::ChannelTransactionParameters,
    as_remote: ldk::ChannelTransactionParameters,
}

impl Channel {
    fn new(mut draw: Draw, format: CommitmentFormat) -> Result<Self> {
        let secp = Secp256k1::new();
        let signer = |draw: &mut Draw| {
            KeysManager::new(&draw.bytes(), 1, 2, true).derive_channel_signer(draw.bytes())
        };
        let (local, remote) = (signer(&mut draw), signer(&mut draw));
        let params = draw.channel(
            format,
            keys_of(&local.pubkeys(&secp)),
            keys_of(&remote.pubkeys(&secp)),
        );
        let outpoint = params.funding.outpoint;
        let view = |side: Side| -> Result<ldk::ChannelTransactionParameters> {
            let (own, other) = match side {
                Side::Local => (&local, &remote),
                Side::Remote => (&remote, &local),
            };
            Ok(ldk::ChannelTransactionParameters {
                holder_pubkeys: own.pubkeys(&secp),
                holder_selected_contest_delay: params.party(side.other()).to_self_delay,
                is_outbound_from_holder: params.opener == side,
                counterparty_parameters: Some(ldk::CounterpartyChannelTransactionParameters {
                    pubkeys: other.pubkeys(&secp),
                    selected_contest_delay: params.party(side).to_self_delay,
                }),
                funding_outpoint: Some(OutPoint {
                    txid: outpoint.txid,
                    index: u16::try_from(outpoint.vout)?,
                }),
                splice_parent_funding_txid: None,
                channel_type_features: features(format),
                channel_value_satoshis: params.funding.value.to_sat(),
            })
        };
        let (as_local, as_remote) = (view(Side::Local)?, view(Side::Remote)?);
        Ok(Self {
            draw,
            secp,
            local,
            remote,
            params,
            as_local,
            as_remote,
        })
    }

    fn compare(mut self, compared: &mut Compared) -> Result<()> {
        self.unchanging()?;
        self.secrets()?;
        let content = self.draw.content(&self.params);
        for broadcaster in [Side::Local, Side::Remote] {
            let built = self
                .commitment(broadcaster, &content, compared)
                .with_context(|| format!("commitment of {broadcaster:?}: {content:?}"))?;
            if broadcaster == Side::Remote {
                self.claims(&built, &content, compared)
                    .context("claims on the commitment of the peer")?;
            }
        }
        self.closing(&content, compared).context("closing")
    }

    const fn signer(&self, side: Side) -> &InMemorySigner {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    /// Scripts and numbers that depend on no commitment.
    fn unchanging(&self) -> Result<()> {
        let (local, remote) = (&self.params.local.keys, &self.params.remote.keys);
        let funding = ldk::make_funding_redeemscript(&local.funding, &remote.funding);
        same(
            "funding script",
            &self.params.funding_witness_script(),
            &funding,
        )?;
        let anchor = ldk::get_keyed_anchor_redeemscript(&local.funding);
        same("anchor", &scripts::anchor(&local.funding), &anchor)?;
        let key = &remote.payment_basepoint;
        let to_remote = ldk::get_countersigner_payment_script(&features(self.params.format), key);
        same(
            "to_remote",
            &scripts::to_remote(self.params.format, key),
            &to_remote,
        )?;
        let (opener, accepter) = match self.params.opener {
            Side::Local => (local, remote),
            Side::Remote => (remote, local),
        };
        let factor = ldk::get_commitment_transaction_number_obscure_factor(
            &local.payment_basepoint,
            &remote.payment_basepoint,
            self.params.opener == Side::Local,
        );
        same(
            "obscuring factor",
            &obscuring_factor(&opener.payment_basepoint, &accepter.payment_basepoint),
            &factor,
        )
    }

    /// The peer's secrets, made and stored by both.
    fn secrets(&mut self) -> Result<()> {
        let seed = self.remote.commitment_seed;
        let index = self.draw.below(1 << 48);
        let theirs = ldk::build_commitment_secret(&seed, index);
        same("secret", &derive_secret(&seed, index), &theirs)?;
        let (mut ours, mut theirs) = (
            CommitmentSecrets::new(),
            ldk::CounterpartyCommitmentSecrets::new(),
        );
        let count = self.draw.below(SECRETS);
        for number in (0..count).filter_map(CommitmentNumber::new) {
            let index = secret_index(number);
            let secret = ldk::build_commitment_secret(&seed, index);
            ours.insert(number, secret)?;
            let taken = theirs.provide_secret(index, secret);
            taken.map_err(|()| anyhow!("LDK does not take secret {number}"))?;
        }
        for number in (0..count + 1).filter_map(CommitmentNumber::new) {
            let stored = theirs.get_secret(secret_index(number));
            same("stored secret", &ours.get(number), &stored)?;
        }
        Ok(())
    }

    fn commitment(
        &self,
        broadcaster: Side,
        content: &CommitmentContent,
        compared: &mut Compared,
    ) -> Result<BuiltCommitment> {
        let (own, other) = (self.signer(broadcaster), self.signer(broadcaster.other()));
        let index = secret_index(content.number);
        let secret = released(own, index)?;
        let point = secret.public_key(&self.secp);
        let built = build_commitment(&self.secp, &self.params, broadcaster, &point, content);
        self.keys(&built.keys, own, other, &secret)?;

        // From the view of the side that signs it.
        let view = match broadcaster {
            Side::Local => &self.as_remote,
            Side::Remote => &self.as_local,
        };
        let directed = view.as_counterparty_broadcastable();
        let expected = Expected::new(&self.params, broadcaster, content);
        let theirs = ldk::CommitmentTransaction::new(
            index,
            &point,
            expected.to_broadcaster_sat,
            expected.to_other_sat,
            content.feerate.to_sat_per_kw(),
            expected.htlcs,
            &directed,
            &self.secp,
        );
        let trusted = theirs.trust();
        same(
            "commitment transaction",
            &built.tx,
            &trusted.built_transaction().transaction,
        )?;
        same(
            "number of HTLC outputs",
            &built.htlcs.len(),
            &theirs.nondust_htlcs().len(),
        )?;
        let features = features(self.params.format);
        for ((htlc, vout), in_ldk) in built.htlcs.iter().zip(theirs.nondust_htlcs()) {
            same(
                "HTLC output",
                &Some(*vout),
                &in_ldk.transaction_output_index,
            )?;
            same(
                "HTLC",
                &essence(&in_ldk_form(htlc, broadcaster)),
                &essence(in_ldk),
            )?;
            let script = ldk::get_htlc_redeemscript(in_ldk, &features, trusted.keys());
            same("HTLC script", &built.htlc_witness_script(htlc), &script)?;
            let tx = ldk::build_htlc_transaction(
                &trusted.txid(),
                content.feerate.to_sat_per_kw(),
                directed.contest_delay(),
                in_ldk,
                &features,
                &trusted.keys().broadcaster_delayed_payment_key,
                &trusted.keys().revocation_key,
            );
            same("HTLC transaction", &built.htlc_tx(htlc, *vout), &tx)?;
            compared.htlc_txs += 1;
        }
        let (signature, htlc_signatures) = other
            .sign_counterparty_commitment(view, &theirs, Vec::new(), Vec::new(), &self.secp)
            .map_err(|()| anyhow!("LDK does not sign"))?;
        built.verify(&self.secp, &self.params, &signature, &htlc_signatures)?;
        compared.signatures += 1 + htlc_signatures.len();
        compared.commitments += 1;
        Ok(built)
    }

    /// The keys of a commitment, public and private.
    fn keys(
        &self,
        keys: &CommitmentKeys,
        own: &InMemorySigner,
        other: &InMemorySigner,
        secret: &SecretKey,
    ) -> Result<()> {
        let (secp, point) = (&self.secp, &keys.per_commitment_point);
        let theirs = ldk::TxCreationKeys::from_channel_static_keys(
            point,
            &own.pubkeys(secp),
            &other.pubkeys(secp),
            secp,
        );
        let revocation = theirs.revocation_key.to_public_key();
        same("revocation key", &keys.revocation_key, &revocation)?;
        let delayed = theirs.broadcaster_delayed_payment_key.to_public_key();
        same("delayed key", &keys.delayed_key, &delayed)?;
        let htlc = theirs.broadcaster_htlc_key.to_public_key();
        same("broadcaster's HTLC key", &keys.broadcaster_htlc_key, &htlc)?;
        let htlc = theirs.countersignatory_htlc_key.to_public_key();
        same("other HTLC key", &keys.countersigner_htlc_key, &htlc)?;

        let base = &other.revocation_base_key;
        let private = ldk::derive_private_revocation_key(secp, secret, base);
        let ours = derive_revocation_private_key(secp, base, secret);
        ensure!(ours == private, "private revocation keys differ");
        same("revocation key", &private.public_key(secp), &revocation)?;
        let private = ldk::derive_private_key(secp, point, &own.htlc_base_key);
        let ours = derive_private_key(secp, &own.htlc_base_key, point);
        ensure!(ours == private, "private HTLC keys differ");

        let delay = self.params.party(keys.broadcaster).to_self_delay;
        let script = ldk::get_revokeable_redeemscript(
            &theirs.revocation_key,
            delay,
            &theirs.broadcaster_delayed_payment_key,
        );
        let ours = scripts::delayed(&keys.revocation_key, delay, &keys.delayed_key);
        same("to_local script", &ours, &script)
    }

    /// What we can take of the peer's commitment, revoked or not: LDK's signer signs it, and the
    /// signature fits our script, our key and our sighash.
    fn claims(
        &self,
        built: &BuiltCommitment,
        content: &CommitmentContent,
        compared: &mut Compared,
    ) -> Result<()> {
        let secret = released(&self.remote, secret_index(content.number))?;
        let point = secret.public_key(&self.secp);
        let mut preparer = ClaimPreparer::new(&self.secp, &self.params);
        let mut check = |kind: ClaimKind, spent: &TxOut, outpoint, sign: &Sign<'_>| {
            let tx = Transaction {
                version: Version::TWO,
                lock_time: absolute::LockTime::ZERO,
                input: vec![TxIn {
                    previous_output: outpoint,
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                    witness: Witness::new(),
                }],
                output: vec![TxOut {
                    value: Amount::from_sat(1_000),
                    script_pubkey: spent.script_pubkey.clone(),
                }],
            };
            let claim = preparer.prepare(&kind);
            same(
                "script of a claim",
                &claim.script_pubkey(),
                &spent.script_pubkey,
            )?;
            let mut cache = SighashCache::new(&tx);
            let sighash = claim.sighash(&mut cache, 0, spent.value);
            let signature = sign(&tx, spent.value.to_sat());
            let signature = signature.map_err(|()| anyhow!("LDK does not sign {kind:?}"))?;
            self.is_signed(sighash, &signature, claim.public_key())
                .with_context(|| format!("{kind:?}"))?;
            compared.signatures += 1;
            anyhow::Ok(())
        };
        if let Some(vout) = built.to_local_vout {
            let spent = built.txout(vout).context("no to_local")?;
            let kind = ClaimKind::RevokedToLocal {
                per_commitment_secret: secret,
            };
            check(kind, spent, built.outpoint(vout), &|tx, sat| {
                self.local.sign_justice_revoked_output(
                    &self.as_local,
                    tx,
                    0,
                    sat,
                    &secret,
                    &self.secp,
                )
            })?;
        }
        // Many are alike.
        for (htlc, vout) in built.htlcs.iter().take(12) {
            let spent = built.txout(*vout).context("no HTLC")?;
            let outpoint = built.outpoint(*vout);
            let in_ldk = in_ldk_form(htlc, Side::Remote);
            let kind = ClaimKind::RevokedHtlc {
                per_commitment_secret: secret,
                htlc: *htlc,
            };
            check(kind, spent, outpoint, &|tx, sat| {
                self.local.sign_justice_revoked_htlc(
                    &self.as_local,
                    tx,
                    0,
                    sat,
                    &secret,
                    &in_ldk,
                    &self.secp,
                )
            })?;
            let kind = if htlc.offered_by == Side::Remote {
                ClaimKind::CounterpartyHtlcPreimage {
                    per_commitment_point: point,
                    htlc: *htlc,
                    preimage: PaymentPreimage::new([7; 32]),
                }
            } else {
                ClaimKind::CounterpartyHtlcTimeout {
                    per_commitment_point: point,
                    htlc: *htlc,
                }
            };
            check(kind, spent, outpoint, &|tx, sat| {
                self.local.sign_counterparty_htlc_transaction(
                    &self.as_local,
                    tx,
                    0,
                    sat,
                    &point,
                    &in_ldk,
                    &self.secp,
                )
            })?;
            let second = built.htlc_tx(htlc, *vout);
            let outpoint = bitcoin::OutPoint {
                txid: second.compute_txid(),
                vout: 0,
            };
            let kind = ClaimKind::RevokedSecondStage {
                per_commitment_secret: secret,
            };
            check(kind, &built.htlc_tx_output(htlc), outpoint, &|tx, sat| {
                self.local.sign_justice_revoked_output(
                    &self.as_local,
                    tx,
                    0,
                    sat,
                    &secret,
                    &self.secp,
                )
            })?;
        }
        Ok(())
    }

    fn is_signed(
        &self,
        sighash: Option<Message>,
        signature: &ecdsa::Signature,
        key: &PublicKey,
    ) -> Result<()> {
        let sighash = sighash.context("nothing to sign")?;
        let valid = self.secp.verify_ecdsa(&sighash, signature, key);
        valid.context("the signature of LDK does not fit")
    }

    fn closing(&mut self, content: &CommitmentContent, compared: &mut Compared) -> Result<()> {
        let content = ClosingContent {
            to_local: content.to_local,
            to_remote: content.to_remote,
            local_script: self.draw.shutdown_script(),
            remote_script: self.draw.shutdown_script(),
            fee: Amount::from_sat(self.draw.below(3_000)),
        };
        let dust_limit = self.params.local.dust_limit;
        let Ok(outputs) = content.outputs_above(&self.params, dust_limit) else {
            // The opener can't pay, or both are dust: there is no such transaction.
            return Ok(());
        };
        let (local, remote) = (
            content.value_of(&self.params, Side::Local)?,
            content.value_of(&self.params, Side::Remote)?,
        );
        let only = |side: Side, value: Amount| match outputs {
            ClosingOutputs::Only(only) if only != side => 0,
            ClosingOutputs::Only(_) | ClosingOutputs::Both => value.to_sat(),
        };
        let theirs = ldk::ClosingTransaction::new(
            only(Side::Local, local),
            only(Side::Remote, remote),
            content.local_script.clone(),
            content.remote_script.clone(),
            self.params.funding.outpoint,
        );
        let ours = content.build(&self.params, outputs)?;
        let trusted = theirs.trust();
        same("closing transaction", &ours.tx, trusted.built_transaction())?;
        let signature = self
            .remote
            .sign_closing_transaction(&self.as_remote, &theirs, &self.secp)
            .map_err(|()| anyhow!("LDK does not sign the closing transaction"))?;
        ensure!(
            ours.is_signed_by_peer(&self.secp, &self.params, &signature),
            "the signature of LDK does not fit the closing transaction"
        );
        compared.signatures += 1;
        compared.closings += 1;
        Ok(())
    }
}

/// Signs input 0, which spends so many satoshi.
type Sign<'a> = dyn Fn(&Transaction, u64) -> Result<ecdsa::Signature, ()> + 'a;

/// What LDK wants to be told: which HTLCs have outputs, and what is left for both sides. By the numbers
/// of BOLT 3 and LDK's weights, without `fulmen-tx`.
struct Expected {
    htlcs: Vec<ldk::HTLCOutputInCommitment>,
    to_broadcaster_sat: u64,
    to_other_sat: u64,
}

impl Expected {
    fn new(params: &ChannelParameters, broadcaster: Side, content: &CommitmentContent) -> Self {
        let features = features(params.format);
        let anchors = params.format == CommitmentFormat::AnchorsZeroFeeHtlc;
        let feerate = u64::from(content.feerate.to_sat_per_kw());
        let dust_sat = params.party(broadcaster).dust_limit.to_sat();
        let has_output = |htlc: &ldk::HTLCOutputInCommitment| {
            let weight = match (anchors, htlc.offered) {
                (true, _) => 0,
                (false, true) => ldk::htlc_timeout_tx_weight(&features),
                (false, false) => ldk::htlc_success_tx_weight(&features),
            };
            htlc.amount_msat / 1_000 >= dust_sat + feerate * weight / 1_000
        };
        let htlcs = content.htlcs.iter();
        let htlcs = htlcs.map(|htlc| in_ldk_form(htlc, broadcaster));
        let htlcs: Vec<_> = htlcs.filter(has_output).collect();
        let (base, anchors_sat) = if anchors { (1_124, 660) } else { (724, 0) };
        let fee_sat = feerate * (base + 172 * htlcs.len() as u64) / 1_000;
        let left = |side: Side| {
            let balance = content.balance(side).to_msat();
            let costs = if side == params.opener {
                (fee_sat + anchors_sat) * 1_000
            } else {
                0
            };
            let sat = balance.saturating_sub(costs) / 1_000;
            if sat < dust_sat { 0 } else { sat }
        };
        Self {
            to_broadcaster_sat: left(broadcaster),
            to_other_sat: left(broadcaster.other()),
            htlcs,
        }
    }
}

fn in_ldk_form(htlc: &CommitmentHtlc, broadcaster: Side) -> ldk::HTLCOutputInCommitment {
    ldk::HTLCOutputInCommitment {
        offered: HtlcKind::on(broadcaster, htlc.offered_by) == HtlcKind::Offered,
        amount_msat: htlc.amount.to_msat(),
        cltv_expiry: htlc.cltv_expiry.to_u32(),
        payment_hash: PaymentHash(*htlc.payment_hash.as_bytes()),
        transaction_output_index: None,
    }
}

/// What an output tells of its HTLC: of two that differ by less than a satoshi either may have it.
fn essence(htlc: &ldk::HTLCOutputInCommitment) -> (bool, u64, u32, PaymentHash) {
    let sat = htlc.amount_msat / 1_000;
    (htlc.offered, sat, htlc.cltv_expiry, htlc.payment_hash)
}

fn keys_of(keys: &ldk::ChannelPublicKeys) -> fulmen_tx::ChannelPublicKeys {
    fulmen_tx::ChannelPublicKeys {
        funding: keys.funding_pubkey,
        revocation_basepoint: keys.revocation_basepoint.to_public_key(),
        payment_basepoint: keys.payment_point,
        delayed_payment_basepoint: keys.delayed_payment_basepoint.to_public_key(),
        htlc_basepoint: keys.htlc_basepoint.to_public_key(),
    }
}

fn features(format: CommitmentFormat) -> ChannelTypeFeatures {
    match format {
        CommitmentFormat::StaticRemoteKey => ChannelTypeFeatures::only_static_remote_key(),
        CommitmentFormat::AnchorsZeroFeeHtlc => {
            ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies()
        }
    }
}

fn released(signer: &InMemorySigner, index: u64) -> Result<SecretKey> {
    let secret = signer.release_commitment_secret(index);
    let secret = secret.map_err(|()| anyhow!("LDK does not release a secret"))?;
    Ok(SecretKey::from_slice(&secret)?)
}

/// Two values that must be the same: ours, then LDK's.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, theirs: &T) -> Result<()> {
    ensure!(
        ours == theirs,
        "{what}: Fulmen has {ours:?}, LDK has {theirs:?}"
    );
    Ok(())
}
