//! What the commands that wait share: how their timeout is read.

use crate::error::Error;
use crate::number::parse_f64;

/// A timeout argument, in seconds with fractions, as milliseconds; 0 waits for ever.
pub fn timeout_ms(text: &[u8], now: i64) -> Result<i64, Error> {
    let seconds = parse_f64(text).ok_or(Error::Text("ERR timeout is not a float or out of range"))?;
    // What leaves the range of an i64 becomes the least one there, infinities included.
    let ms = (seconds * 1000.0).ceil();
    if ms < 0.0 || ms >= i64::MAX as f64 {
        return Err(Error::Text("ERR timeout is negative"));
    }
    let ms = ms as i64;
    if now.checked_add(ms).is_none() {
        return Err(Error::Text("ERR timeout is out of range"));
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_with_fractions() {
        let read = |text: &str| timeout_ms(text.as_bytes(), 1_700_000_000_000).map_err(|e| e.text().into_owned());
        assert_eq!(read("0"), Ok(0));
        assert_eq!(read("0.0001"), Ok(1));
        assert_eq!(read("1.5"), Ok(1500));
        assert_eq!(read("-0.0001"), Ok(0));
        assert_eq!(read("-1"), Err("ERR timeout is negative".into()));
        assert_eq!(read("x"), Err("ERR timeout is not a float or out of range".into()));
        assert_eq!(read("9223372036854775807"), Err("ERR timeout is negative".into()));
        assert_eq!(read("inf"), Err("ERR timeout is negative".into()));
        assert_eq!(read("9223372036854000"), Err("ERR timeout is out of range".into()));
    }
}
