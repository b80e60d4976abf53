//! `burn`: ledger of burnt native coin and of the usd set aside for burning.

alloy_sol_types::sol! {
    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IBurn {
        /// cause: 0 fee burn, 1 empty role, 2 slash, 3 pool dust, 4 lost bond.
        event Burned(uint8 indexed cause, bytes32 indexed ref, uint256 amount);
        event UsdReserved(uint8 indexed cause, bytes32 indexed ref, uint256 amount);

        /// Native coin burnt by modules; it lies on this account and can never leave.
        function burned() external view returns (uint256);
        function burnedBy(uint8 cause) external view returns (uint256);
        /// usd waiting to buy native coin for burning.
        function usdReserve() external view returns (uint256);
        function usdReservedBy(uint8 cause) external view returns (uint256);
    }
}
