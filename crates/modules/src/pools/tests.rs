//! Worked examples and laws of the share pool.

use alloy_primitives::{Address, B256, U256, keccak256};
use assay_storage::MemoryStorage;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::Fault;

const CASES: &str = include_str!("../../tests/data/economics.json");

fn account(name: &str) -> Address {
    Address::from_word(keccak256(name))
}

fn number(value: &Value) -> u128 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{value} is no integer"))
}

fn text<T: ToString>(value: T) -> Value {
    Value::String(value.to_string())
}

struct Bench {
    storage: MemoryStorage,
    pool: PoolRecord,
}

impl Bench {
    fn new() -> Self {
        Self {
            storage: MemoryStorage::default(),
            pool: Pools::new().pools.at(&B256::ZERO),
        }
    }

    /// One operation of a worked example, with its return value in the form of the examples.
    fn run(&mut self, op: &[Value]) -> Value {
        let (s, pool) = (&mut self.storage, &self.pool);
        let who = |at: usize| account(op[at].as_str().expect("account"));
        let result: Result<Value, Fault> = match op[0].as_str().expect("operation") {
            "deposit" => pool.deposit(s, who(1), number(&op[2])).map(text),
            "fee" => {
                let before = pool.accumulated.read(s).expect("read");
                let credited = pool.fee(s, number(&op[1])).expect("fee");
                let after = pool.accumulated.read(s).expect("read");
                Ok(if credited {
                    text(after - before)
                } else {
                    text("burned")
                })
            }
            "claim" => pool.claim(s, who(1)).map(text),
            "unbond" => pool
                .unbond(s, who(1), number(&op[2]), number(&op[3]) as u64)
                .map(text),
            "withdraw" => pool
                .withdraw(s, who(1), number(&op[2]) as u64, number(&op[3]) as u64)
                .map(|(paid, _)| text(paid)),
            "slash" => pool
                .slash(s, number(&op[1]), number(&op[2]) as u64)
                .map(|cut| Value::Array(vec![text(cut.active), text(cut.unbonding)])),
            other => panic!("unknown operation {other}"),
        };
        result.unwrap_or_else(|fault| panic!("{op:?}: {fault}"))
    }

    fn state(&mut self) -> Value {
        let (s, p) = (&mut self.storage, &self.pool);
        serde_json::json!({
            "S": text(p.shares.read(s).unwrap()), "A": text(p.assets.read(s).unwrap()),
            "Au": text(p.unbonding.read(s).unwrap()), "acc": text(p.accumulated.read(s).unwrap()),
            "rem": text(p.remainder.read(s).unwrap()), "gen": text(p.generation.read(s).unwrap()),
            "dep": text(p.deposited.read(s).unwrap()), "wd": text(p.withdrawn.read(s).unwrap()),
            "slashed": text(p.slashed.read(s).unwrap()), "income": text(p.income.read(s).unwrap()),
            "paid": text(p.paid.read(s).unwrap()), "burned": text(p.burned.read(s).unwrap()),
        })
    }

    /// The laws of the pool in any state.
    fn check(&mut self, users: &[Address]) {
        let (s, p) = (&mut self.storage, &self.pool);
        let (shares, assets) = (p.shares.read(s).unwrap(), p.assets.read(s).unwrap());
        let unbonding = p.unbonding.read(s).unwrap();
        let out = p.withdrawn.read(s).unwrap() + p.slashed.read(s).unwrap();
        assert_eq!(p.deposited.read(s).unwrap(), assets + unbonding + out);
        assert!(assets > 0 || shares == 0);
        let mut held = 0;
        let mut owed = 0;
        for user in users {
            let (own, claimable) = p.standing(s, *user).unwrap();
            held += own;
            owed += claimable;
        }
        assert_eq!(held, shares, "shares of the current generation");
        let spent = p.paid.read(s).unwrap() + p.burned.read(s).unwrap() + owed;
        assert!(
            spent <= p.income.read(s).unwrap(),
            "paid, owed and burnt stay within income"
        );
    }
}

#[test]
fn worked_examples_of_pools() {
    let cases: Value = serde_json::from_str(CASES).expect("json");
    let mut seen = 0;
    for case in cases["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .filter(|case| case["kind"] == "pool")
    {
        let mut bench = Bench::new();
        let ops = case["input"]["ops"].as_array().expect("ops");
        let returns: Vec<Value> = ops
            .iter()
            .map(|op| bench.run(op.as_array().expect("op")))
            .collect();
        assert_eq!(
            Value::Array(returns),
            case["expect"]["returns"],
            "{}",
            case["id"]
        );
        assert_eq!(bench.state(), case["expect"]["state"], "{}", case["id"]);
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[derive(Clone, Debug)]
enum Op {
    Deposit(usize, u128),
    Fee(u128),
    Claim(usize),
    Unbond(usize, u8),
    Withdraw(usize),
    Slash(u16, u8),
    Epoch(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let amount = prop_oneof![1u128..1_000, 1u128..1_000_000_000_000_000_000_000_000];
    prop_oneof![
        (0usize..4, amount.clone()).prop_map(|(user, amount)| Op::Deposit(user, amount)),
        amount.prop_map(Op::Fee),
        (0usize..4).prop_map(Op::Claim),
        (0usize..4, any::<u8>()).prop_map(|(user, part)| Op::Unbond(user, part)),
        (0usize..4).prop_map(Op::Withdraw),
        (0u16..=10_000, 0u8..4).prop_map(|(bps, age)| Op::Slash(bps, age)),
        (1u8..4).prop_map(Op::Epoch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_scripts_keep_every_law(ops in prop::collection::vec(op(), 1..60)) {
        let users: Vec<Address> = ["a", "b", "c", "d"].map(account).to_vec();
        let mut bench = Bench::new();
        let mut epoch = 10u64;
        for op in ops {
            let (s, pool) = (&mut bench.storage, &bench.pool);
            let outcome: Result<(), Fault> = match op {
                Op::Deposit(user, amount) => pool.deposit(s, users[user], amount).map(drop),
                Op::Fee(amount) => pool.fee(s, amount).map(drop),
                Op::Claim(user) => pool.claim(s, users[user]).map(drop),
                Op::Unbond(user, part) => {
                    let (shares, _) = pool.standing(s, users[user]).unwrap();
                    pool.unbond(s, users[user], shares * u128::from(part) / 255, epoch).map(drop)
                }
                Op::Withdraw(user) => pool.withdraw(s, users[user], epoch, 5).map(drop),
                Op::Slash(bps, age) => pool.slash(s, bps.into(), epoch - u64::from(age)).map(drop),
                Op::Epoch(step) => {
                    epoch += u64::from(step);
                    Ok(())
                }
            };
            // A refused operation may have touched credits only; the laws hold either way.
            let _ = outcome;
            bench.check(&users);
        }
    }

    #[test]
    fn nobody_withdraws_more_than_it_deposited_without_fees(first in 1u128..1_000_000_000, second in 1u128..1_000_000_000, bps in 0u16..=10_000) {
        let mut bench = Bench::new();
        let (a, b) = (account("a"), account("b"));
        let (s, pool) = (&mut bench.storage, &bench.pool);
        pool.deposit(s, a, first).unwrap();
        pool.slash(s, bps.into(), 0).unwrap();
        if pool.deposit(s, b, second).is_err() {
            return Ok(());
        }
        for (user, most) in [(a, first), (b, second)] {
            let (shares, _) = pool.standing(s, user).unwrap();
            if shares == 0 || pool.worth(s, shares).unwrap() == 0 {
                continue;
            }
            let leaving = pool.unbond(s, user, shares, 1).unwrap();
            prop_assert!(leaving <= most);
        }
    }
}

#[test]
fn unbonding_does_not_escape_a_slash_for_an_earlier_offence() {
    let mut bench = Bench::new();
    let a = account("a");
    let (s, pool) = (&mut bench.storage, &bench.pool);
    pool.deposit(s, a, 1_000).unwrap();
    pool.unbond(s, a, 1_000, 7).unwrap();
    assert_eq!(
        pool.slash(s, 5_000, 7).unwrap(),
        Cut {
            active: 0,
            unbonding: 500,
            retired: 0
        }
    );
    assert_eq!(pool.withdraw(s, a, 11, 5).unwrap(), (0, 0));
    assert_eq!(pool.withdraw(s, a, 12, 5).unwrap(), (500, 0));
}

#[test]
fn a_slash_is_burnt_with_its_escrow() {
    let mut storage = MemoryStorage::default();
    let params = crate::GenesisParams::dev();
    crate::genesis::write(&mut storage, &params).unwrap();
    storage.set_balance(POOLS, U256::from(1_000));
    let (pools, lineage, a) = (Pools::new(), B256::repeat_byte(1), account("a"));
    Models::new()
        .lineages
        .at(&lineage)
        .maker
        .write(&mut storage, a)
        .unwrap();
    pools
        .deposit(&mut storage, a, lineage, U256::from(1_000))
        .unwrap();
    pools
        .unbond(&mut storage, a, lineage, U256::from(400))
        .unwrap();
    let cut = pools.slash(&mut storage, lineage, 10_000, 0).unwrap();
    assert_eq!((cut.active, cut.unbonding), (600, 400));
    assert_eq!(pools.held.read(&mut storage).unwrap(), 0);
    assert_eq!(Burn::new().native.read(&mut storage).unwrap(), 1_000);
    crate::invariants::check(&mut storage).unwrap();
}
