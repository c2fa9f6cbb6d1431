//! QR codes as SVG.

use crate::control::api_error::ApiError;
use qrcodegen::{QrCode, QrCodeEcc};
use std::fmt::Write;

/// Light modules around a code, which readers rely on.
const QUIET_ZONE: i32 = 4;

/// A QR code of `text` as an SVG document: black on white, without style attributes or scripts, one unit per
/// module, so that a page gives it its size.
///
/// # Errors
/// The text is too long for a QR code.
pub fn svg(text: &str) -> Result<String, ApiError> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).map_err(|_| ApiError::Internal)?;
    let side = code.size() + 2 * QUIET_ZONE;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            let (left, top) = (x + QUIET_ZONE, y + QUIET_ZONE);
            write!(path, "M{left} {top}h1v1h-1z").map_err(|_| ApiError::Internal)?;
        }
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_an_image_of_modules() {
        let svg = svg("HELLO").unwrap();
        // Version 1 has 21 modules, and a finder pattern begins in each of three corners.
        assert!(svg.contains("viewBox=\"0 0 29 29\""), "{svg}");
        for corner in ["M4 4h1v1h-1z", "M18 4h1v1h-1z", "M4 18h1v1h-1z"] {
            assert!(svg.contains(corner), "{corner}");
        }
        assert!(!svg.contains("style") && !svg.contains("script"));
    }

    #[test]
    fn a_text_that_fits_no_code_is_refused() {
        assert!(super::svg(&"x".repeat(5000)).is_err());
        assert!(super::svg("<script>&\"'").unwrap().starts_with("<svg "), "text never is markup");
    }
}
