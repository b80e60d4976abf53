//! `staking`: operators, their bonds in native coin, their receipt keys and endpoints.

alloy_sol_types::sol! {
    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IStaking {
        struct Operator {
            /// Native coin bonded and not unbonding (18 decimals).
            uint256 bonded;
            /// Part of `bonded` that covers open claims.
            uint256 locked;
            /// Leaving, still slashable.
            uint256 unbonding;
            /// Key that signs receipts now.
            address receiptKey;
            /// Key that takes over at `pendingFrom` (chain milliseconds), zero if none.
            address pendingKey;
            uint64 pendingFrom;
            /// An operator that equivocated locks no more stake.
            bool jailed;
            /// Rises with each proven equivocation; claims of an older generation are refunded.
            uint32 generation;
            string endpoint;
        }
        struct Key {
            address operator;
            /// Chain milliseconds from which the key may sign.
            uint64 from;
            /// Chain milliseconds from which it may not; 0 while open.
            uint64 until;
        }
        struct Unbonding { uint256 amount; uint64 readyAt; }

        event Registered(address indexed operator, address indexed receiptKey, uint256 bonded, string endpoint);
        event Bonded(address indexed operator, uint256 amount, uint256 bonded);
        event KeyRotated(address indexed operator, address indexed receiptKey, uint64 from);
        event EndpointChanged(address indexed operator, string endpoint);
        event UnbondingStarted(address indexed operator, uint256 amount, uint64 readyAt);
        event Withdrawn(address indexed operator, uint256 amount);
        event Locked(address indexed operator, uint256 amount, uint256 locked);
        event Unlocked(address indexed operator, uint256 amount, uint256 locked);
        event Slashed(address indexed operator, uint256 amount, uint256 toReporter, uint256 toBuyer, uint256 burnt);
        event Jailed(address indexed operator, uint32 generation);

        error AlreadyRegistered(address operator);
        error UnknownOperator(address operator);
        error BondTooSmall(uint256 bond, uint256 minimum);
        error InsufficientFreeStake(address operator, uint256 need, uint256 free);
        error KeyTaken(address key, address operator);
        error RotationPending(address key, uint64 from);
        error OperatorJailed(address operator);
        error EndpointTooLong(uint256 length, uint256 limit);
        error TooManyUnbondings(uint256 limit);
        error NothingMature(uint64 nextReadyAt, uint64 now);

        function register(address receiptKey, string memory endpoint) external payable;
        function bond() external payable;
        function rotateKey(address receiptKey) external;
        function setEndpoint(string memory endpoint) external;
        function unbond(uint256 amount) external;
        function withdraw() external returns (uint256 amount);

        function operator(address account) external view returns (Operator memory);
        function operators(uint256 offset, uint256 limit) external view returns (address[] memory page, uint256 total);
        function key(address receiptKey) external view returns (Key memory);
        function freeStake(address account) external view returns (uint256);
        function unbondings(address account) external view returns (Unbonding[] memory);
        function escrowTotal() external view returns (uint256);
    }
}
