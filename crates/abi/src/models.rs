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
            /// 0 if no key is set or announced.
            bytes32 keyId;
            /// Bytes of the key; `proofKeyBytes` gives them.
            uint32 length;
            /// Parts that were not uploaded yet, of an announced key. Until they are here, it does not count and `setAt` is 0.
            uint32 missing;
            uint64 setAt;
            /// Not usable before; 0 while parts are missing.
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
        event ProofKeyAnnounced(bytes32 indexed modelId, bytes32 indexed keyId, uint32 length, uint32 parts);
        event ProofKeyPartAdded(bytes32 indexed modelId, bytes32 indexed keyId, uint32 index, uint32 missing);
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
        /// A key of so many bytes has another number of parts.
        error ProofKeyParts(uint32 length, uint256 have, uint256 want);
        /// A part of another length (`have`, `want` are lengths), or of other bytes (they are hashes), than was announced.
        error ProofKeyPartLength(uint32 index, uint256 have, uint256 want);
        error ProofKeyPartHash(uint32 index, bytes32 have, bytes32 want);
        error ProofKeyPartKnown(bytes32 keyId, uint32 index);
        error ProofKeyIncomplete(bytes32 modelId, bytes32 keyId, uint32 missing);
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
        /// Sets the model's proof key, of at most 131,072 bytes; its maker only, and only until a key is usable. A new key takes the place
        /// of one that is not usable yet; its notice begins anew and it has no attesters.
        function setProofKey(bytes32 modelId, bytes memory key) external returns (bytes32 keyId);
        /// The same for a key of any length, which is uploaded afterwards: all parts but the last have 65,536 bytes, `hashes` are their
        /// keccak256 in order. The former key, if it is not usable, is dropped with its parts.
        function announceProofKey(bytes32 modelId, bytes32 keyId, uint32 length, bytes32[] memory hashes) external;
        /// Uploads a part of the announced key; anyone, in any order. With the last one the key is checked and set, and its notice begins.
        function addProofKeyPart(bytes32 modelId, bytes32 keyId, uint32 index, bytes memory part) external returns (uint32 missing);
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
        /// Bytes of the model's key from `offset` on: `count`, or less at its end; at most 131,072.
        function proofKeyBytes(bytes32 modelId, uint256 offset, uint256 count) external view returns (bytes memory);
        /// Hashes of the key's parts, and which of them are here.
        function proofKeyParts(bytes32 modelId) external view returns (bytes32[] memory hashes, bool[] memory here);
        function hasAttested(bytes32 modelId, bytes32 keyId, address operator) external view returns (bool);
        /// Checks a proof under the usable key of the model that it names. A proof that is refused is an answer (`ok` false), not a
        /// revert; calls whose proof is too long revert.
        function verifyProof(bytes memory proof) external view returns (ProofCheck memory);
        function list(uint256 offset, uint256 limit) external view returns (bytes32[] memory modelIds, uint256 total);
    }
}
