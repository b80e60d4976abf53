//! `clock`: chain time.

alloy_sol_types::sol! {
    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IClock {
        /// Chain time in milliseconds: grows with block time, at most one minute per block (no cap on a development network).
        function nowMs() external view returns (uint64);
        /// Chain time in whole seconds; receipts are dated by it.
        function nowSeconds() external view returns (uint64);
        /// Block timestamp of the last block in milliseconds.
        function blockMs() external view returns (uint64);
    }
}
