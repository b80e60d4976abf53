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

        event LineageCreated(bytes32 indexed lineage, address indexed maker, string name, uint16 commissionBps);
        event ModelRegistered(bytes32 indexed modelId, bytes32 indexed lineage, uint32 versionNumber, uint128 price, string uri);
        event PriceChanged(bytes32 indexed modelId, uint128 price);
        event UriChanged(bytes32 indexed modelId, string uri);
        event CommissionChanged(bytes32 indexed lineage, uint16 commissionBps, uint64 from);
        event MakerChanged(bytes32 indexed lineage, address indexed maker);

        error ModelRefused(string reason);
        error ModelExists(bytes32 modelId);
        error UnknownModel(bytes32 modelId);
        error UnknownLineage(bytes32 lineage);
        error NameTaken(string name, address maker);
        error BadName(uint256 length, uint256 limit);
        error UriTooLong(uint256 length, uint256 limit);
        error StructureTooLong(uint256 length, uint256 limit);
        error CommissionStep(uint16 have, uint16 want, uint16 maxStep);

        /// Registers a model. A new name founds a lineage owned by the caller; a known one takes a version from its maker.
        function register(bytes memory structure, bytes32 tablesRoot, bytes32 weightsRoot, string memory name, uint128 price, string memory uri) external returns (bytes32 modelId);
        function setPrice(bytes32 modelId, uint128 price) external;
        function setUri(bytes32 modelId, string memory uri) external;
        function setCommission(bytes32 lineage, uint16 commissionBps) external;
        function setMaker(bytes32 lineage, address maker) external;

        function model(bytes32 modelId) external view returns (Model memory);
        function structure(bytes32 modelId) external view returns (bytes memory);
        function exists(bytes32 modelId) external view returns (bool);
        function lineage(bytes32 id) external view returns (Lineage memory);
        function lineageByName(string memory name) external view returns (Lineage memory);
        /// Latest version of the lineage called `name`.
        function byName(string memory name) external view returns (Model memory);
        /// Version `number` (from 1) of a lineage.
        function versionOf(bytes32 id, uint32 number) external view returns (bytes32 modelId);
        function list(uint256 offset, uint256 limit) external view returns (bytes32[] memory modelIds, uint256 total);
    }
}
