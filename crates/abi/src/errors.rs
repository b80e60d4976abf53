//! Custom errors that more than one module raises.

alloy_sol_types::sol! {
    #[sol(abi)]
    #[derive(Debug, PartialEq, Eq)]
    interface IErrors {
        /// A module was entered by DELEGATECALL or CALLCODE.
        error DirectCallOnly();
        /// Native coin was sent to a function that takes none.
        error NotPayable(uint256 value);
        /// Calldata is not the canonical encoding of the call.
        error BadCalldata(bytes4 selector, uint256 length);
        /// `caller` may not do this; only `owner` may.
        error Unauthorized(address caller, address owner);
        /// The amount must be above zero.
        error ZeroAmount();
        /// An amount does not fit, or a sum or product overflowed.
        error Overflow(string operation);
        /// A value is outside its bounds.
        error OutOfBounds(string what, uint256 value, uint256 low, uint256 high);
        /// State machine: the object is in `have`, the call needs `want`.
        error WrongState(uint8 have, uint8 want);
        /// Chain time `now` has reached `deadline` (milliseconds).
        error Expired(uint64 deadline, uint64 now);
        /// Chain time `now` has not reached `ready` (milliseconds).
        error TooEarly(uint64 ready, uint64 now);
        /// The module account holds less than it must pay; never seen while the invariants hold.
        error Insolvent(address module, uint256 have, uint256 need);
        /// `ecrecover` failed, `s` is in the upper half, `v` is not 27 or 28, or the length is not 65.
        error BadSignature(string reason);
    }
}
