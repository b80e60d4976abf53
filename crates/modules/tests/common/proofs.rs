//! Keys and proofs that say what they are, and a verifier that believes them.

use alloy_primitives::{B256, Bytes, keccak256};
use assay_abi::{IClaims, IModels, IStaking, proof_key_parts};
use assay_modules::{
    AnswerCase, KeyInfo, ProofFault, ProofStatement, ProofVerifier, RunSize, StoredKey,
};

use super::*;

/// The salt that opens the commitments of honest receipts.
pub fn salt() -> B256 {
    keccak256("salt")
}

/// Gas of any proof.
pub const PROOF_GAS: u64 = 10_000;

/// Key of a model: its id, its structure, and a tail.
pub fn key_of(shape: &Shape, tail: &[u8]) -> Vec<u8> {
    [shape.model_id().as_slice(), &shape.encode(), tail].concat()
}

/// A proof in clear.
#[derive(Clone, Debug)]
pub struct FakeProof {
    pub committed: bool,
    pub valid: bool,
    pub runs: u8,
    pub model_id: B256,
    pub key_id: B256,
    pub input_commit: B256,
    pub output_commit: B256,
    pub n_in: u32,
    pub context: Vec<u8>,
}

const HEAD: usize = 3 + 4 * 32 + 4;

impl FakeProof {
    pub fn encode(&self) -> Bytes {
        let flags = [u8::from(self.committed), u8::from(self.valid), self.runs];
        let words = [
            self.model_id,
            self.key_id,
            self.input_commit,
            self.output_commit,
        ];
        [
            &flags[..],
            &words.concat(),
            &self.n_in.to_le_bytes(),
            &self.context,
        ]
        .concat()
        .into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < HEAD {
            return Err(format!("{} bytes are no proof", bytes.len()));
        }
        let word = |i: usize| B256::from_slice(&bytes[3 + 32 * i..35 + 32 * i]);
        Ok(Self {
            committed: bytes[0] == 1,
            valid: bytes[1] == 1,
            runs: bytes[2],
            model_id: word(0),
            key_id: word(1),
            input_commit: word(2),
            output_commit: word(3),
            n_in: u32::from_le_bytes(bytes[HEAD - 4..HEAD].try_into().unwrap()),
            context: bytes[HEAD..].to_vec(),
        })
    }
}

pub struct FakeProofs;

impl ProofVerifier for FakeProofs {
    fn inspect_key(&self, key: &[u8]) -> Result<KeyInfo, String> {
        if key.len() < 58 {
            return Err(format!("{} bytes are no key", key.len()));
        }
        if key.ends_with(b"not canonical") {
            return Err("it is not in its canonical form".to_string());
        }
        Ok(KeyInfo {
            key_id: keccak256(key),
            model_id: B256::from_slice(&key[..32]),
            structure: key[32..58].to_vec(),
        })
    }

    fn inspect_gas(&self, key: usize, _: usize) -> u64 {
        key as u64
    }

    fn statement(&self, proof: &[u8]) -> Result<ProofStatement, String> {
        let proof = FakeProof::decode(proof)?;
        Ok(ProofStatement {
            committed: proof.committed,
            model_id: proof.model_id,
            key_id: proof.key_id,
            runs: proof.runs.into(),
            input_hash: proof.input_commit,
            output_hash: proof.output_commit,
            sampling_hash: keccak256([]),
            context: proof.context,
        })
    }

    fn verify(&self, key: StoredKey<'_>, proof: &[u8]) -> Result<u32, String> {
        let proof = FakeProof::decode(proof)?;
        assert_eq!(key.key_id, keccak256(key.bytes), "its id is its hash");
        assert_eq!(proof.key_id, key.key_id, "the stored key is the one set");
        if proof.valid {
            Ok(100)
        } else {
            Err("it is false".to_string())
        }
    }

    fn answers(&self, case: &AnswerCase<'_>) -> Result<u32, ProofFault> {
        let proof = FakeProof::decode(case.proof).map_err(ProofFault::Refused)?;
        for (field, have, want) in [
            ("salt", case.salt, salt()),
            ("input", proof.input_commit, case.input_commit),
            ("output", proof.output_commit, case.output_commit),
        ] {
            if have != want {
                return Err(ProofFault::Mismatch { field, have, want });
            }
        }
        let size = RunSize {
            n_in: proof.n_in,
            n_out: 1,
        };
        if size != case.size {
            return Err(ProofFault::Refused("another size".to_string()));
        }
        self.verify(case.key, case.proof)
            .map_err(ProofFault::Refused)
    }

    fn gas(&self, _: StoredKey<'_>, _: &[u8]) -> u64 {
        PROOF_GAS
    }
}

impl World {
    pub fn set_key(&mut self, caller: Address, shape: &Shape, key: &[u8]) -> Result<B256, Bytes> {
        let call = IModels::setProofKeyCall {
            modelId: shape.model_id(),
            key: key.to_vec().into(),
        };
        self.call(caller, MODELS, &call)
    }

    /// Announces a key by its parts, under its own id.
    pub fn announce(&mut self, caller: Address, shape: &Shape, key: &[u8]) -> Result<B256, Bytes> {
        let key_id = keccak256(key);
        let call = IModels::announceProofKeyCall {
            modelId: shape.model_id(),
            keyId: key_id,
            length: key.len() as u32,
            hashes: proof_key_parts(key).map(keccak256).collect(),
        };
        self.call(caller, MODELS, &call).map(|_| key_id)
    }

    /// Uploads a part; returns how many are missing.
    pub fn add_part(
        &mut self,
        shape: &Shape,
        key_id: B256,
        index: u32,
        part: &[u8],
    ) -> Result<u32, Bytes> {
        let call = IModels::addProofKeyPartCall {
            modelId: shape.model_id(),
            keyId: key_id,
            index,
            part: part.to_vec().into(),
        };
        self.call(account(40).address, MODELS, &call)
    }

    pub fn key_view(&mut self, shape: &Shape) -> IModels::ProofKey {
        let call = IModels::proofKeyCall {
            modelId: shape.model_id(),
        };
        self.view(MODELS, &call)
    }

    /// The key's bytes, in calls of a size that does not fit its parts.
    pub fn key_bytes(&mut self, shape: &Shape) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let call = IModels::proofKeyBytesCall {
                modelId: shape.model_id(),
                offset: U256::from(out.len()),
                count: U256::from(50_001),
            };
            let bytes = self.view(MODELS, &call);
            if bytes.is_empty() {
                return out;
            }
            out.extend_from_slice(&bytes);
        }
    }

    pub fn attest(&mut self, operator: Address, shape: &Shape, key_id: B256) -> Result<(), Bytes> {
        let call = IModels::attestProofKeyCall {
            modelId: shape.model_id(),
            keyId: key_id,
        };
        self.call(operator, MODELS, &call).map(|_| ())
    }

    /// Registers account `number` as an operator.
    pub fn bonded(&mut self, number: u8) -> Address {
        let address = account(number).address;
        let register = IStaking::registerCall {
            receiptKey: account(number + 100).address,
            endpoint: "http://there".to_string(),
        };
        self.pay(address, STAKING, 10_000 * ASSAY, &register)
            .expect("register");
        address
    }

    /// A world whose model has a usable key.
    pub fn provable(shape: Shape) -> (Self, B256) {
        let mut world = Self::ready(shape);
        let (maker, operator) = (world.maker.address, world.operator.address);
        let key = key_of(&shape, b"tail");
        let key_id = world.set_key(maker, &shape, &key).expect("key");
        world.attest(operator, &shape, key_id).expect("attest");
        (world, key_id)
    }

    /// A proof that answers a claim of this receipt.
    pub fn proof_of(&mut self, claim_id: B256, key_id: B256) -> FakeProof {
        let claim = self.claim(claim_id);
        let call = IClaims::proofContextCall { claimId: claim_id };
        FakeProof {
            committed: true,
            valid: true,
            runs: 1,
            model_id: claim.modelId,
            key_id,
            input_commit: claim.inputCommit,
            output_commit: claim.outputCommit,
            n_in: claim.nIn,
            context: self.view(CLAIMS, &call).to_vec(),
        }
    }

    pub fn prove(&mut self, claim_id: B256, proof: &FakeProof) -> Result<(), Bytes> {
        self.prove_with(claim_id, salt(), proof.encode())
    }

    pub fn prove_with(&mut self, claim_id: B256, salt: B256, proof: Bytes) -> Result<(), Bytes> {
        let call = IClaims::answerWithProofCall {
            claimId: claim_id,
            salt,
            proof,
        };
        self.call(account(16).address, CLAIMS, &call).map(|_| ())
    }
}
