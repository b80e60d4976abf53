//! `disputes`: a one-sided descent to the first wrong leaf, then one element recomputed by the chain.

alloy_sol_types::sol! {
    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IDisputes {
        /// stage: 0 none; asserter's turn: 1 trace, 2 leaves, 3 reveal, 6 segment, 7 open; challenger's turn: 4 pick,
        /// 5 name, 8 prove; closed: 9 asserter won, 10 challenger won, 11 cancelled (another dispute rejected the claim).
        struct Dispute {
            bytes32 claimId;
            address challenger;
            uint8 stage;
            /// 0 nobody, 1 asserter, 2 challenger.
            uint8 turn;
            uint256 bond;
            /// Chain milliseconds at which the side to move loses.
            uint64 deadline;
            uint64 turnStart;
            /// Milliseconds left on each clock at the start of the turn.
            uint64 asserterLeft;
            uint64 challengerLeft;
            /// False: the committed tree; true: the tree of `segment`.
            bool inSegment;
            uint32 segment;
            bytes32 segmentRoot;
            /// Root of the tree walked now and its leaves.
            bytes32 root;
            uint64 leaves;
            /// Node reached: its hash (the root itself at the start), levels above the leaves, position in its level.
            bytes32 node;
            uint8 height;
            uint64 index;
            /// Disputed leaf of the committed tree once it is reached.
            uint64 committedLeaf;
            bytes32 committedHash;
        }

        event Opened(uint256 indexed id, bytes32 indexed claimId, address indexed challenger, uint256 bond, uint8 stage, uint64 deadline);
        event TracePosted(uint256 indexed id, bytes32 root, uint64 leaves);
        event LeavesPosted(uint256 indexed id, bytes32[] leaves);
        event Revealed(uint256 indexed id, uint8 height, uint64 index, bytes32[] children);
        event Picked(uint256 indexed id, uint8 height, uint64 index, bytes32 node);
        event Named(uint256 indexed id, uint64 leaf, bytes32 hash);
        event SegmentPosted(uint256 indexed id, uint32 segment, bytes32 root, uint64 leaves);
        event BlockOpened(uint256 indexed id, bytes blockBytes);
        /// After every move that leaves the dispute open.
        event Turn(uint256 indexed id, uint8 stage, uint8 turn, uint64 deadline);
        event Closed(uint256 indexed id, bytes32 indexed claimId, uint8 stage, uint256 bondToChallenger, uint256 bondToAsserter, uint256 bondBurnt);
        event ProvenWrong(bytes32 indexed claimId, address indexed challenger, uint64 leaf);

        error UnknownDispute(uint256 id);
        error NotYourTurn(address caller, address mover);
        error WrongStage(uint8 have, uint8 want);
        error WrongBond(uint256 have, uint256 need);
        error ClaimNotOpen(bytes32 claimId, uint8 state);
        error WindowOver(uint64 deadline, uint64 now);
        error NotHonestList(bytes32 root, bytes32 want);
        error LeafCount(uint64 have, uint64 want);
        error InputLeafMismatch(bytes32 have, bytes32 want);
        error OutputLeafMismatch(bytes32 have, bytes32 want);
        error ChildCount(uint256 have, uint256 want);
        error ChildrenMismatch(bytes32 have, bytes32 want);
        error ChildOutOfRange(uint256 j, uint256 count);
        error LeafOutOfRange(uint64 leaf, uint64 leaves);
        error PathLength(uint256 have, uint256 want);
        error SegmentMismatch(bytes32 have, bytes32 want);
        error BlockMismatch(bytes32 have, bytes32 want);
        error TooLong(string what, uint256 length, uint256 limit);
        error BadEvidence(string reason);
        error ArbiterRefused(string reason);
        error NotSingleShot(uint64 leaves, uint64 limit, uint32 segmentNodes);
        error AsserterIsRight(bytes32 claimId, uint64 leaf);
        error StillRunning(uint64 deadline, uint64 now);
        error NothingToClose(uint256 id, uint8 stage);

        function challenge(bytes32 claimId) external payable returns (uint256 id);
        /// Only where the receipt carried no trace root: fixes it for all disputes of the claim.
        function trace(uint256 id, bytes32 root) external;
        function postLeaves(uint256 id, bytes32[] memory leaves) external;
        function name(uint256 id, bytes32[] memory leaves, uint64 leaf) external;
        function reveal(uint256 id, bytes32[] memory children) external;
        function pick(uint256 id, bytes32[] memory children, uint8 j) external;
        function segment(uint256 id, bytes32 root, bytes32[] memory path) external;
        /// `blockBytes`: the bytes of the disputed leaf; for the last committed leaf, salt followed by the output bytes.
        function open(uint256 id, bytes memory blockBytes) external;
        /// The opened block is supplied again (it is bound by the leaf hash) together with the evidence for one element.
        function proveElement(uint256 id, bytes memory blockBytes, bytes memory evidence) external;
        /// One shot: no bond, verdict in this transaction; reverts with `AsserterIsRight` if the recomputed block agrees.
        function proveBlock(bytes32 claimId, bytes32[] memory leaves, uint64 leaf, bytes memory evidence) external;
        /// Closes a dispute whose side to move has run out of time. Anyone may call.
        function timeout(uint256 id) external;
        /// Returns the bond of a dispute whose claim another dispute has rejected. Anyone may call; `end_block` does it too.
        function close(uint256 id) external;

        function dispute(uint256 id) external view returns (Dispute memory);
        function disputesOf(bytes32 claimId, uint256 offset, uint256 limit) external view returns (uint256[] memory ids, uint256 total);
        function count() external view returns (uint256);
        /// Bond that `challenge(claimId)` takes, in wei, exactly.
        function bondOf(bytes32 claimId) external view returns (uint256);
        function escrowTotal() external view returns (uint256);
    }
}
