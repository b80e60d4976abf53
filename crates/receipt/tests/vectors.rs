//! Pinned bytes. A change here is a change of the protocol.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_primitives::{hex, keccak256};
use assay_receipt::{Receipt, Request};
use common::{DOMAIN, SALT, key, receipt, request};

const TYPE_HASH: &str = "0x1c10abbb48f8bee424cdc68353cf1ad90ab5613fdabb35fe0ca5ffe328fff2cb";
const REQUEST_TYPE_HASH: &str =
    "0x1210f3ee7f309423b5f121345f574ba563592e966924444ef8559a59c0b759e3";
const SEPARATOR: &str = "0x5be4223d78c0fcf40b0915a2d66318de60ec6e81beaee5250282170afb39e74a";
const CLAIM_ID: &str = "0x0144c89c5d14e5e87526dc3be215a1f8af261eb0da99727bc0ee36512ffe4833";
const DIGEST: &str = "0x2129af1a810591491087faf0429602cd3c0edf05538e7aa99a34de8c007b1673";
const SIGNATURE: &str = "0xcd704a4396b23f9c695382cd9ada64622aaa33ea504309c21d3c68de7350f8e7300ecc7ddfc8457a183b1edb3d7679249058d6407daa1c912aaecab9336cd96a1b";
const BYTES_HASH: &str = "0x7ca7e584e62018f4711e07e1e4571acec3fc66b7dce7f3a8b3c72b93b5463252";
const REQUEST_HASH: &str = "0xb9fb3d11a811f2822ebda9ce1294c04e6b599f2d58b2fef8511d2163f8a8f9a0";
const COMMITS: [&str; 2] = [
    "0x9bdc035a998b9b2ae2ae619e61ab88d90bc06ee5ac0270c6f7ac3aa8ffed4ba4",
    "0xa405638c6aa7e159d4c0eb7a7c45087b4848bfa19b6084bff4bf73e5e5c9eeeb",
];

#[test]
fn pinned() {
    let receipt = receipt();
    let have = [
        keccak256(Receipt::TYPE).to_string(),
        keccak256(Request::TYPE).to_string(),
        DOMAIN.separator().to_string(),
        receipt.claim_id().to_string(),
        receipt.digest(&DOMAIN).to_string(),
        hex::encode_prefixed(receipt.sign(&DOMAIN, &key(1)).0),
        keccak256(receipt.encode()).to_string(),
        request().struct_hash().to_string(),
        assay_receipt::input_commit(SALT, b"abc").to_string(),
        assay_receipt::output_commit(SALT, b"abc").to_string(),
    ];
    let want = [
        TYPE_HASH,
        REQUEST_TYPE_HASH,
        SEPARATOR,
        CLAIM_ID,
        DIGEST,
        SIGNATURE,
        BYTES_HASH,
        REQUEST_HASH,
        COMMITS[0],
        COMMITS[1],
    ];
    assert_eq!(have, want, "{have:#?}");
}

const SCRIPT: &str = r#"
const { TypedDataEncoder, Signature, recoverAddress, SigningKey, keccak256, getBytes, concat } = require("ethers");
const spec = JSON.parse(require("fs").readFileSync(0, "utf8"));
const types = (text) => {
  const [, name, fields] = /^(\w+)\((.*)\)$/.exec(text);
  return { [name]: fields.split(",").map((f) => ({ type: f.split(" ")[0], name: f.split(" ")[1] })) };
};
const domain = { name: "Assay Receipt", version: "1", chainId: spec.chainId, verifyingContract: spec.claims };
const receiptTypes = types(spec.receiptType), requestTypes = types(spec.requestType);
const digest = TypedDataEncoder.hash(domain, receiptTypes, spec.receipt);
const signature = new SigningKey("0x" + "01".repeat(32)).sign(digest);
const words = receiptTypes.Receipt.map((f) => {
  const v = spec.receipt[f.name];
  return f.type === "bytes32" ? v : "0x" + BigInt(v).toString(16).padStart(64, "0");
});
console.log(JSON.stringify([
  TypedDataEncoder.hashDomain(domain),
  TypedDataEncoder.hashStruct("Receipt", receiptTypes, spec.receipt),
  digest,
  signature.serialized,
  recoverAddress(digest, Signature.from(spec.signature)).toLowerCase(),
  TypedDataEncoder.hashStruct("Request", requestTypes, spec.request),
  keccak256(concat(["0x01", ...words])),
]));
"#;

/// Folder under the build directory with `ethers` installed, or why there is none.
fn ethers() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ethers");
    if folder.join("node_modules/ethers/package.json").exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    std::fs::write(folder.join("package.json"), r#"{"private":true}"#)
        .map_err(|error| error.to_string())?;
    let install = Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "ethers@6.15.0",
        ])
        .current_dir(&folder)
        .output()
        .map_err(|error| format!("npm: {error}"))?;
    if install.status.success() {
        return Ok(folder);
    }
    Err(format!(
        "npm install ethers: {}",
        String::from_utf8_lossy(&install.stderr)
    ))
}

#[test]
fn a_javascript_library_computes_the_same() {
    let folder = match ethers() {
        Ok(folder) => folder,
        Err(reason) => {
            // Written past the capture of the test harness, so that a skip is seen.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED a_javascript_library_computes_the_same: {reason}"
            );
            return;
        }
    };
    let receipt = receipt();
    let signature = receipt.sign(&DOMAIN, &key(1));
    let spec = serde_json::json!({
        "chainId": DOMAIN.chain_id,
        "claims": DOMAIN.claims,
        "receiptType": Receipt::TYPE,
        "requestType": Request::TYPE,
        "receipt": receipt,
        "request": request(),
        "signature": hex::encode_prefixed(signature.0),
    });
    std::fs::write(folder.join("check.js"), SCRIPT).unwrap();
    std::fs::write(folder.join("spec.json"), spec.to_string()).unwrap();
    let run = Command::new("node")
        .arg("check.js")
        .current_dir(&folder)
        .stdin(std::fs::File::open(folder.join("spec.json")).unwrap())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let theirs: Vec<String> = serde_json::from_slice(&run.stdout).unwrap();
    let ours = [
        DOMAIN.separator().to_string(),
        receipt.claim_id().to_string(),
        receipt.digest(&DOMAIN).to_string(),
        hex::encode_prefixed(signature.0),
        key(1).address().to_string().to_lowercase(),
        request().struct_hash().to_string(),
        keccak256(receipt.encode()).to_string(),
    ];
    assert_eq!(theirs, ours);
}
