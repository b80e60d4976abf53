//! Decoding of transactions: one encoding per value, no panic on any bytes, signatures in the lower half only.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, address};
use assay_types::{MAX_TRANSACTION_BYTES, Recovered, TransactionError};
use proptest::prelude::*;
use secp256k1::{Message, SECP256K1, SecretKey};

const CHAIN: u64 = 42_330;
const TO: Address = address!("00000000000000000000000000000000000000b0");

fn sign(hash: alloy_primitives::B256) -> Signature {
    let key = SecretKey::from_byte_array([3; 32]).unwrap();
    let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &key);
    let (parity, bytes) = signed.serialize_compact();
    Signature::new(
        U256::from_be_slice(&bytes[..32]),
        U256::from_be_slice(&bytes[32..]),
        i32::from(parity) == 1,
    )
}

fn dynamic(input: Bytes) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN,
        nonce: 4,
        gas_limit: 21_000,
        max_fee_per_gas: 9,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(TO),
        value: U256::from(1),
        input,
        ..TxEip1559::default()
    }
}

fn encoded(tx: TxEip1559) -> Vec<u8> {
    let signature = sign(tx.signature_hash());
    TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718()
}

fn decode(raw: Vec<u8>) -> Result<Recovered, TransactionError> {
    Recovered::decode(raw.into(), CHAIN, |_| false)
}

#[test]
fn sender_and_hash_are_those_of_the_signer() {
    let raw = encoded(dynamic(Bytes::new()));
    let recovered = decode(raw.clone()).unwrap();
    assert_eq!(recovered.hash(), alloy_primitives::keccak256(&raw));
    let other = decode(encoded(dynamic(Bytes::from_static(b"x")))).unwrap();
    assert_eq!(recovered.sender(), other.sender());
    assert_eq!(recovered.max_cost(), Some(U256::from(21_000 * 9 + 1)));
    assert_eq!(
        (recovered.tip(8), recovered.tip(9), recovered.tip(10)),
        (Some(1), Some(0), None)
    );
}

#[test]
fn a_signature_in_the_upper_half_is_refused() {
    let tx = dynamic(Bytes::new());
    let low = sign(tx.signature_hash());
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let high = Signature::new(low.r(), order - low.s(), !low.v());
    let raw = TxEnvelope::Eip1559(tx.into_signed(high)).encoded_2718();
    assert!(matches!(
        decode(raw),
        Err(TransactionError::BadSignature { .. })
    ));
}

#[test]
fn legacy_without_chain_id_and_other_chains_are_refused() {
    let legacy = |chain_id| {
        let tx = TxLegacy {
            chain_id,
            gas_price: 9,
            gas_limit: 21_000,
            to: TxKind::Call(TO),
            ..TxLegacy::default()
        };
        let signature = sign(tx.signature_hash());
        decode(TxEnvelope::Legacy(tx.into_signed(signature)).encoded_2718())
    };
    assert_eq!(legacy(None), Err(TransactionError::NoChainId));
    assert_eq!(
        legacy(Some(1)),
        Err(TransactionError::WrongChain {
            have: 1,
            want: CHAIN
        })
    );
    assert!(legacy(Some(CHAIN)).is_ok());
}

#[test]
fn size_is_bounded_by_destination() {
    let raw = encoded(dynamic(vec![0; MAX_TRANSACTION_BYTES].into()));
    assert!(matches!(
        decode(raw.clone()),
        Err(TransactionError::TooLarge { .. })
    ));
    assert!(Recovered::decode(raw.into(), CHAIN, |to| *to == TO).is_ok());
    let raw = encoded(dynamic(vec![0; 1 << 20].into()));
    assert!(Recovered::decode(raw.into(), CHAIN, |_| true).is_err());
}

proptest! {
    #[test]
    fn any_bytes_decode_to_themselves_or_to_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(found) = decode(bytes.clone()) {
            prop_assert_eq!(found.raw().as_ref(), bytes.as_slice());
        }
    }

    #[test]
    fn a_changed_transaction_is_another_one_or_an_error(
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut in 0usize..3,
    ) {
        let original = encoded(dynamic(Bytes::from_static(b"input")));
        let mut changed = original.clone();
        let at = at.index(changed.len());
        changed[at] ^= flip;
        changed.truncate(changed.len() - cut);
        if let Ok(found) = decode(changed.clone()) {
            let known = decode(original).unwrap();
            prop_assert_ne!(found.hash(), known.hash());
            prop_assert_eq!(found.encoded_2718(), changed);
        }
        let mut longer = encoded(dynamic(Bytes::new()));
        longer.push(flip);
        prop_assert!(decode(longer).is_err());
    }
}
