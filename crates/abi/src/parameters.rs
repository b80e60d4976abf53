//! `parameters`: what was fixed at genesis.

alloy_sol_types::sol! {
    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IParameters {
        struct Parameter { string name; uint256 value; uint256 low; uint256 high; string unit; }

        error UnknownParameter(string name);

        function parameter(string memory name) external view returns (Parameter memory);
        function all() external view returns (Parameter[] memory);
        function treasury() external view returns (address);
    }
}
