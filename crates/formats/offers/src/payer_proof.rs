//! Payer proofs: `lnp`. They show that an invoice was paid, by whom, and as much of it as the payer wants.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::{fmt, str::FromStr};

use bitcoin::secp256k1::{PublicKey, Secp256k1, Verification, schnorr};
use fulmen_types::{
    Msat, PaymentHash, PaymentPreimage,
    codec::{BigSize, Encode, Utf8},
};

use crate::{
    BuildError, Field, Invoice, Offer, OfferFields, ParseError,
    merkle::{Hash32, Leaf, Subtree, Tree, signature_hash, verify},
    read::{Message, Parts, check_node_id},
    signing::{SignedMessage, Unsigned, hash_to_sign, sealed::Sealed},
    stream::{Range, StreamBuilder, records},
    text,
};

const PREFIX: &str = "lnp";
/// What is always shown.
const REQUIRED: [Field; 4] = [
    Field::InvreqPayerId,
    Field::InvoicePaymentHash,
    Field::InvoiceFeatures,
    Field::InvoiceNodeId,
];
/// Where markers go on after 239: between lie signatures and the proof's own fields.
const EXPERIMENTAL: u64 = 1_000_000_000;
/// The highest type that a proof knows how to show or hide.
const TYPE_MAX: u64 = 3_999_999_999;

/// A proof that an invoice was paid, verified: the payee signed the invoice, the preimage is that of its
/// payment hash, and who asked for the invoice signed the proof.
///
/// Of the invoice it shows what the payer chose to show. Who gets a proof can hand it on, so ask for one with a
/// `proof_note` of your choice. And anybody can pay an invoice of their own: a proof is worth as much as
/// [`PayerProof::node_id`] is known, for instance by [`PayerProof::pays`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayerProof {
    bytes: Vec<u8>,
    offer: OfferFields,
    payer_id: PublicKey,
    payment_hash: PaymentHash,
    amount: Option<Msat>,
    created_at: Option<u64>,
    node_id: PublicKey,
    preimage: PaymentPreimage,
    note: Option<String>,
    signature: schnorr::Signature,
    proof_signature: schnorr::Signature,
    invoice_merkle_root: [u8; 32],
}

/// What a payer shows of an invoice, beside `invreq_payer_id`, `invoice_payment_hash`, `invoice_node_id` and
/// `invoice_features`, which are always shown.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Disclosure {
    /// The types of more fields to show, as far as the invoice has them.
    pub types: BTreeSet<u64>,
    /// `proof_note`: what the one who asked for the proof wants to read in it.
    pub note: Option<String>,
}

impl PayerProof {
    /// Reads and verifies a proof from its TLV stream.
    pub fn from_bytes<C: Verification>(
        secp: &Secp256k1<C>,
        bytes: &[u8],
    ) -> Result<Self, ParseError> {
        let mut parts = Parts::read(bytes, Message::PayerProof)?;
        if parts.has_metadata() {
            // It would let the hidden fields be guessed.
            return Err(ParseError::Unexpected(Field::InvreqMetadata));
        }
        if let Some(record) = records(bytes).find(|record| record.kind > TYPE_MAX) {
            return Err(ParseError::TypeOutOfRange(record.kind));
        }
        let proof = parts.proof()?;
        if proof.preimage.payment_hash() != proof.payment_hash {
            return Err(ParseError::WrongPreimage);
        }
        let root = invoice_root(
            bytes,
            &proof.omitted,
            &proof.missing_hashes,
            &proof.leaf_hashes,
        )?;
        let hash = signature_hash(Invoice::NAME, Invoice::SIGNATURE.name(), &root);
        if !verify(secp, &proof.signature, hash, &proof.node_id) {
            return Err(ParseError::WrongSignature(Field::InvoiceNodeId));
        }
        if !verify(
            secp,
            &proof.proof_signature,
            hash_to_sign::<Self>(bytes),
            &proof.payer_id,
        ) {
            return Err(ParseError::WrongSignature(Field::InvreqPayerId));
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            offer: parts.offer,
            payer_id: proof.payer_id,
            payment_hash: proof.payment_hash,
            amount: proof.amount,
            created_at: proof.created_at,
            node_id: proof.node_id,
            preimage: proof.preimage,
            note: proof.note,
            signature: proof.signature,
            proof_signature: proof.proof_signature,
            invoice_merkle_root: root,
        })
    }

    /// Reads and verifies the text form, in either case and with `+` where it was split.
    pub fn parse<C: Verification>(secp: &Secp256k1<C>, text: &str) -> Result<Self, ParseError> {
        let bytes = text::decode(PREFIX, text).map_err(ParseError::Text)?;
        Self::from_bytes(secp, &bytes)
    }

    /// The TLV stream.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Who paid: `invreq_payer_id`.
    pub const fn payer_id(&self) -> PublicKey {
        self.payer_id
    }

    /// Who was paid: `invoice_node_id`. It is a blinded key if the offer named its issuer only by paths.
    pub const fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// Whether an invoice for this offer would be signed by the key that was paid: one that the offer names.
    pub fn pays(&self, offer: &Offer) -> bool {
        check_node_id(offer.fields(), self.node_id).is_ok()
    }

    /// `invoice_payment_hash`.
    pub const fn payment_hash(&self) -> PaymentHash {
        self.payment_hash
    }

    /// `proof_preimage`.
    pub const fn preimage(&self) -> &PaymentPreimage {
        &self.preimage
    }

    /// `proof_note`, from a stranger: show it through [`fulmen_types::Printable`].
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// What is shown of the offer.
    pub const fn offer(&self) -> &OfferFields {
        &self.offer
    }

    /// `invoice_amount`, if it is shown.
    pub const fn amount(&self) -> Option<Msat> {
        self.amount
    }

    /// `invoice_created_at`, in seconds since 1970, if it is shown.
    pub const fn created_at(&self) -> Option<u64> {
        self.created_at
    }

    /// The value of any field that is shown.
    pub fn field(&self, kind: u64) -> Option<&[u8]> {
        records(&self.bytes)
            .find(|record| record.kind == kind)
            .map(|record| record.value)
    }

    /// The payee's signature of the invoice.
    pub const fn invoice_signature(&self) -> &schnorr::Signature {
        &self.signature
    }

    /// The payer's signature of the proof.
    pub const fn proof_signature(&self) -> &schnorr::Signature {
        &self.proof_signature
    }

    /// The Merkle root of the whole invoice, by which two proofs of one invoice are known.
    pub const fn invoice_merkle_root(&self) -> &[u8; 32] {
        &self.invoice_merkle_root
    }
}

impl FromStr for PayerProof {
    type Err = ParseError;

    /// [`PayerProof::parse`] with a context of its own, for when there is none at hand.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(&Secp256k1::verification_only(), text)
    }
}

impl fmt::Display for PayerProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(PREFIX, &self.bytes))
    }
}

impl SignedMessage for PayerProof {
    type Content = ();
}

impl Sealed for PayerProof {
    const NAME: &'static str = "payer_proof";
    const SIGNATURE: Field = Field::ProofSignature;

    fn from_signed<C: Verification>(secp: &Secp256k1<C>, bytes: &[u8]) -> Result<Self, ParseError> {
        Self::from_bytes(secp, bytes)
    }
}

/// A payer proof that waits for its payer's signature, by the key of `invreq_payer_id`.
pub type UnsignedPayerProof = Unsigned<PayerProof>;

impl Invoice {
    /// Proves that this invoice was paid, to whom it was shown.
    ///
    /// `preimage` is what the payment gave. The proof shows the fields of `disclosure`; `invreq_metadata` (0),
    /// signatures (240 to 1000), what a proof has of its own (1001 to 999999999) and what lies above 3999999999
    /// can't be asked for.
    pub fn prove(
        &self,
        preimage: PaymentPreimage,
        disclosure: &Disclosure,
    ) -> Result<UnsignedPayerProof, BuildError> {
        if preimage.payment_hash() != self.invoice().payment_hash {
            return Err(ParseError::WrongPreimage.into());
        }
        if let Some(kind) = disclosure.types.iter().find(|kind| !can_be_shown(**kind)) {
            return Err(BuildError::NotDisclosable(*kind));
        }
        let shown = |kind: u64| {
            REQUIRED.iter().any(|field| field.number() == kind) || disclosure.types.contains(&kind)
        };
        let tree = Tree::new();
        let leaves: Vec<Leaf> = tree.leaves(self.as_bytes()).collect();
        let mut missing_hashes = Vec::new();
        let subtrees: Vec<Subtree> = leaves
            .iter()
            .map(|leaf| match shown(leaf.kind) {
                true => Subtree::Shown(leaf.hash),
                false => Subtree::Hidden(Some(leaf.hash)),
            })
            .collect();
        tree.root(&subtrees, &mut |hash| {
            missing_hashes.extend(hash);
            hash
        });

        let mut out = StreamBuilder::default();
        out.copy_if(self.as_bytes(), shown);
        out.put(Field::Signature, self.signature());
        out.put(Field::ProofPreimage, preimage.as_bytes());
        let omitted = markers(leaves.iter().map(|leaf| (leaf.kind, shown(leaf.kind))));
        check_markers(&omitted)?;
        if !omitted.is_empty() {
            out.put(
                Field::ProofOmittedTlvs,
                &concat(omitted.into_iter().map(BigSize)),
            );
        }
        out.put(Field::ProofMissingHashes, &concat(missing_hashes));
        let nonces = leaves.iter().filter(|leaf| shown(leaf.kind));
        out.put(
            Field::ProofLeafHashes,
            &concat(nonces.map(|leaf| leaf.nonce)),
        );
        if let Some(note) = &disclosure.note {
            out.put(Field::ProofNote, &Utf8(note.clone()));
        }
        Ok(Unsigned::new(out.finish(), ()))
    }
}

fn concat<T: Encode>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut out = Vec::new();
    items.into_iter().for_each(|item| item.encode(&mut out));
    out
}

/// Whether a proof may show a field of the invoice.
const fn can_be_shown(kind: u64) -> bool {
    kind != 0 && kind <= TYPE_MAX && !matches!(Range::of(kind), Range::Signature | Range::Proof)
}

/// The marker after a type or a marker.
const fn next_marker(before: u64) -> u64 {
    match before.saturating_add(1) {
        240..EXPERIMENTAL => EXPERIMENTAL,
        next => next,
    }
}

/// `proof_omitted_tlvs`: a number for each hidden field that says where it is but not what it is. Type 0 is
/// always hidden and has none.
fn markers(fields: impl Iterator<Item = (u64, bool)>) -> Vec<u64> {
    let mut before = 0;
    let mut markers = Vec::new();
    for (kind, is_shown) in fields.filter(|(kind, _)| *kind != 0) {
        before = if is_shown {
            kind
        } else {
            let marker = next_marker(before);
            markers.push(marker);
            marker
        };
    }
    markers
}

/// Markers are types that an invoice can have, each above the one before.
fn check_markers(omitted: &[u64]) -> Result<(), ParseError> {
    let mut before = 0;
    for &marker in omitted {
        if !can_be_shown(marker) {
            return Err(ParseError::InvalidMarker(marker));
        }
        if marker <= before {
            return Err(ParseError::MarkerOutOfOrder(marker));
        }
        before = marker;
    }
    Ok(())
}

/// BOLT 12, Payer Proofs, the reader: the Merkle root of the invoice, from what is shown and what stands in for
/// the rest.
fn invoice_root(
    bytes: &[u8],
    omitted: &[u64],
    missing_hashes: &[Hash32],
    leaf_hashes: &[Hash32],
) -> Result<Hash32, ParseError> {
    check_markers(omitted)?;
    let shown: Vec<_> = records(bytes)
        .filter(|record| can_be_shown(record.kind))
        .collect();
    if shown.len() != leaf_hashes.len() {
        return Err(ParseError::LeafHashCount {
            hashes: leaf_hashes.len(),
            fields: shown.len(),
        });
    }
    let tree = Tree::new();
    let mut shown = shown
        .iter()
        .zip(leaf_hashes)
        .map(|(record, nonce)| (record.kind, tree.leaf(record, nonce)))
        .peekable();
    let mut leaves = alloc::vec![Subtree::Hidden(None)];
    let mut before = 0;
    for &marker in omitted {
        // What is shown below the marker comes before what the marker stands for.
        while let Some((kind, hash)) = shown.next_if(|(kind, _)| *kind <= marker) {
            if kind == marker {
                return Err(ParseError::MarkerIsShown(marker));
            }
            leaves.push(Subtree::Shown(hash));
            before = kind;
        }
        if marker != next_marker(before) {
            return Err(ParseError::MarkerNotMinimal(marker));
        }
        leaves.push(Subtree::Hidden(None));
        before = marker;
    }
    leaves.extend(shown.map(|(_, hash)| Subtree::Shown(hash)));
    let mut missing = missing_hashes.iter().copied();
    match tree.root(&leaves, &mut |_| missing.next()) {
        Some(root) if missing.len() == 0 => Ok(root),
        Some(_) | None => Err(ParseError::MissingHashCount(missing_hashes.len())),
    }
}
