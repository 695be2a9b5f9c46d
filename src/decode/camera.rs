//! JPEG and PNG to 8-bit RGB.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use super::DecodeError;
use crate::config::Limits;
use crate::sample::Format;

/// Decodes an image; gray, 16-bit and alpha become RGB (alpha is dropped).
///
/// Width, height and decoded size are checked on the header, before pixels take memory.
pub fn decode(format: Format, bytes: &[u8], limits: &Limits) -> Result<RgbImage, DecodeError> {
    let (name, kind) = match format {
        Format::Png => ("PNG", ImageFormat::Png),
        _ => ("JPEG", ImageFormat::Jpeg),
    };
    let failed = |error: ImageError| DecodeError::malformed(name, error);
    if kind == ImageFormat::Jpeg {
        check_jpeg_end(bytes)?;
    }
    let decoder = ImageReader::with_format(Cursor::new(bytes), kind).into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let side = u64::from(width.max(height));
    if side > u64::from(limits.image_side) {
        return Err(DecodeError::Oversize {
            what: "image side in pixels",
            found: side,
            allowed: u64::from(limits.image_side),
        });
    }
    let rgb_bytes = u64::from(width) * u64::from(height) * 3;
    let decoded = decoder.total_bytes().max(rgb_bytes);
    let allowed = limits.image_decoded_bytes as u64;
    if decoded > allowed {
        return Err(DecodeError::Oversize { what: "decoded image bytes", found: decoded, allowed });
    }
    Ok(DynamicImage::from_decoder(decoder).map_err(failed)?.into_rgb8())
}

/// A JPEG without its end marker is refused: the decoder would fill the missing part with gray.
///
/// Inside the entropy-coded data 0xff is always followed by a stuffed zero or a restart marker, so that the end marker
/// after the first scan header is the real one, and not that of a thumbnail in the metadata.
fn check_jpeg_end(bytes: &[u8]) -> Result<(), DecodeError> {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some(&[0xff, marker]) = bytes.get(at..at + 2).and_then(|two| two.first_chunk()) {
        if marker == START_OF_SCAN {
            let has_end =
                bytes.get(at..).is_some_and(|rest| rest.windows(2).rev().any(|two| two == [0xff, 0xd9]));
            return if has_end {
                Ok(())
            } else {
                Err(DecodeError::truncated("JPEG without end marker", bytes.len(), bytes.len() as u64 + 2))
            };
        }
        // Fill bytes and markers without a length.
        if marker == 0xff {
            at += 1;
            continue;
        }
        if matches!(marker, 0x01 | 0xd0..=0xd9) {
            at += 2;
            continue;
        }
        let Some(&length) = bytes.get(at + 2..).and_then(|rest| rest.first_chunk::<2>()) else { break };
        at += 2 + usize::from(u16::from_be_bytes(length));
    }
    // Not a chain of segments: the decoder says what is wrong with it.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn ramp() -> RgbImage {
        RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 90]))
    }

    #[test]
    fn png_comes_back_exactly_and_jpeg_nearly() {
        let image = ramp();
        let limits = Limits::default();
        let png = encode(&image.clone().into(), ImageFormat::Png);
        assert_eq!(decode(Format::Png, &png, &limits).unwrap(), image);
        let jpeg = encode(&image.clone().into(), ImageFormat::Jpeg);
        let back = decode(Format::Jpeg, &jpeg, &limits).unwrap();
        assert_eq!(back.dimensions(), (40, 30));
        let error: u64 =
            back.as_raw().iter().zip(image.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(error < 3600 * 6, "{error}");
    }

    #[test]
    fn gray_alpha_and_16_bit_become_rgb() {
        let limits = Limits::default();
        let gray = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(3, 2, image::Luma([77])));
        let rgb = decode(Format::Png, &encode(&gray, ImageFormat::Png), &limits).unwrap();
        assert_eq!(rgb.get_pixel(2, 1).0, [77, 77, 77]);
        let deep = DynamicImage::ImageRgba16(image::ImageBuffer::from_pixel(
            3,
            2,
            image::Rgba([0xffff, 0x8080, 0, 0x1234]),
        ));
        let rgb = decode(Format::Png, &encode(&deep, ImageFormat::Png), &limits).unwrap();
        assert_eq!(rgb.get_pixel(0, 0).0, [255, 128, 0]);
    }

    #[test]
    fn limits_hold_before_pixels_are_decoded() {
        let png = encode(&ramp().into(), ImageFormat::Png);
        let narrow = Limits { image_side: 39, ..Limits::default() };
        let error = decode(Format::Png, &png, &narrow).unwrap_err();
        assert_eq!(error, DecodeError::Oversize { what: "image side in pixels", found: 40, allowed: 39 });
        let small = Limits { image_decoded_bytes: 3599, ..Limits::default() };
        assert_eq!(decode(Format::Png, &png, &small).unwrap_err().reason(), "oversize");
    }

    #[test]
    fn cut_files_are_refused() {
        let limits = Limits::default();
        let jpeg = encode(&ramp().into(), ImageFormat::Jpeg);
        let error = decode(Format::Jpeg, &jpeg[..jpeg.len() - 40], &limits).unwrap_err();
        assert_eq!(error.reason(), "truncated");
        let png = encode(&ramp().into(), ImageFormat::Png);
        assert_eq!(decode(Format::Png, &png[..png.len() - 40], &limits).unwrap_err().reason(), "malformed");
        assert!(decode(Format::Jpeg, b"", &limits).is_err());
    }
}
