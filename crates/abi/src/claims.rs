//! `claims`: buyers' balances, receipts, claims, settlement.
//!
//! A receipt travels as `bytes32[27]`: its 27 static fields as big-endian words in the order of [`crate::Receipt`],
//! which is also what `abi.encode` of the struct and the tail of its EIP-712 preimage contain.

use alloy_primitives::Address;
use alloy_sol_types::Eip712Domain;

alloy_sol_types::sol! {
    /// What the requester asked and how much it may cost, signed by the requester.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Request {
        uint8 version;
        bytes32 lineId;
        /// 0: the operator gives the place.
        uint64 seq;
        bytes32 modelId;
        uint32 semantics;
        bytes32 inputCommit;
        bytes32 samplingHash;
        uint32 maxOut;
        uint128 maxFee;
        uint128 valueAtRisk;
        /// Bit t set: tier t is acceptable.
        uint8 tierMask;
        uint32 auditPpm;
        uint32 window;
        uint64 expiry;
    }

    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IClaims {
        /// state: 0 none, 1 asserted, 2 challenged, 3 final, 4 rejected, 5 skipped, 6 refunded.
        struct Claim {
            uint8 state;
            address operator;
            address requester;
            bytes32 lineId;
            uint64 seq;
            bytes32 modelId;
            bytes32 inputCommit;
            bytes32 outputCommit;
            bytes32 traceRoot;
            uint64 nLeaves;
            uint32 nIn;
            uint8 tier;
            uint128 fee;
            uint128 valueAtRisk;
            uint128 exposure;
            /// Chain milliseconds.
            uint64 assertedAt;
            uint64 deadline;
            bool extended;
            uint32 openDisputes;
            uint32 generation;
        }
        struct Line {
            uint64 assertedSeq;
            uint128 cumExposure;
            /// Exposure of this line's open claims.
            uint128 outstanding;
        }

        event Deposited(address indexed buyer, address indexed from, uint256 amount, uint256 balance);
        /// The amount stays chargeable until it is withdrawn.
        event WithdrawalAnnounced(address indexed buyer, uint256 amount, uint64 readyAt);
        event Withdrawn(address indexed buyer, uint256 amount, uint256 balance);
        event SignerAuthorized(address indexed requester, address indexed signer, uint64 until);
        event Asserted(bytes32 indexed claimId, address indexed operator, address indexed requester, bytes32 lineId, uint64 seq, bytes32 modelId, uint128 fee, uint128 exposure, uint64 deadline);
        /// The whole receipt (its 27 words), for watchers.
        event ReceiptPosted(bytes32 indexed claimId, bytes32[27] receipt, bytes signature);
        event LeavesPosted(bytes32 indexed claimId, uint64 count);
        event Challenged(bytes32 indexed claimId, uint32 openDisputes, uint64 deadline);
        event Defended(bytes32 indexed claimId, uint32 openDisputes);
        event Finalized(bytes32 indexed claimId, address indexed operator, uint128 fee);
        event FeeSplit(bytes32 indexed claimId, uint256 operator, uint256 maker, uint256 stakers, uint256 data, uint256 verifiers, uint256 treasury, uint256 burn);
        /// A proof of the answer was accepted; `bits` of soundness.
        event Proven(bytes32 indexed claimId, bytes32 indexed keyId, uint32 bits);
        event Rejected(bytes32 indexed claimId, address indexed operator, address indexed challenger, uint128 refunded, uint256 slashed);
        event Refunded(bytes32 indexed claimId, address indexed requester, uint128 amount);
        event Skipped(bytes32 indexed claimId, bytes32 indexed lineId, uint64 seq);
        event Equivocated(address indexed operator, bytes32 indexed lineId, uint64 seq, bytes32 first, bytes32 second, address reporter);

        error InsufficientBalance(address buyer, uint256 have, uint256 need);
        error WithdrawalNotReady(uint256 announced, uint64 readyAt, uint64 now);
        error UnknownClaim(bytes32 claimId);
        error ClaimExists(bytes32 claimId);
        error UnsupportedVersion(uint8 have, uint8 want);
        error UnsupportedTier(uint8 tier);
        error TierNotRequested(uint8 tier, uint8 tierMask);
        error BadFlags(uint16 flags);
        error WrongLine(bytes32 have, bytes32 want);
        error SeqGap(bytes32 lineId, uint64 have, uint64 want);
        error CumExposureMismatch(uint128 have, uint128 want);
        error WrongSigner(address signer, address expected);
        error KeyNotValid(address key, uint64 issuedAt, uint64 from, uint64 until);
        error RequestMismatch(string field);
        /// The request left its place open, and a receipt of it was asserted already.
        error RequestSpent(bytes32 requestHash);
        error RequestHashMismatch(bytes32 have, bytes32 want);
        error FeeAboveMax(uint128 fee, uint128 maxFee);
        error RequestExpired(uint64 expiry, uint64 issuedAt);
        error IncludeByPassed(uint64 includeBy, uint64 now);
        error IncludeByRange(uint64 issuedAt, uint64 includeBy, uint64 maxDelay);
        error WindowRange(uint32 window, uint32 low, uint32 high);
        error AuditBelowBase(uint32 auditPpm, uint32 base);
        error ExposureTooSmall(uint128 exposure, uint128 need);
        error SemanticsMismatch(uint32 have, uint32 want);
        error LeafCountMismatch(uint64 have, uint64 want);
        error SeqTooLong(uint32 have, uint32 limit);
        error MissingTrace(uint8 tier);
        error UnexpectedEvidence(bytes32 evidenceHash);
        error LeavesMismatch(bytes32 root, bytes32 want);
        error NotFinal(uint64 deadline, uint64 now);
        error OpenDisputes(uint32 count);
        error NotEquivocation();
        error AlreadyReported(bytes32 lineId, uint64 seq);
        /// A claim of tier zk becomes final by a proof alone, and there is nothing to challenge in it.
        error ProofRequired(bytes32 claimId);
        /// A part of the proof's statement is not the claim's; hashes where the part is no word.
        error ProofMismatch(string field, bytes32 have, bytes32 want);
        error ProofTooLong(uint256 length, uint256 limit);
        error ProofRefused(string reason);

        /// Moves usd of the caller into its balance here (no allowance needed).
        function deposit(uint256 amount) external;
        /// Moves usd of the caller into the balance of `buyer`.
        function depositFor(address buyer, uint256 amount) external;
        /// Deposits by the EIP-3009 `ReceiveWithAuthorization` of `from` to this module; anyone may send it and pay the gas.
        function depositWithAuthorization(address from, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes memory signature) external;
        /// Announces a withdrawal, replacing an earlier one; needed where the network has a withdrawal delay, so that whoever has
        /// just answered is still paid.
        function announceWithdrawal(uint256 amount) external;
        /// Pays out; with a delay, up to the announced amount and from its time on.
        function withdraw(uint256 amount) external;
        /// Lets `signer` sign requests that the caller pays for, until `until` (chain seconds; 0 ends it). For contracts, agents
        /// and gateways, whose paying account is not the signing key.
        function authorizeSigner(address signer, uint64 until) external;
        function assertSingle(bytes32[27] memory receipt, bytes memory signature, Request memory request, bytes memory requestSignature) external returns (bytes32 claimId);
        /// As `assertSingle`; the flat leaf list is checked against the receipt's trace root and lies open in calldata.
        function assertWithLeaves(bytes32[27] memory receipt, bytes memory signature, Request memory request, bytes memory requestSignature, bytes32[] memory leaves) external returns (bytes32 claimId);
        function finalize(bytes32 claimId) external;
        function finalizeMany(bytes32[] memory claimIds) external returns (uint256 finalized);
        /// Advances a line over a receipt whose `includeBy` has passed unasserted; nothing is paid, nothing locked.
        function skip(bytes32[27] memory receipt, bytes memory signature) external;
        /// Two different receipts of one (line, seq), both signed by the operator's keys.
        function equivocation(bytes32[27] memory first, bytes memory firstSignature, bytes32[27] memory second, bytes memory secondSignature) external;

        /// Ends an asserted or challenged claim by a proof of its answer; anyone may send it. `salt` opens both commitments, so input
        /// and output become public. The proof's context must be `proofContext(claimId)`. Claims of tier zk: before the deadline.
        function answerWithProof(bytes32 claimId, bytes32 salt, bytes memory proof) external;
        /// Rejects a claim of tier zk that was not proven before its deadline: the fee goes back, its exposure is slashed.
        function expire(bytes32 claimId) external;

        /// Whether a proof of this claim's answer was accepted.
        function isProven(bytes32 claimId) external view returns (bool);
        /// What a proof for this claim must name: "assay claim v1", chain id (8 bytes, big endian), body id.
        function proofContext(bytes32 claimId) external view returns (bytes memory);
        function claim(bytes32 claimId) external view returns (Claim memory);
        function balanceOf(address buyer) external view returns (uint256);
        function withdrawalOf(address buyer) external view returns (uint256 amount, uint64 readyAt);
        /// Chain seconds until which `signer` may sign requests of `requester`.
        function signerUntil(address requester, address signer) external view returns (uint64);
        function line(bytes32 lineId) external view returns (Line memory);
        function lineIdOf(address operator, address requester) external pure returns (bytes32);
        /// Least exposure (stake units) of a receipt with these terms.
        function requiredExposure(uint128 fee, uint128 valueAtRisk, uint32 auditPpm) external view returns (uint128);
        function receiptHash(bytes32[27] memory receipt) external view returns (bytes32 claimId, bytes32 digest);
        function requestHash(Request memory request) external view returns (bytes32 structHash, bytes32 digest);
        function DOMAIN_SEPARATOR() external view returns (bytes32);
        /// usd held: buyers' balances, fees in escrow.
        function escrowTotal() external view returns (uint256 balances, uint256 fees);
    }
}

/// EIP-712 domain of receipts and requests.
pub fn receipt_domain(chain_id: u64, claims: Address) -> Eip712Domain {
    alloy_sol_types::eip712_domain! {
        name: "Assay Receipt",
        version: "1",
        chain_id: chain_id,
        verifying_contract: claims,
    }
}
