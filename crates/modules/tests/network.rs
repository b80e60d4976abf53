//! Genesis, parameters, chain time, storage layout.

mod common;

use std::fmt::Write as _;

use alloy_primitives::U256;
use assay_abi::*;
use assay_modules::{GenesisParams, Params};
use assay_storage::{Cursor, Place, Row, StorageError};
use common::*;

#[test]
fn presets_are_within_their_bounds_and_listed() {
    Params::dev().check().unwrap();
    Params::public().check().unwrap();
    let mut w = World::new();
    let all = w.view(PARAMETERS, &IParameters::allCall {});
    assert!(all.len() > 30);
    for row in all {
        assert!(
            row.low <= row.value && row.value <= row.high,
            "{}",
            row.name
        );
        assert_eq!(
            w.view(
                PARAMETERS,
                &IParameters::parameterCall {
                    name: row.name.clone()
                }
            ),
            row
        );
    }
    assert_eq!(
        w.view(PARAMETERS, &IParameters::treasuryCall {}),
        w.treasury.address
    );
    let unknown = IParameters::parameterCall {
        name: "no_such".to_string(),
    };
    assert_error::<IParameters::UnknownParameter, _>(w.call(w.buyer.address, PARAMETERS, &unknown));
}

#[test]
fn genesis_refuses_parameters_outside_their_bounds() {
    let refuse = |change: &dyn Fn(&mut Params)| {
        let mut genesis = GenesisParams::public();
        change(&mut genesis.params);
        let modules = assay_modules::Modules::new(std::sync::Arc::new(FakeArbiter));
        let result = modules.genesis(&mut assay_storage::MemoryStorage::default(), &genesis);
        assert!(matches!(result, Err(StorageError::Fatal(_))), "{result:?}");
    };
    refuse(&|p| p.slash_challenger_bps = 3_001);
    refuse(&|p| p.slash_buyer_bps = 2_001);
    refuse(&|p| p.fee_operator_bps += 1);
    refuse(&|p| p.window_min_s = p.window_max_s + 1);
    refuse(&|p| p.unbonding_ms = 1);
    refuse(&|p| p.withdrawal_delay_ms = 599_999);
    refuse(&|p| p.burn_min_bps = p.burn_top_bps + 1);
    refuse(&|p| p.assay_price = 0);
}

#[test]
fn genesis_mints_what_it_says() {
    let mut w = World::new();
    assert_eq!(
        w.view(USD, &IUsd::totalSupplyCall {}),
        U256::from(1_000_000_000_050u64)
    );
    assert_eq!(w.usd(account(5).address), 50);
    w.check();
    let mut genesis = GenesisParams::dev();
    genesis.usd = vec![(account(1).address, u128::MAX), (account(2).address, 1)];
    let result = w
        .modules
        .genesis(&mut assay_storage::MemoryStorage::default(), &genesis);
    assert!(matches!(result, Err(StorageError::Fatal(_))));
}

#[test]
fn chain_time_is_capped_on_a_public_network_and_free_on_a_local_one() {
    let now = |w: &mut World| w.view(CLOCK, &IClock::nowMsCall {});
    let mut local = World::new();
    assert_eq!(now(&mut local), START_MS);
    local.advance(7_200_000);
    assert_eq!(now(&mut local), START_MS + 7_200_000);
    let mut public = World::with(GenesisParams::public());
    public.advance(30_000);
    assert_eq!(now(&mut public), START_MS + 30_000);
    // A chain halted for half an hour costs nobody more than a minute.
    public.advance(1_800_000);
    assert_eq!(now(&mut public), START_MS + 90_000);
    assert_eq!(
        public.view(CLOCK, &IClock::blockMsCall {}),
        START_MS + 1_830_000
    );
    assert_eq!(
        public.view(CLOCK, &IClock::nowSecondsCall {}),
        (START_MS + 90_000) / 1_000
    );
}

fn with_separators(value: U256) -> String {
    let digits = value.to_string();
    if let Some(whole) = digits
        .strip_suffix(&"0".repeat(18))
        .filter(|whole| !whole.is_empty())
    {
        return format!("{whole}e18");
    }
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The table in docs/protocol.md is written from the code. Set `ASSAY_UPDATE_DOCS` to write it.
#[test]
fn the_documented_parameters_are_those_of_the_code() {
    let list = |genesis| World::with(genesis).view(PARAMETERS, &IParameters::allCall {});
    let (dev, public) = (list(GenesisParams::dev()), list(GenesisParams::public()));
    let mut table =
        "| parameter | unit | local | public | bounds |\n|---|---|---|---|---|\n".to_string();
    for (dev, public) in dev.iter().zip(&public) {
        let [here, there, low, high] =
            [dev.value, public.value, dev.low, dev.high].map(with_separators);
        writeln!(
            table,
            "| `{}` | {} | {here} | {there} | {low} … {high} |",
            dev.name, dev.unit
        )
        .unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (begin, end) = (
        "<!-- parameters: begin (written by a test) -->\n",
        "<!-- parameters: end -->",
    );
    let (head, rest) = text.split_once(begin).expect("begin marker");
    let (have, tail) = rest.split_once(end).expect("end marker");
    if std::env::var_os("ASSAY_UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{begin}{table}{end}{tail}")).unwrap();
        return;
    }
    assert_eq!(have, table);
}

fn describe<P: Place>(name: &str, out: &mut String) {
    let mut rows: Vec<Row> = Vec::new();
    P::describe("", &mut Cursor::new(Default::default()), &mut rows);
    for row in rows {
        writeln!(
            out,
            "{name}, {}, {}, {}, {}, {}",
            row.field, row.kind, row.slot, row.offset, row.size
        )
        .unwrap();
    }
}

/// Fields are appended, never moved: the table is a contract with whoever proves storage. Set `ASSAY_UPDATE_LAYOUT` to
/// write a new one on purpose.
#[test]
fn storage_layout_is_the_checked_in_one() {
    let mut table = "module, field, kind, slot, offset, size\n".to_string();
    describe::<assay_modules::burn::Burn>("burn", &mut table);
    describe::<assay_modules::claims::Claims>("claims", &mut table);
    describe::<assay_modules::clock::Clock>("clock", &mut table);
    describe::<assay_modules::disputes::Disputes>("disputes", &mut table);
    describe::<assay_modules::models::Models>("models", &mut table);
    describe::<assay_modules::parameters::Parameters>("parameters", &mut table);
    describe::<assay_modules::pools::Pools>("pools", &mut table);
    describe::<assay_modules::staking::Staking>("staking", &mut table);
    describe::<assay_modules::usd::Usd>("usd", &mut table);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/layout.csv");
    if std::env::var_os("ASSAY_UPDATE_LAYOUT").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap());
}
