//! `assay model`.

use serde_json::{Value, json};

use crate::support::{Home, repository, text};

const DATA: &str = "crates/import/tests/data";

/// Writes a calibration file from the inputs and the range of a fixture.
fn calibration(home: &Home, fixture: &str) -> String {
    let bytes = std::fs::read(repository(&format!("{DATA}/fixtures/{fixture}.json"))).unwrap();
    let fixture: Value = serde_json::from_slice(&bytes).unwrap();
    let file = home.path("calibration.json");
    let document = json!({ "input_data": fixture["inputs"], "range": fixture["range"] });
    std::fs::write(&file, document.to_string()).unwrap();
    text(&file).to_owned()
}

#[test]
fn onnx_files_are_imported_and_shown_with_their_bounds() {
    for (fixture, name) in [
        ("keras_mlp", "mlp"),
        ("torch_cnn", "cnn"),
        ("sklearn_regressor", "line"),
    ] {
        let home = Home::new();
        let file = repository(&format!("{DATA}/fixtures/{fixture}.onnx"));
        let samples = calibration(&home, fixture);
        let args = [
            "model",
            "import",
            text(&file),
            "--name",
            name,
            "--calibrate",
            &samples,
        ];
        let import = || home.run(&[&args[..], &["--json"]].concat()).exits(0).json();
        let made = import();
        let id = made["model_id"].as_str().unwrap();
        assert_eq!(id.len(), 64);
        assert_eq!(
            import()["model_id"],
            id,
            "the same file gives the same model"
        );
        let shown = home.run(&["model", "show", name, "--json"]).exits(0).json();
        assert_eq!(shown["model_id"], id);
        let (largest, limit) = (&shown["bounds"]["largest"], &shown["bounds"]["limit"]);
        assert_eq!(limit.as_i64(), Some((1 << 30) - (1 << 23)));
        assert!(largest.as_i64().unwrap() > 0 && largest.as_i64() <= limit.as_i64());
        let words = home.run(&["model", "show", name]).exits(0).stdout;
        assert!(
            words.contains("largest accumulator") && words.contains(id),
            "{words}"
        );
        // By its id as well, with and without the prefix.
        home.run(&["model", "show", id]).exits(0);
        home.run(&["model", "show", &format!("0x{id}")]).exits(0);
        let listed = home.run(&["model", "ls", "--json"]).exits(0).json();
        let origins: Vec<_> = listed["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| {
                (
                    model["name"].as_str().unwrap(),
                    model["origin"].as_str().unwrap(),
                )
            })
            .collect();
        assert!(origins.contains(&(name, "imported")), "{origins:?}");
        assert!(origins.contains(&("digits", "bundled")), "{origins:?}");
        home.run(&["model", "rm", name]).exits(0);
        home.run(&["model", "rm", name]).exits(4);
        home.run(&["model", "show", name]).exits(4);
    }
}

#[test]
fn damaged_files_and_bad_samples_are_refused_in_words() {
    let home = Home::new();
    let onnx = std::fs::read(repository(&format!("{DATA}/fixtures/keras_mlp.onnx"))).unwrap();
    let samples = calibration(&home, "keras_mlp");
    let file = home.path("cut.onnx");
    let import = |extra: &[&str]| {
        let args = ["model", "import", text(&file), "--name", "cut", "--json"];
        home.run(&[&args[..], extra].concat())
    };
    for keep in [0, 1, 40, onnx.len() / 2, onnx.len() - 1] {
        std::fs::write(&file, &onnx[..keep]).unwrap();
        let error = import(&["--calibrate", &samples]).exits(1).error();
        let words = error["message"].as_str().unwrap();
        assert!(
            words.len() > 15 && !words.contains("panic"),
            "{keep}: {words}"
        );
    }
    std::fs::write(&file, &onnx).unwrap();
    // Without samples it is imported all the same, and the better way is told.
    let rough = import(&[]).exits(0).stderr;
    assert!(rough.contains("--calibrate"), "{rough}");
    home.run(&["model", "rm", "cut"]).exits(0);
    import(&["--calibrate", "none.json"]).exits(4);
    for junk in [
        "",
        "{",
        "[]",
        "{\"input_data\": [[\"a\"]]}",
        "{\"input_data\": [[1, 2]], \"range\": [3, 1]}",
    ] {
        std::fs::write(home.path("junk.json"), junk).unwrap();
        import(&["--calibrate", "junk.json"]).exits(1);
    }
    let none = home.run(&[
        "model",
        "import",
        "none.onnx",
        "--name",
        "x",
        "--calibrate",
        &samples,
    ]);
    none.exits(4);
    for name in ["digits", "minilm-l6", "../x", "", "A", ".x"] {
        let args = [
            "model",
            "import",
            text(&file),
            "--name",
            name,
            "--calibrate",
            &samples,
        ];
        home.run(&args).exits(1);
    }
    let listed = home.run(&["model", "ls", "--json"]).exits(0).json();
    let names = listed["models"].as_array().unwrap().iter();
    assert!(names.clone().all(|model| model["origin"] != "imported"));
    home.run(&["model", "show", "no-such-model", "--json"])
        .exits(4);
    home.run(&["model", "pull", "no-such-model"]).exits(4);
}
