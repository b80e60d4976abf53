//! ONNX files of other people's exporters load, agree with onnxruntime in floats, and survive quantisation.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use assay_import::{
    onnx::{OnnxOptions, lower},
    quantise::{Calibration, Profile, quantise, quantise_auto},
};
use common::{Fixture, bench, fixture};

fn check_fixture(name: &str) {
    let f: Fixture = fixture(name);
    let options = OnnxOptions {
        output: Some(f.output.clone()),
        ..OnnxOptions::default()
    };
    let lowered = lower(&f.onnx, None, &options).unwrap();
    let inputs: Vec<Vec<f32>> = f
        .inputs
        .iter()
        .map(|x| lowered.input.to_stored(x))
        .collect();
    let mut worst = 0f32;
    for (x, want) in inputs.iter().zip(&f.outputs) {
        let want = lowered.output.to_stored(want);
        let have = lowered.net.run(x);
        assert_eq!(have.len(), want.len(), "{name}");
        worst = have
            .iter()
            .zip(&want)
            .map(|(a, b)| (a - b).abs())
            .fold(worst, f32::max);
    }
    assert!(
        worst < 2e-4,
        "{name}: float reference differs from onnxruntime by {worst}"
    );
    let calibration = Calibration {
        range: f.range,
        inputs: inputs.clone(),
    };
    let (quantised, accuracy) = quantise_auto(&lowered.net, &calibration, 12, 0.03).unwrap();
    println!(
        "{name}: float error {worst:.1e}, {:?}, integer {accuracy:?}",
        quantised.profile
    );
    assert!(accuracy.relative_error < 0.06, "{name}: {accuracy:?}");
    let again = quantise(&lowered.net, &calibration, quantised.profile, 12).unwrap();
    assert_eq!(
        again.graph.model_id(),
        quantised.graph.model_id(),
        "{name}: not reproducible"
    );
}

macro_rules! fixtures {
    ($($name:ident),* $(,)?) => { $(#[test] fn $name() { check_fixture(stringify!($name)); })* };
}

fixtures!(
    torch_cnn,
    torch_cnn_opset11,
    torch_encoder,
    torch_encoder_opset14,
    torch_sequence,
    sklearn_mlp,
    sklearn_pipeline,
    sklearn_logistic,
    sklearn_multinomial,
    sklearn_regressor,
    keras_cnn,
    keras_mlp,
);

/// Name, input range, first outputs, arg max of each row.
type Bench = (&'static str, (f64, f64), [f32; 4], &'static [usize]);

/// First four outputs and the arg max of each row, by the ONNX reference evaluator.
const BENCH: [Bench; 4] = [
    (
        "mlp",
        (0.0, 1.0),
        [-0.498_363_26, 0.043_208_83, -0.152_710_47, -0.420_808_8],
        &[6],
    ),
    (
        "lenet5",
        (0.0, 1.0),
        [0.184_114_1, 0.460_500_3, 0.081_510_1, 0.022_000_96],
        &[1],
    ),
    (
        "gpt1_d32_s8",
        (-4.0, 4.0),
        [-1.304_013_8, 0.995_842_2, 1.874_768_9, -0.142_369_42],
        &[2, 15, 62, 42, 57, 15, 15, 53],
    ),
    (
        "gpt4_d64_s16",
        (-4.0, 4.0),
        [-0.035_388_49, 1.886_010_9, 1.355_741_3, -0.205_669_92],
        &[38, 14, 8, 37, 39, 58, 63, 52, 39, 1, 63, 43, 37, 32, 58, 56],
    ),
];

#[test]
fn bench_models_match_the_reference_and_keep_their_choices() {
    for (name, range, first, arg_max) in BENCH {
        let (onnx, input) = bench(name);
        let lowered = lower(&onnx, None, &OnnxOptions::default()).unwrap();
        let x = lowered.input.to_stored(&input);
        let y = lowered.net.run(&x);
        for (a, b) in y.iter().zip(first) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} {b}");
        }
        let n = *lowered.output.dims.last().unwrap();
        let choice = |y: &[f32]| -> Vec<usize> {
            y.chunks(n)
                .map(|r| (0..n).fold(0, |b, i| if r[i] > r[b] { i } else { b }))
                .collect()
        };
        assert_eq!(choice(&y), arg_max, "{name}");
        let calibration = Calibration {
            range,
            inputs: vec![x.clone()],
        };
        for (profile, tolerance) in [
            (Profile::A8, 0.05),
            (Profile::A16, 0.02),
            (Profile::W12, 0.005),
        ] {
            let q = quantise(&lowered.net, &calibration, profile, 12).unwrap();
            let accuracy = q.compare(&lowered.net, std::slice::from_ref(&x)).unwrap();
            println!("{name} {profile:?}: {accuracy:?}");
            assert!(
                accuracy.relative_error < tolerance,
                "{name} {profile:?}: {accuracy:?}"
            );
            if profile == Profile::W12 {
                assert_eq!(choice(&q.run(&x).unwrap()), arg_max, "{name}");
            }
        }
    }
}
