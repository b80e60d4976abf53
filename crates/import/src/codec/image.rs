//! PNG to samples.

use std::io::Cursor;

use super::CodecError;

/// Most pixels of an image before it is made smaller.
const MAX_PIXELS: u64 = 1 << 24;

/// Samples of an image, `[height, width, channels]`, 0 … 255, made smaller by an exact integer factor where it is larger than wanted.
///
/// Colour becomes gray by the mean of its channels, gray becomes colour by repetition; transparency is laid on black.
///
/// # Errors
/// [`CodecError::Image`] when it is no PNG, too large, or not an exact multiple of the wanted size.
pub fn samples(png: &[u8], height: u32, width: u32, channels: u32) -> Result<Vec<f64>, CodecError> {
    let bad = |why: String| CodecError::Image { why };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(png), png::Limits { bytes: 256 << 20 });
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|e| bad(e.to_string()))?;
    let (h, w) = (reader.info().height, reader.info().width);
    if u64::from(h) * u64::from(w) > MAX_PIXELS {
        return Err(bad(format!("{w}×{h} pixels, at most {MAX_PIXELS} in all")));
    }
    let factor = h / height.max(1);
    if factor == 0 || h != height * factor || w != width * factor {
        return Err(bad(format!("{w}×{h} pixels, the model takes {width}×{height} or an exact multiple")));
    }
    let mut bytes = vec![0; reader.output_buffer_size().ok_or_else(|| bad("too large".into()))?];
    let info = reader.next_frame(&mut bytes).map_err(|e| bad(e.to_string()))?;
    let stride = info.color_type.samples();
    let (colours, alpha) = match info.color_type {
        png::ColorType::Grayscale => (1, false),
        png::ColorType::GrayscaleAlpha => (1, true),
        png::ColorType::Rgb => (3, false),
        png::ColorType::Rgba => (3, true),
        png::ColorType::Indexed => return Err(bad("palette was not expanded".into())),
    };
    let pixel = |y: usize, x: usize, c: usize| -> f64 {
        let at = (y * w as usize + x) * stride;
        let sample = |i: usize| f64::from(bytes.get(at + i).copied().unwrap_or(0));
        let opaque = if alpha { sample(colours) / 255.0 } else { 1.0 };
        let value = match (colours, channels) {
            (3, 1) => (sample(0) + sample(1) + sample(2)) / 3.0,
            (1, _) => sample(0),
            _ => sample(c),
        };
        value * opaque
    };
    let f = factor as usize;
    let mut out = Vec::with_capacity((height * width * channels) as usize);
    for y in 0..height as usize {
        for x in 0..width as usize {
            for c in 0..channels as usize {
                let cells = (0..f * f).map(|i| pixel(y * f + i / f, x * f + i % f, c));
                out.push(cells.sum::<f64>() / (f * f) as f64);
            }
        }
    }
    Ok(out)
}
