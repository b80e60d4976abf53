//! The JSON interfaces that contract developers read are those of the Rust types.

use assay_abi::{
    IBurn, IClaims, IClock, IDisputes, IErrors, IModels, IParameters, IPools, IStaking, IUsd,
};
use serde_json::Value;

/// Sets this variable to write new files on purpose.
const UPDATE: &str = "ASSAY_UPDATE_ABI";

fn check(name: &str, interface: impl serde::Serialize) {
    let mut value = serde_json::to_value(interface).expect("an interface is JSON");
    sort(&mut value);
    let text = format!("{}\n", serde_json::to_string_pretty(&value).expect("JSON"));
    let path = format!("{}/abi/{name}.json", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &text).expect("write");
    }
    assert!(
        std::fs::read_to_string(&path).expect("read") == text,
        "{path} differs; set {UPDATE} to write it"
    );
}

/// Entries in order of kind and name, so that the file does not depend on the map's order.
fn sort(value: &mut Value) {
    if let Value::Array(entries) = value {
        entries.sort_by_key(|entry| {
            (
                entry["type"].to_string(),
                entry["name"].to_string(),
                entry["inputs"].to_string(),
            )
        });
    }
}

#[test]
fn interfaces_are_the_checked_in_ones() {
    check("IBurn", IBurn::abi::contract());
    check("IClaims", IClaims::abi::contract());
    check("IClock", IClock::abi::contract());
    check("IDisputes", IDisputes::abi::contract());
    check("IErrors", IErrors::abi::contract());
    check("IModels", IModels::abi::contract());
    check("IParameters", IParameters::abi::contract());
    check("IPools", IPools::abi::contract());
    check("IStaking", IStaking::abi::contract());
    check("IUsd", IUsd::abi::contract());
}

/// Hashes that other implementations must reproduce.
#[test]
fn type_hashes_of_signed_structs_are_pinned() {
    use alloy_primitives::{b256, keccak256};
    use alloy_sol_types::SolStruct;
    let request = assay_abi::Request::default();
    assert_eq!(
        assay_abi::Request::eip712_root_type(),
        "Request(uint8 version,bytes32 lineId,uint64 seq,bytes32 modelId,uint32 semantics,bytes32 inputCommit,bytes32 samplingHash,uint32 maxOut,uint128 maxFee,uint128 valueAtRisk,uint8 tierMask,uint32 auditPpm,uint32 window,uint64 expiry)"
    );
    assert_eq!(
        keccak256(assay_abi::RECEIPT_TYPE),
        b256!("1c10abbb48f8bee424cdc68353cf1ad90ab5613fdabb35fe0ca5ffe328fff2cb")
    );
    assert_eq!(
        request.eip712_type_hash(),
        b256!("1210f3ee7f309423b5f121345f574ba563592e966924444ef8559a59c0b759e3")
    );
    let domain = assay_abi::receipt_domain(31_337, assay_abi::CLAIMS);
    assert_eq!(
        domain.hash_struct(),
        b256!("5be4223d78c0fcf40b0915a2d66318de60ec6e81beaee5250282170afb39e74a")
    );
    assert_eq!(
        assay_abi::Receipt::default().signing_hash(&domain),
        b256!("b3a0c927406cde7ff12b1e2cb7b6727672c27e37f89f8067a31b35d13afdd931")
    );
}

#[test]
fn addresses_follow_number_and_version() {
    assert_eq!(
        assay_abi::CLAIMS.to_string().to_lowercase(),
        "0xa55a000000000000000000000000000000000401"
    );
    assert_eq!(
        assay_abi::PARAMETERS.to_string().to_lowercase(),
        "0xa55a000000000000000000000000000000001101"
    );
    for (name, number, version, address) in assay_abi::MODULES {
        assert_eq!(assay_abi::address(number, version), address, "{name}");
    }
}
