//! PNG to pixels. Integer arithmetic only, so that every gateway makes the same tensor of the same file.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::CodecError;

/// Largest PNG file, bytes.
pub const MAX_PNG: usize = 8 << 20;
/// Largest width and height, pixels.
pub const MAX_SIDE: u32 = 4096;

/// An image of 8-bit pixels, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 (gray) or 3 (RGB).
    pub channels: u32,
    /// Row-major.
    pub pixels: Vec<u8>,
}

impl Image {
    /// Decodes a gray or RGB PNG of any bit depth (16-bit samples lose their low byte). An alpha channel must be opaque.
    ///
    /// # Errors
    /// [`CodecError::Png`] for anything else, [`CodecError::TooManyBytes`] above [`MAX_PNG`].
    pub fn decode(png: &[u8]) -> Result<Self, CodecError> {
        if png.len() > MAX_PNG {
            return Err(CodecError::TooManyBytes {
                what: "image",
                bytes: png.len(),
                limit: MAX_PNG,
            });
        }
        let bad = |e: png::DecodingError| CodecError::Png { why: e.to_string() };
        let why = |why: String| CodecError::Png { why };
        let mut decoder = Decoder::new_with_limits(Cursor::new(png), Limits { bytes: 256 << 20 });
        decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
        let mut reader = decoder.read_info().map_err(bad)?;
        let (width, height) = (reader.info().width, reader.info().height);
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(why(format!(
                "{width} x {height} pixels, at most {MAX_SIDE} a side"
            )));
        }
        let size = reader
            .output_buffer_size()
            .ok_or_else(|| why("the image is too large".into()))?;
        let mut pixels = vec![0; size];
        let info = reader.next_frame(&mut pixels).map_err(bad)?;
        pixels.truncate(info.buffer_size());
        if info.bit_depth != BitDepth::Eight {
            return Err(why(format!("{:?} bits a sample", info.bit_depth)));
        }
        let (channels, alpha) = match info.color_type {
            ColorType::Grayscale => (1, false),
            ColorType::GrayscaleAlpha => (1, true),
            ColorType::Rgb => (3, false),
            ColorType::Rgba => (3, true),
            ColorType::Indexed => return Err(why("a palette that was not expanded".into())),
        };
        if alpha {
            let cells = pixels.chunks_exact(channels as usize + 1);
            if cells.clone().any(|c| c.last() != Some(&255)) {
                return Err(why("transparent pixels; flatten the image first".into()));
            }
            pixels = cells
                .flat_map(|c| c.iter().take(channels as usize).copied())
                .collect();
        }
        Ok(Self {
            width,
            height,
            channels,
            pixels,
        })
    }

    /// The image with the wanted size and channels. Sizes may differ by a whole factor, the same in both directions: cells are averaged
    /// (rounded half up) or repeated. RGB becomes gray as `(299 R + 587 G + 114 B + 500) / 1000`, gray becomes RGB by repetition.
    ///
    /// # Errors
    /// [`CodecError::ImageSize`] for any other size.
    pub fn fitted(self, width: u32, height: u32, channels: u32) -> Result<Self, CodecError> {
        self.recoloured(channels).resized(width, height)
    }

    fn recoloured(self, channels: u32) -> Self {
        let pixels = match (self.channels, channels) {
            (3, 1) => {
                let gray = |c: &[u8; 3]| {
                    ((299 * u32::from(c[0]) + 587 * u32::from(c[1]) + 114 * u32::from(c[2]) + 500)
                        / 1000) as u8
                };
                self.pixels.as_chunks::<3>().0.iter().map(gray).collect()
            }
            (1, 3) => self.pixels.iter().flat_map(|g| [*g; 3]).collect(),
            _ => return self,
        };
        Self {
            channels,
            pixels,
            ..self
        }
    }

    fn at(&self, row: u32, column: u32, channel: u32) -> u32 {
        let index = (row as usize * self.width as usize + column as usize) * self.channels as usize
            + channel as usize;
        self.pixels.get(index).copied().map_or(0, u32::from)
    }

    fn resized(self, width: u32, height: u32) -> Result<Self, CodecError> {
        if (self.width, self.height) == (width, height) {
            return Ok(self);
        }
        let factor = |big: u32, small: u32| {
            if small > 0 && big.is_multiple_of(small) {
                Some(big / small)
            } else {
                None
            }
        };
        let down = factor(self.width, width).filter(|f| factor(self.height, height) == Some(*f));
        let up = factor(width, self.width).filter(|f| factor(height, self.height) == Some(*f));
        let mut pixels =
            Vec::with_capacity(width as usize * height as usize * self.channels as usize);
        for row in 0..height {
            for column in 0..width {
                for channel in 0..self.channels {
                    pixels.push(match (down, up) {
                        (Some(f), _) => {
                            let cells = (0..f).flat_map(|y| (0..f).map(move |x| (y, x)));
                            let sum: u64 = cells
                                .map(|(y, x)| {
                                    u64::from(self.at(row * f + y, column * f + x, channel))
                                })
                                .sum();
                            let n = u64::from(f) * u64::from(f);
                            ((2 * sum + n) / (2 * n)) as u8
                        }
                        (None, Some(f)) => self.at(row / f, column / f, channel) as u8,
                        (None, None) => {
                            let (have_width, have_height) = (self.width, self.height);
                            return Err(CodecError::ImageSize {
                                have_width,
                                have_height,
                                want_width: width,
                                want_height: height,
                            });
                        }
                    });
                }
            }
        }
        Ok(Self {
            width,
            height,
            pixels,
            channels: self.channels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png_of(width: u32, height: u32, color: ColorType, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_color(color);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header().expect("header");
        writer.write_image_data(data).expect("data");
        drop(writer);
        out
    }

    #[test]
    fn averages_repeats_and_recolours() {
        let gray =
            Image::decode(&png_of(2, 2, ColorType::Grayscale, &[0, 10, 20, 31])).expect("png");
        assert_eq!(gray.clone().fitted(1, 1, 1).expect("fits").pixels, [15]);
        assert_eq!(
            gray.clone().fitted(4, 4, 1).expect("fits").pixels.get(..4),
            Some(&[0, 0, 10, 10][..])
        );
        assert_eq!(gray.clone().fitted(2, 2, 3).expect("fits").pixels.len(), 12);
        let error = gray.fitted(3, 2, 1).expect_err("no whole factor");
        assert_eq!(
            error,
            CodecError::ImageSize {
                have_width: 2,
                have_height: 2,
                want_width: 3,
                want_height: 2
            }
        );
        let rgb = Image::decode(&png_of(1, 1, ColorType::Rgb, &[255, 0, 0])).expect("png");
        assert_eq!(rgb.fitted(1, 1, 1).expect("fits").pixels, [76]);
    }

    #[test]
    fn refuses_transparency_and_noise() {
        assert!(Image::decode(&png_of(1, 1, ColorType::Rgba, &[1, 2, 3, 254])).is_err());
        assert!(Image::decode(&png_of(1, 1, ColorType::Rgba, &[1, 2, 3, 255])).is_ok());
        assert!(Image::decode(b"\x89PNG\r\n\x1a\nnot really").is_err());
    }
}
