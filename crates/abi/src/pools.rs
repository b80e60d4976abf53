//! `pools`: stake on model lineages; paid out of fees, slashed for what it vouched for.

alloy_sol_types::sol! {
    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IPools {
        struct Pool {
            /// Shares of the current generation.
            uint256 shares;
            /// Native coin behind them.
            uint256 assets;
            /// Native coin in unbonding buckets.
            uint256 unbonding;
            /// usd base units per share, times 10^27.
            uint256 accumulated;
            uint256 remainder;
            uint32 generation;
            uint32 slashes;
            /// usd paid in, paid out, and burnt for want of shares.
            uint256 income;
            uint256 paid;
            uint256 burned;
            /// Native coin deposited, withdrawn and slashed since genesis.
            uint256 deposited;
            uint256 withdrawn;
            uint256 slashed;
        }
        struct Stake {
            uint256 shares;
            /// Native coin the shares are worth now.
            uint256 assets;
            /// usd claimable now.
            uint256 claimable;
            /// Native coin unbonding.
            uint256 unbonding;
        }

        event Deposited(bytes32 indexed lineage, address indexed account, uint256 assets, uint256 shares);
        event FeeReceived(bytes32 indexed lineage, uint256 amount, bool burnt);
        event Claimed(bytes32 indexed lineage, address indexed account, uint256 amount);
        event UnbondingStarted(bytes32 indexed lineage, address indexed account, uint256 shares, uint256 assets, uint64 epoch);
        event Withdrawn(bytes32 indexed lineage, address indexed account, uint256 assets);
        event Slashed(bytes32 indexed lineage, uint64 offenceEpoch, uint256 active, uint256 unbonding);
        event Retired(bytes32 indexed lineage, uint32 generation, uint256 burnt);

        error InsufficientShares(uint256 have, uint256 need);
        error ZeroShares(uint256 assets);
        error NothingMature(uint64 epoch);
        error NothingToClaim();

        function deposit(bytes32 lineage) external payable returns (uint256 shares);
        function claim(bytes32 lineage) external returns (uint256 amount);
        function unbond(bytes32 lineage, uint256 shares) external returns (uint256 assets);
        function withdraw(bytes32 lineage) external returns (uint256 assets);

        function pool(bytes32 lineage) external view returns (Pool memory);
        function stake(bytes32 lineage, address account) external view returns (Stake memory);
        /// Economic epoch now (chain time divided by the epoch length).
        function epoch() external view returns (uint64);
        function escrowTotal() external view returns (uint256 native, uint256 usd);
    }
}
