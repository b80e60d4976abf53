//! The peer: onnxruntime float32, driven by `tools/peer_minilm.py`.

use std::{path::Path, process::Command};

/// CPU milliseconds of one round, one thread.
pub struct Round {
    /// Median of the better of the two forms of the model.
    pub median: f64,
    /// Best run of it.
    pub best: f64,
    /// Version of the peer.
    pub version: String,
}

fn number(text: &str, section: &str, form: &str) -> Option<f64> {
    let after = text.split_once(section)?.1.split_once(form)?.1;
    let digits: String = after
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    digits.parse().ok()
}

/// One round, if `ASSAY_BENCH_PYTHON` (an interpreter with onnxruntime) and `ASSAY_BENCH_MODEL` (the folder of the original model) are set.
pub fn round(tokens: usize, runs: usize) -> Option<Result<Round, String>> {
    let (python, model) = (
        std::env::var("ASSAY_BENCH_PYTHON").ok()?,
        std::env::var("ASSAY_BENCH_MODEL").ok()?,
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/peer_minilm.py");
    let folder = std::env::temp_dir().join("assay-bench-minilm");
    let mut command = Command::new(python);
    command.arg(script).arg(model).arg(folder).args([
        "--tokens",
        &tokens.to_string(),
        "--runs",
        &runs.to_string(),
    ]);
    Some(command.output().map_err(|e| e.to_string()).and_then(|out| {
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let of = |section, form| {
            number(&text, section, form).ok_or_else(|| {
                format!(
                    "the peer printed `{text}`{}",
                    String::from_utf8_lossy(&out.stderr)
                )
            })
        };
        let (standard, fused) = (
            of("cpu_ms_median", "standard")?,
            of("cpu_ms_median", "fused")?,
        );
        let form = if standard <= fused {
            "standard"
        } else {
            "fused"
        };
        let version = text
            .split_once("\"onnxruntime\": \"")
            .and_then(|(_, v)| v.split_once('"'))
            .map_or("unknown", |(v, _)| v)
            .to_owned();
        Ok(Round {
            median: standard.min(fused),
            best: of("cpu_ms_min", form)?,
            version,
        })
    }))
}
