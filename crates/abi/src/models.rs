//! `models`: registry by content hash; lineages and versions.

alloy_sol_types::sol! {
    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IModels {
        struct Model {
            bytes32 modelId;
            /// keccak256 of the lineage's name.
            bytes32 lineage;
            /// Position in the lineage, from 1.
            uint32 versionNumber;
            bytes32 graphRoot;
            bytes32 tablesRoot;
            bytes32 weightsRoot;
            uint32 nodeCount;
            uint32 maxSeq;
            uint32 semantics;
            bool singleShot;
            /// usd base units (6 decimals) per call, as listed by the maker.
            uint128 price;
            uint64 registeredAt;
            /// keccak256 of the structure bytes.
            bytes32 structureHash;
            /// Licence, manifest, or where the weights are.
            string uri;
        }
        struct Lineage {
            bytes32 lineage;
            string name;
            address maker;
            /// Maker's part of the model share, basis points.
            uint16 commissionBps;
            /// Higher commission that takes effect at `commissionFrom` (chain milliseconds); 0 if none.
            uint16 pendingCommissionBps;
            uint64 commissionFrom;
            uint32 versions;
            bytes32 latest;
        }
        /// What proofs about a model are checked with. Times are chain milliseconds.
        struct ProofKey {
            /// 0 if no key is set.
            bytes32 keyId;
            /// The key's canonical bytes.
            bytes key;
            uint64 setAt;
            /// Not usable before.
            uint64 usableFrom;
            /// Bonded operators that made the key again from the weights and found it equal; so many are needed.
            uint32 attesters;
            uint32 needed;
            /// Proofs are accepted under it, and it never changes any more.
            bool usable;
        }
        /// What the check of a proof found. Fields after `ok` are those of the proof's statement, and prove nothing unless `ok`.
        struct ProofCheck {
            bool ok;
            bytes32 modelId;
            bytes32 keyId;
            /// Runs that the proof is about.
            uint32 runs;
            /// Of one run keccak256 of its canonical input (output) bytes; of several keccak256 of those hashes, one after the other.
            bytes32 inputHash;
            bytes32 outputHash;
            /// Of one run keccak256 of its sampling statement's bytes, of several as above.
            bytes32 samplingHash;
            /// What the prover bound to the proof, at most 256 bytes.
            bytes context;
            /// Bits of soundness, rounded down; 0 unless `ok`.
            uint32 bits;
            /// Why not; empty if `ok`.
            string reason;
        }

        event LineageCreated(bytes32 indexed lineage, address indexed maker, string name, uint16 commissionBps);
        event ModelRegistered(bytes32 indexed modelId, bytes32 indexed lineage, uint32 versionNumber, uint128 price, string uri);
        event PriceChanged(bytes32 indexed modelId, uint128 price);
        event UriChanged(bytes32 indexed modelId, string uri);
        event CommissionChanged(bytes32 indexed lineage, uint16 commissionBps, uint64 from);
        event MakerChanged(bytes32 indexed lineage, address indexed maker);
        event ProofKeySet(bytes32 indexed modelId, bytes32 indexed keyId, uint64 usableFrom);
        event ProofKeyAttested(bytes32 indexed modelId, bytes32 indexed keyId, address indexed operator, uint32 attesters);

        error ModelRefused(string reason);
        error ModelExists(bytes32 modelId);
        error UnknownModel(bytes32 modelId);
        error UnknownLineage(bytes32 lineage);
        error NameTaken(string name, address maker);
        error BadName(uint256 length, uint256 limit);
        error UriTooLong(uint256 length, uint256 limit);
        error StructureTooLong(uint256 length, uint256 limit);
        error CommissionStep(uint16 have, uint16 want, uint16 maxStep);
        error ProofKeyTooLong(uint256 length, uint256 limit);
        error ProofKeyRefused(string reason);
        /// The key belongs to another model.
        error ProofKeyModel(bytes32 have, bytes32 want);
        /// A usable key is never replaced.
        error ProofKeyFixed(bytes32 modelId, bytes32 keyId);
        error NoProofKey(bytes32 modelId);
        error ProofKeyNotUsable(bytes32 modelId, uint64 usableFrom, uint64 now, uint32 attesters, uint32 needed);
        error WrongProofKey(bytes32 have, bytes32 want);
        error AlreadyAttested(bytes32 keyId, address operator);
        error ProofTooLong(uint256 length, uint256 limit);

        /// Registers a model. A new name founds a lineage owned by the caller; a known one takes a version from its maker.
        function register(bytes memory structure, bytes32 tablesRoot, bytes32 weightsRoot, string memory name, uint128 price, string memory uri) external returns (bytes32 modelId);
        function setPrice(bytes32 modelId, uint128 price) external;
        function setUri(bytes32 modelId, string memory uri) external;
        function setCommission(bytes32 lineage, uint16 commissionBps) external;
        function setMaker(bytes32 lineage, address maker) external;
        /// Sets the model's proof key; its maker only, and only until a key is usable. A new key takes the place of one that is not
        /// usable yet; its notice begins anew and it has no attesters.
        function setProofKey(bytes32 modelId, bytes memory key) external returns (bytes32 keyId);
        /// Says that the caller, a bonded operator, made this key from the model's weights. Once for each key.
        function attestProofKey(bytes32 modelId, bytes32 keyId) external;

        function model(bytes32 modelId) external view returns (Model memory);
        function structure(bytes32 modelId) external view returns (bytes memory);
        function exists(bytes32 modelId) external view returns (bool);
        function lineage(bytes32 id) external view returns (Lineage memory);
        function lineageByName(string memory name) external view returns (Lineage memory);
        /// Latest version of the lineage called `name`.
        function byName(string memory name) external view returns (Model memory);
        /// Version `number` (from 1) of a lineage.
        function versionOf(bytes32 id, uint32 number) external view returns (bytes32 modelId);
        function proofKey(bytes32 modelId) external view returns (ProofKey memory);
        function hasAttested(bytes32 modelId, bytes32 keyId, address operator) external view returns (bool);
        /// Checks a proof under the usable key of the model that it names. A proof that is refused is an answer (`ok` false), not a
        /// revert; calls whose proof is too long revert.
        function verifyProof(bytes memory proof) external view returns (ProofCheck memory);
        function list(uint256 offset, uint256 limit) external view returns (bytes32[] memory modelIds, uint256 total);
    }
}
