//! Division of amounts: worked examples, and exactness for everything else.

use assay_modules::amount::{mul_div_ceil, mul_div_floor, split};
use assay_modules::claims::fees::{FeeRule, Roles, divide};
use proptest::prelude::*;
use serde_json::Value;

const CASES: &str = include_str!("data/economics.json");

fn number(value: &Value) -> u128 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{value} is no integer"))
}

fn numbers(value: &Value) -> Vec<u128> {
    value.as_array().expect("list").iter().map(number).collect()
}

fn cases(kind: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(CASES).expect("json");
    let found: Vec<Value> = all["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .filter(|case| case["kind"] == kind)
        .cloned()
        .collect();
    assert!(!found.is_empty());
    found
}

#[test]
fn worked_examples_of_split() {
    for case in cases("split") {
        let (amount, weights) = (
            number(&case["input"]["amount"]),
            numbers(&case["input"]["weights"]),
        );
        let parts = match weights.len() {
            3 => split::<3>(amount, weights.try_into().unwrap())
                .unwrap()
                .to_vec(),
            _ => split::<5>(amount, weights.try_into().unwrap())
                .unwrap()
                .to_vec(),
        };
        assert_eq!(parts, numbers(&case["expect"]["parts"]), "{}", case["id"]);
    }
}

#[test]
fn worked_examples_of_fee_settlement() {
    for case in cases("fee_settle") {
        let (input, expect) = (&case["input"], &case["expect"]);
        let rule = FeeRule {
            weights: numbers(&input["weights"]).try_into().unwrap(),
            burn_top: number(&input["beta0"]),
            burn_min: number(&input["beta_min"]),
        };
        let present = |role: &str| input["present"][role].as_bool().expect("bool");
        let roles = Roles {
            operator: present("operator"),
            model: present("model"),
            data: present("data"),
            verifiers: present("verifiers"),
        };
        let royalties = numbers(&input["royalty_bps"]);
        let parts = divide(
            number(&input["fee"]),
            &rule,
            number(&input["quality"]),
            roles,
            &royalties,
        )
        .unwrap();
        let id = &case["id"];
        assert_eq!(parts.operator, number(&expect["operator"]), "{id}");
        assert_eq!(parts.model, number(&expect["model"]), "{id}");
        assert_eq!(parts.data, number(&expect["data"]), "{id}");
        assert_eq!(parts.verifiers, number(&expect["verifiers"]), "{id}");
        assert_eq!(parts.royalties, numbers(&expect["royalties"]), "{id}");
        assert_eq!(parts.treasury, number(&expect["treasury"]), "{id}");
        assert_eq!(parts.burn, number(&expect["burn"]), "{id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_add_up_and_are_within_a_unit(amount: u128, weights in prop::array::uniform5(0u128..1_000_000)) {
        let total: u128 = weights.iter().sum();
        let Some(parts) = split(amount, weights) else {
            prop_assert_eq!(total, 0);
            return Ok(());
        };
        prop_assert_eq!(parts.iter().copied().try_fold(0u128, u128::checked_add), Some(amount));
        for (part, weight) in parts.iter().zip(weights) {
            let floor = mul_div_floor(amount, weight, total).unwrap();
            let ceil = mul_div_ceil(amount, weight, total).unwrap();
            prop_assert!(*part + 1 >= floor && *part <= ceil + 1);
        }
    }

    #[test]
    fn a_fee_is_divided_to_the_last_unit(
        fee: u128,
        network in 300u128..=1_500,
        quality in 0u128..=10_000,
        present in prop::array::uniform4(any::<bool>()),
        royalties in prop::collection::vec(0u128..=500, 0..4),
    ) {
        let weights = [10_000 - 600 - 500 - 1_200 - network, 1_200, 600, 500, network];
        let rule = FeeRule { weights, burn_top: 400, burn_min: 100 };
        let [operator, model, data, verifiers] = present;
        let roles = Roles { operator, model, data, verifiers };
        let parts = divide(fee, &rule, quality, roles, &royalties).unwrap();
        prop_assert_eq!(parts.total(), Some(fee));
        prop_assert!(operator || parts.operator == 0);
        prop_assert!(data || parts.data == 0);
        // Quality moves only the boundary between treasury and burn.
        let better = divide(fee, &rule, 10_000, roles, &royalties).unwrap();
        prop_assert_eq!(parts.operator, better.operator);
        prop_assert_eq!(parts.model, better.model);
        prop_assert_eq!(parts.treasury + parts.burn, better.treasury + better.burn);
        prop_assert!(parts.burn <= better.burn);
    }
}
