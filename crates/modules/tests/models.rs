//! Registry: identity by content, lineages, commission.

mod common;

use alloy_primitives::{U256, keccak256};
use assay_abi::{IErrors, IModels, MODELS};
use common::*;

#[test]
fn a_model_is_named_by_its_content_and_registered_once() {
    let mut w = World::new();
    let (maker, thief) = (account(4).address, account(5).address);
    let shape = Shape {
        tag: 1,
        ..Shape::flat(6)
    };
    let id = w.register_model(maker, "org/tiny:1", shape).unwrap();
    assert_eq!(id, shape.model_id());
    assert_error::<IModels::ModelExists, _>(w.register_model(thief, "other", shape));
    let view = w.view(MODELS, &IModels::modelCall { modelId: id });
    assert_eq!((view.versionNumber, view.price, view.maxSeq), (1, 1_000, 8));
    assert_eq!(view.lineage, keccak256("org/tiny:1"));
    assert_eq!(
        w.view(MODELS, &IModels::structureCall { modelId: id })
            .to_vec(),
        shape.encode()
    );
    let second = w
        .register_model(maker, "org/tiny:1", Shape { tag: 2, ..shape })
        .unwrap();
    assert_error::<IModels::NameTaken, _>(w.register_model(
        thief,
        "org/tiny:1",
        Shape { tag: 3, ..shape },
    ));
    let lineage = w.view(
        MODELS,
        &IModels::lineageByNameCall {
            name: "org/tiny:1".to_string(),
        },
    );
    assert_eq!(
        (lineage.versions, lineage.latest, lineage.maker),
        (2, second, maker)
    );
    assert_eq!(
        w.view(
            MODELS,
            &IModels::byNameCall {
                name: "org/tiny:1".to_string()
            }
        )
        .modelId,
        second
    );
    let list = w.view(
        MODELS,
        &IModels::listCall {
            offset: U256::ZERO,
            limit: U256::from(10),
        },
    );
    assert_eq!(
        (list.modelIds, list.total),
        (vec![id, second], U256::from(2))
    );
    let tail = w.view(
        MODELS,
        &IModels::listCall {
            offset: U256::ONE,
            limit: U256::MAX,
        },
    );
    assert_eq!(tail.modelIds, vec![second]);
    assert_eq!(
        w.view(
            MODELS,
            &IModels::versionOfCall {
                id: view.lineage,
                number: 1
            }
        ),
        id
    );
}

#[test]
fn what_the_arbiter_refuses_is_not_registered() {
    let mut w = World::new();
    let maker = account(4).address;
    let mut call = IModels::registerCall {
        structure: b"junk".to_vec().into(),
        tablesRoot: Default::default(),
        weightsRoot: Default::default(),
        name: "junk".to_string(),
        price: 0,
        uri: String::new(),
    };
    let refused: IModels::ModelRefused = assert_error(w.call(maker, MODELS, &call));
    assert_eq!(refused.reason, "4 bytes are no structure");
    call.structure = vec![0; 131_073].into();
    assert_error::<IModels::StructureTooLong, _>(w.call(maker, MODELS, &call));
    call.structure = Shape::flat(6).encode().into();
    for name in ["", "UPPER", "space here", "emoji\u{1F600}", &"x".repeat(97)] {
        call.name = name.to_string();
        assert_error::<IModels::BadName, _>(w.call(maker, MODELS, &call));
    }
    call.name = "good".to_string();
    call.uri = "u".repeat(513);
    assert_error::<IModels::UriTooLong, _>(w.call(maker, MODELS, &call));
    let unknown = IModels::setPriceCall {
        modelId: keccak256("x"),
        price: 1,
    };
    assert_error::<IModels::UnknownModel, _>(w.call(maker, MODELS, &unknown));
}

#[test]
fn only_the_maker_changes_its_lineage() {
    let mut w = World::new();
    let (maker, other) = (account(4).address, account(5).address);
    let id = w.register_model(maker, "tiny", Shape::flat(6)).unwrap();
    let lineage = keccak256("tiny");
    let price = IModels::setPriceCall {
        modelId: id,
        price: 7,
    };
    assert_error::<IErrors::Unauthorized, _>(w.call(other, MODELS, &price));
    w.call(maker, MODELS, &price).unwrap();
    w.call(
        maker,
        MODELS,
        &IModels::setUriCall {
            modelId: id,
            uri: "ipfs".to_string(),
        },
    )
    .unwrap();
    let view = w.view(MODELS, &IModels::modelCall { modelId: id });
    assert_eq!((view.price, view.uri.as_str()), (7, "ipfs"));
    w.call(
        maker,
        MODELS,
        &IModels::setMakerCall {
            lineage,
            maker: other,
        },
    )
    .unwrap();
    assert_error::<IErrors::Unauthorized, _>(w.call(maker, MODELS, &price));
    w.call(other, MODELS, &price).unwrap();
}

#[test]
fn commission_falls_at_once_and_rises_slowly() {
    let mut w = World::new();
    let maker = account(4).address;
    w.register_model(maker, "tiny", Shape::flat(6)).unwrap();
    let lineage = keccak256("tiny");
    let set = |bps| IModels::setCommissionCall {
        lineage,
        commissionBps: bps,
    };
    let now = |w: &mut World| w.view(MODELS, &IModels::lineageCall { id: lineage });
    assert_error::<IModels::CommissionStep, _>(w.call(maker, MODELS, &set(3_101)));
    assert_error::<IErrors::OutOfBounds, _>(w.call(maker, MODELS, &set(6_001)));
    w.call(maker, MODELS, &set(3_100)).unwrap();
    assert_eq!(
        (now(&mut w).commissionBps, now(&mut w).pendingCommissionBps),
        (3_000, 3_100)
    );
    w.advance(59_999);
    assert_eq!(now(&mut w).commissionBps, 3_000);
    w.advance(1);
    assert_eq!(
        (now(&mut w).commissionBps, now(&mut w).pendingCommissionBps),
        (3_100, 0)
    );
    w.call(maker, MODELS, &set(0)).unwrap();
    assert_eq!(now(&mut w).commissionBps, 0);
}
