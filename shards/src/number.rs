//! Numbers in arguments and replies, read and written exactly as Redis does.

mod long_double;
mod natural;

pub use long_double::LongDouble;
use long_double::{Format, Ratio};

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
    if negative { (value <= 1 << 63).then(|| (value as i64).wrapping_neg()) } else { i64::try_from(value).ok() }
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

/// The integer that `text` begins with, as strtol reads it: blanks, a sign, digits; beyond 64 bits the nearest one, as an error.
/// And how many bytes it takes, none if there is no digit.
pub fn leading_integer(text: &[u8]) -> (Result<i64, i64>, usize) {
    let blanks = text.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count();
    let negative = text.get(blanks) == Some(&b'-');
    let start = blanks + usize::from(matches!(text.get(blanks), Some(b'-' | b'+')));
    let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return (Ok(0), 0);
    }
    let value = text[start..start + digits].iter().try_fold(0i64, |value, digit| {
        let digit = i64::from(digit - b'0');
        value.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
    });
    (value.ok_or(if negative { i64::MIN } else { i64::MAX }), start + digits)
}

/// A float as strtod reads it, taking all of `text`: decimal, exponent, hexadecimal, `inf`, `infinity`. `None` for anything
/// else, for NaN, and for what overflows or vanishes.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let (negative, magnitude) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let first = *magnitude.first()?;
    let value = if let [b'0', b'x' | b'X', hex @ ..] = magnitude {
        let (mantissa, exponent) = Ratio::from_hex(hex)?.rounded(&DOUBLE)?;
        double(mantissa, exponent)
    } else if first.is_ascii_digit() || first == b'.' {
        let value = std::str::from_utf8(magnitude).ok()?.parse::<f64>().ok()?;
        let vanished = value == 0.0
            && magnitude.iter().take_while(|byte| !byte.eq_ignore_ascii_case(&b'e')).any(|byte| matches!(byte, b'1'..=b'9'));
        if value.is_infinite() || vanished {
            return None;
        }
        value
    } else if magnitude.eq_ignore_ascii_case(b"inf") || magnitude.eq_ignore_ascii_case(b"infinity") {
        f64::INFINITY
    } else {
        return None;
    };
    Some(if negative { -value } else { value })
}

const DOUBLE: Format = Format { bits: 53, exponent_min: -1074, exponent_max: 971 };

/// mantissa · 2^exponent, which has been rounded to a double already.
fn double(mantissa: u64, exponent: i32) -> f64 {
    const FRACTION_BITS: u32 = DOUBLE.bits - 1;
    if mantissa >> FRACTION_BITS == 0 {
        return f64::from_bits(mantissa);
    }
    let biased = (i64::from(exponent) - DOUBLE.exponent_min + 1) as u64;
    f64::from_bits(biased << FRACTION_BITS | (mantissa & ((1 << FRACTION_BITS) - 1)))
}

/// A double as replies and scores show it: `%.17g`, `inf`, `-inf`, `nan`.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if value.fract() == 0.0 && value.abs() < 4_503_599_627_370_496.0 && (value != 0.0 || value.is_sign_positive()) {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        write_g17(out, value);
    }
}

/// printf's `%.17g` of a finite number: 17 significant digits without trailing zeros; with an exponent below 10^-4 and from
/// 10^17 on.
pub fn write_g17(out: &mut Vec<u8>, value: f64) {
    use std::io::Write;
    debug_assert!(value.is_finite());
    let mut scientific = [0u8; 32]; // "-d.dddddddddddddddde-ddd"
    let mut rest = &mut scientific[..];
    write!(rest, "{:.16e}", value.abs()).expect("17 digits and an exponent fit");
    let written = 32 - rest.len();
    let text = &scientific[..written];
    let mark = text.iter().position(|&byte| byte == b'e').expect("the format has an exponent");
    let exponent = parse_i64(&text[mark + 1..]).expect("the exponent is an integer");
    let mut digits = [text[0]; 17];
    digits[1..].copy_from_slice(&text[2..mark]);
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let (before, zeros, after) = match exponent {
        0..17 => (&digits[..=exponent as usize], 0, &digits[exponent as usize + 1..]),
        -4..0 => (&b"0"[..], exponent.unsigned_abs() as usize - 1, &digits[..]),
        _ => (&digits[..1], 0, &digits[1..]),
    };
    out.extend_from_slice(before);
    if let Some(last) = after.iter().rposition(|&digit| digit != b'0') {
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', zeros));
        out.extend_from_slice(&after[..=last]);
    }
    if !(-4..17).contains(&exponent) {
        let size = exponent.unsigned_abs();
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if size < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(size).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_integers_are_those_of_strtol() {
        let cases: [(&[u8], _); 11] = [
            (b"", (Ok(0), 0)),
            (b"x", (Ok(0), 0)),
            (b" -", (Ok(0), 0)),
            (b"+-1", (Ok(0), 0)),
            (b"12x", (Ok(12), 2)),
            (b" \t\x0b+12", (Ok(12), 6)),
            (b"-007 ", (Ok(-7), 4)),
            (b"-9223372036854775808", (Ok(i64::MIN), 20)),
            (b"-9223372036854775809", (Err(i64::MIN), 20)),
            (b"9223372036854775808!", (Err(i64::MAX), 19)),
            (b"\r\n5", (Ok(5), 3)),
        ];
        for (text, expected) in cases {
            assert_eq!(leading_integer(text), expected, "{}", text.escape_ascii());
        }
    }

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
            ("1e", None),
            ("1e400", None),
            ("1e-400", None),
            ("0e-400", Some(0.0)),
            ("5e-324", Some(5e-324)),
            ("0x1.fffffffffffff8p0", Some(2.0)),
            ("0x1p-1074", Some(5e-324)),
            ("0x1p-1076", None),
            ("0x1p1024", None),
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
            (1e-10, "1e-10"),
            (0.00012, "0.00012"),
            (0.000012, "1.2e-05"),
            (5e-324, "4.9406564584124654e-324"),
            (-0.0, "-0"),
            (0.0, "0"),
            (9007199254740993.0, "9007199254740992"),
            (99999999999999999.0, "1e+17"),
            (-2.5, "-2.5"),
            (1e20, "1e+20"),
            (123456789012345680.0, "1.2345678901234568e+17"),
        ] {
            let mut out = Vec::new();
            write_f64(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
