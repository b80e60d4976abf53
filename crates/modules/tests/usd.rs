//! ERC-20, EIP-2612, EIP-3009.

mod common;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolStruct;
use assay_abi::{IErrors, IUsd, USD};
use assay_modules::usd::domain;
use common::*;

alloy_sol_types::sol! {
    struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
    struct TransferWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
    struct ReceiveWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
    struct CancelAuthorization { address authorizer; bytes32 nonce; }
}

fn parts(signature: &Bytes) -> (u8, B256, B256) {
    (
        signature[64],
        B256::from_slice(&signature[..32]),
        B256::from_slice(&signature[32..64]),
    )
}

#[test]
fn money_moves_and_is_conserved() {
    let mut w = World::new();
    let (from, to, spender) = (account(3).address, account(4).address, account(6).address);
    let supply = w.view(USD, &IUsd::totalSupplyCall {});
    assert_eq!(
        w.call(
            from,
            USD,
            &IUsd::transferCall {
                to,
                amount: U256::from(70)
            }
        ),
        Ok(true)
    );
    assert_eq!(w.usd(to), 70);
    let over = IUsd::transferCall {
        to: from,
        amount: U256::from(71),
    };
    let short: IUsd::ERC20InsufficientBalance = assert_error(w.call(to, USD, &over));
    assert_eq!(
        (short.balance, short.needed),
        (U256::from(70), U256::from(71))
    );
    let huge = IUsd::transferCall {
        to: from,
        amount: U256::MAX,
    };
    assert_error::<IUsd::ERC20InsufficientBalance, _>(w.call(to, USD, &huge));
    let nobody = IUsd::transferCall {
        to: Address::ZERO,
        amount: U256::ONE,
    };
    assert_error::<IUsd::ERC20InvalidReceiver, _>(w.call(to, USD, &nobody));
    // A transfer to oneself changes nothing.
    w.call(
        to,
        USD,
        &IUsd::transferCall {
            to,
            amount: U256::from(70),
        },
    )
    .unwrap();
    assert_eq!(w.usd(to), 70);
    let pull = IUsd::transferFromCall {
        from: to,
        to: spender,
        amount: U256::from(30),
    };
    assert_error::<IUsd::ERC20InsufficientAllowance, _>(w.call(spender, USD, &pull));
    w.call(
        to,
        USD,
        &IUsd::approveCall {
            spender,
            amount: U256::from(40),
        },
    )
    .unwrap();
    w.call(spender, USD, &pull).unwrap();
    assert_eq!(
        w.view(USD, &IUsd::allowanceCall { owner: to, spender }),
        U256::from(10)
    );
    w.call(
        to,
        USD,
        &IUsd::approveCall {
            spender,
            amount: U256::MAX,
        },
    )
    .unwrap();
    w.call(spender, USD, &pull).unwrap();
    assert_eq!(
        w.view(USD, &IUsd::allowanceCall { owner: to, spender }),
        U256::MAX
    );
    assert_eq!((w.usd(to), w.usd(spender)), (10, 60));
    assert_eq!(w.view(USD, &IUsd::totalSupplyCall {}), supply);
}

#[test]
fn a_permit_works_once_and_in_time() {
    let mut w = World::new();
    let owner = account(3);
    let spender = account(6).address;
    let deadline = U256::from(w.now_seconds());
    let value = U256::from(500);
    let permit = Permit {
        owner: owner.address,
        spender,
        value,
        nonce: U256::ZERO,
        deadline,
    };
    let (v, r, s) = parts(&sign(&owner, permit.eip712_signing_hash(&domain(CHAIN))));
    let call = IUsd::permitCall {
        owner: owner.address,
        spender,
        value,
        deadline,
        v,
        r,
        s,
    };
    let forged = IUsd::permitCall {
        value: U256::MAX,
        ..call.clone()
    };
    assert_error::<IUsd::ERC2612InvalidSigner, _>(w.call(spender, USD, &forged));
    let form = IUsd::permitCall {
        v: v - 27,
        ..call.clone()
    };
    assert_error::<IErrors::BadSignature, _>(w.call(spender, USD, &form));
    w.call(spender, USD, &call).unwrap();
    assert_eq!(
        w.view(
            USD,
            &IUsd::allowanceCall {
                owner: owner.address,
                spender
            }
        ),
        value
    );
    assert_error::<IUsd::ERC2612InvalidSigner, _>(w.call(spender, USD, &call));
    w.advance(1_000);
    assert_error::<IUsd::ERC2612ExpiredSignature, _>(w.call(spender, USD, &call));
}

#[test]
fn an_authorisation_pays_once_to_its_payee() {
    let mut w = World::new();
    let from = account(3);
    let to = account(6).address;
    let now = w.now_seconds();
    let nonce = keccak256("invoice 1");
    let (value, after, before) = (U256::from(250), U256::from(now - 1), U256::from(now + 10));
    let message = TransferWithAuthorization {
        from: from.address,
        to,
        value,
        validAfter: after,
        validBefore: before,
        nonce,
    };
    let signature = sign(&from, message.eip712_signing_hash(&domain(CHAIN)));
    let (v, r, s) = parts(&signature);
    let call = IUsd::transferWithAuthorization_0Call {
        from: from.address,
        to,
        value,
        validAfter: after,
        validBefore: before,
        nonce,
        v,
        r,
        s,
    };
    let stranger = account(7).address;
    let redirected = IUsd::transferWithAuthorization_0Call {
        to: stranger,
        ..call.clone()
    };
    assert_error::<IUsd::AuthorizationInvalidSigner, _>(w.call(stranger, USD, &redirected));
    let mut early = call.clone();
    early.validAfter = U256::from(now);
    assert_error::<IUsd::AuthorizationNotYetValid, _>(w.call(stranger, USD, &early));
    w.call(stranger, USD, &call).unwrap();
    assert_eq!(w.usd(to), 250);
    assert!(w.view(
        USD,
        &IUsd::authorizationStateCall {
            authorizer: from.address,
            nonce
        }
    ));
    assert_error::<IUsd::AuthorizationAlreadyUsed, _>(w.call(stranger, USD, &call));
    w.advance(10_000);
    assert_error::<IUsd::AuthorizationExpired, _>(w.call(stranger, USD, &call));
}

#[test]
fn receiving_is_the_payees_and_cancelling_the_payers() {
    let mut w = World::new();
    let from = account(3);
    let to = account(6).address;
    let (after, before, value) = (U256::ZERO, U256::MAX, U256::from(9));
    let nonces = [keccak256("a"), keccak256("b")];
    let receive = |nonce| {
        let message = ReceiveWithAuthorization {
            from: from.address,
            to,
            value,
            validAfter: after,
            validBefore: before,
            nonce,
        };
        IUsd::receiveWithAuthorization_1Call {
            from: from.address,
            to,
            value,
            validAfter: after,
            validBefore: before,
            nonce,
            signature: sign(&from, message.eip712_signing_hash(&domain(CHAIN))),
        }
    };
    let call = receive(nonces[0]);
    assert_error::<IUsd::CallerMustBePayee, _>(w.call(account(7).address, USD, &call));
    // A receive authorisation is no transfer authorisation.
    let as_transfer = IUsd::transferWithAuthorization_1Call {
        from: call.from,
        to,
        value,
        validAfter: after,
        validBefore: before,
        nonce: nonces[0],
        signature: call.signature.clone(),
    };
    assert_error::<IUsd::AuthorizationInvalidSigner, _>(w.call(to, USD, &as_transfer));
    w.call(to, USD, &call).unwrap();
    assert_eq!(w.usd(to), 9);
    let cancel = CancelAuthorization {
        authorizer: from.address,
        nonce: nonces[1],
    };
    let digest = cancel.eip712_signing_hash(&domain(CHAIN));
    let by = |account: &Account| IUsd::cancelAuthorization_1Call {
        authorizer: from.address,
        nonce: nonces[1],
        signature: sign(account, digest),
    };
    assert_error::<IUsd::AuthorizationInvalidSigner, _>(w.call(to, USD, &by(&account(7))));
    w.call(to, USD, &by(&from)).unwrap();
    assert_error::<IUsd::AuthorizationAlreadyUsed, _>(w.call(to, USD, &receive(nonces[1])));
}
