//! C's `long double` on x86-64 (80 bits: sign, 15 bits of exponent, 64 bits of mantissa), in integer arithmetic.
//!
//! INCRBYFLOAT and HINCRBYFLOAT add in this format and print 17 decimals of the sum, so their digits depend on it: `f64`
//! loses some, and exact decimal arithmetic shows too many. Reading, adding and printing round once each, to nearest, ties
//! to even, as the processor and the C library do. Values are finite or infinite; not-a-number is refused where it would
//! arise.

use super::natural::Natural;

/// Longest text that is read as a number.
const TEXT_MAX: usize = 5 * 1024 - 1;
/// Decimals that are printed, before trailing zeros are cut.
const DECIMALS: usize = 17;
/// Powers of ten beyond this are out of range whatever the digits.
const DECIMAL_EXPONENT_MAX: i64 = 5000;

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LongDouble {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Magnitude {
    /// mantissa · 2^exponent, with the mantissa's top bit set unless the exponent is the least one.
    Finite {
        mantissa: u64,
        exponent: i32,
    },
    Infinite,
}

/// A binary floating-point format: bits of the mantissa, and the range of the exponent of its last bit.
pub(super) struct Format {
    pub bits: u32,
    pub exponent_min: i64,
    pub exponent_max: i64,
}

const EXTENDED: Format = Format { bits: 64, exponent_min: -16445, exponent_max: 16320 };

impl LongDouble {
    pub const ZERO: LongDouble =
        LongDouble { negative: false, magnitude: Magnitude::Finite { mantissa: 0, exponent: EXTENDED.exponent_min as i32 } };

    /// A number as strtold reads it, taking all of `text`: decimal, hexadecimal or `inf`; `None` for anything else, for
    /// NaN, and for what overflows or vanishes.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let magnitude = if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            Magnitude::Infinite
        } else if let [b'0', b'x' | b'X', hex @ ..] = unsigned {
            let (mantissa, exponent) = Ratio::from_hex(hex)?.rounded(&EXTENDED)?;
            Magnitude::Finite { mantissa, exponent }
        } else {
            let (mantissa, exponent) = parse_decimal(unsigned)?.rounded(&EXTENDED)?;
            Magnitude::Finite { mantissa, exponent }
        };
        Some(LongDouble { negative, magnitude })
    }

    pub fn is_infinite(self) -> bool {
        self.magnitude == Magnitude::Infinite
    }

    /// The sum; `None` when it is infinite or not a number.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let parts = |value: LongDouble| match value.magnitude {
            Magnitude::Finite { mantissa, exponent } => Some((mantissa, exponent, value.negative)),
            Magnitude::Infinite => None,
        };
        let (mut large, mut small) = (parts(self)?, parts(other)?);
        if (small.1, small.0) > (large.1, large.0) {
            std::mem::swap(&mut large, &mut small);
        }
        // The larger one's last bit is bit 63 of the sum, which leaves one bit above for a carry.
        let distance = (large.1 - small.1) as u32;
        let (high, aligned) = (u128::from(large.0) << 63, u128::from(small.0) << 63);
        let low = aligned.checked_shr(distance).unwrap_or(0);
        let lost = low.checked_shl(distance).unwrap_or(0) != aligned;
        let sum = if large.2 == small.2 { high + low } else { high - low - u128::from(lost) };
        let ratio = Ratio { mantissa: sum, exponent: i64::from(large.1) - 63, inexact: lost };
        let (mantissa, exponent) = ratio.round(&EXTENDED)?;
        let negative = large.2 && (sum != 0 || small.2);
        Some(LongDouble { negative, magnitude: Magnitude::Finite { mantissa, exponent } })
    }

    /// printf's `%.17Lf` without trailing zeros, nor a point at the end; zero has no sign.
    pub fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.negative {
            out.push(b'-');
        }
        match self.magnitude {
            Magnitude::Infinite => out.extend_from_slice(b"inf"),
            Magnitude::Finite { mantissa, exponent } if exponent >= 0 => {
                let mut natural = Natural::from(mantissa);
                natural.shift_left(exponent as usize);
                natural.write(out);
            }
            Magnitude::Finite { mantissa, exponent } => write_fraction(mantissa, exponent.unsigned_abs(), out),
        }
        if out[start..] == *b"-0" {
            out.remove(start);
        }
    }
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> Self {
        let exact = Ratio { mantissa: u128::from(value.unsigned_abs()), exponent: 0, inexact: false };
        let (mantissa, exponent) = exact.round(&EXTENDED).expect("every i64 is in range");
        LongDouble { negative: value < 0, magnitude: Magnitude::Finite { mantissa, exponent } }
    }
}

/// mantissa · 2^-shift in decimal, rounded to [`DECIMALS`].
fn write_fraction(mantissa: u64, shift: u32, out: &mut Vec<u8>) {
    const UNIT: u128 = 10u128.pow(DECIMALS as u32);
    // 64 bits times 57: below 2^121, so from a shift of 122 on the result is under one half.
    let exact = u128::from(mantissa) * UNIT;
    let scaled = if shift >= 122 { 0 } else { round_shift(exact, shift, false) };
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(scaled / UNIT).as_bytes());
    let decimals = digits.format(scaled % UNIT).as_bytes();
    if decimals != b"0" {
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', DECIMALS - decimals.len()));
        out.extend_from_slice(decimals);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// `value` without its last `shift` bits (1 to 127), rounded to nearest, ties to even; `inexact` says that something
/// smaller than its last bit has been dropped from it before.
fn round_shift(value: u128, shift: u32, inexact: bool) -> u128 {
    let (kept, rest, half) = (value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1));
    let up = rest > half || rest == half && (inexact || kept & 1 == 1);
    kept + u128::from(up)
}

/// A number before rounding: mantissa · 2^exponent and, if `inexact`, a little more, of less than the last bit.
pub(super) struct Ratio {
    pub mantissa: u128,
    pub exponent: i64,
    pub inexact: bool,
}

impl Ratio {
    /// What stands after `0x`: hexadecimal digits with an optional point, then an optional binary exponent.
    pub fn from_hex(text: &[u8]) -> Option<Ratio> {
        let (digits, exponent) = split_exponent(text, b'p')?;
        let mut ratio = Ratio { mantissa: 0, exponent, inexact: false };
        let places = for_each_digit(digits, 16, |digit| {
            if ratio.mantissa >> 120 == 0 {
                ratio.mantissa = ratio.mantissa << 4 | u128::from(digit);
            } else {
                ratio.inexact |= digit > 0;
                ratio.exponent = ratio.exponent.saturating_add(4);
            }
        })?;
        ratio.exponent = ratio.exponent.saturating_sub(4 * places);
        Some(ratio)
    }

    /// As [`Ratio::round`], `None` also for what vanishes without being zero.
    pub fn rounded(&self, format: &Format) -> Option<(u64, i32)> {
        self.round(format).filter(|&(mantissa, _)| mantissa > 0 || self.mantissa == 0)
    }

    /// The nearest (mantissa, exponent) of the format; `None` on overflow.
    fn round(&self, format: &Format) -> Option<(u64, i32)> {
        let least = format.exponent_min;
        if self.mantissa == 0 {
            return Some((0, least as i32));
        }
        let bits = i64::from(128 - self.mantissa.leading_zeros());
        let mut shift = (bits - i64::from(format.bits)).max(least.saturating_sub(self.exponent));
        let mut mantissa = match shift {
            ..=0 => self.mantissa << shift.unsigned_abs(),
            1..128 => round_shift(self.mantissa, shift as u32, self.inexact),
            _ => 0,
        };
        if mantissa >> format.bits != 0 {
            mantissa >>= 1;
            shift += 1;
        }
        let exponent = self.exponent.saturating_add(shift);
        (exponent <= format.exponent_max).then_some((mantissa as u64, exponent as i32))
    }
}

fn parse_decimal(text: &[u8]) -> Option<Ratio> {
    /// Ten to this power, and any number of as many digits, fits 64 bits.
    const SMALL: i64 = 19;
    let (digits, exponent) = split_exponent(text, b'e')?;
    let (mut low, mut significant) = (0u64, 0);
    let places = for_each_digit(digits, 10, |digit| {
        low = low.wrapping_mul(10).wrapping_add(u64::from(digit));
        significant += i64::from(significant > 0 || digit > 0);
    })?;
    let exponent = exponent.saturating_sub(places);
    if significant == 0 {
        return Some(Ratio { mantissa: 0, exponent: 0, inexact: false });
    }
    if exponent.saturating_add(significant).abs() > DECIMAL_EXPONENT_MAX {
        return None;
    }
    let size = exponent.unsigned_abs() as u32;
    if significant <= SMALL && exponent.abs() <= SMALL {
        let power = 10u64.pow(size);
        let product = Ratio { mantissa: u128::from(low) * u128::from(power), exponent: 0, inexact: false };
        return Some(if exponent >= 0 { product } else { divide_small(low, power) });
    }
    let (mut numerator, mut chunk, mut unit) = (Natural::default(), 0, 1);
    for_each_digit(digits, 10, |digit| {
        (chunk, unit) = (chunk * 10 + digit, unit * 10);
        if unit == 1_000_000_000 {
            numerator.multiply_add(unit, chunk);
            (chunk, unit) = (0, 1);
        }
    })?;
    numerator.multiply_add(unit, chunk);
    let mut denominator = Natural::from(1);
    if exponent >= 0 { &mut numerator } else { &mut denominator }.scale_by_ten(size as usize);
    Some(divide(numerator, denominator))
}

/// The quotient of two numbers that are not zero, to at least 126 bits.
fn divide_small(numerator: u64, denominator: u64) -> Ratio {
    let (up, down) = (numerator.leading_zeros(), denominator.leading_zeros());
    let (numerator, denominator) = (u128::from(numerator << up) << 63, u128::from(denominator << down));
    // The denominator's top bit is bit 63, so both digits of the quotient fit 64 bits.
    let (high, rest) = (numerator / denominator, numerator % denominator);
    let (low, rest) = ((rest << 64) / denominator, (rest << 64) % denominator);
    let exponent = i64::from(down) - i64::from(up) - 127;
    Ratio { mantissa: high << 64 | low, exponent, inexact: rest > 0 }
}

/// The quotient of two numbers that are not zero, with a few bits more than a mantissa needs.
fn divide(mut numerator: Natural, mut denominator: Natural) -> Ratio {
    const BITS: i64 = 68;
    let first = numerator.bits() as i64 - denominator.bits() as i64;
    if first >= 0 { &mut denominator } else { &mut numerator }.shift_left(first.unsigned_abs() as usize);
    let mut mantissa = 0;
    for _ in 0..BITS {
        mantissa <<= 1;
        if numerator.at_least(&denominator) {
            numerator.subtract(&denominator);
            mantissa |= 1;
        }
        numerator.shift_left(1);
    }
    Ratio { mantissa, exponent: first - (BITS - 1), inexact: !numerator.is_zero() }
}

/// The digits and the exponent after `mark` (0 if there is none; saturated).
fn split_exponent(text: &[u8], mark: u8) -> Option<(&[u8], i64)> {
    let Some(at) = text.iter().position(|byte| byte.to_ascii_lowercase() == mark) else { return Some((text, 0)) };
    let (negative, digits) = match &text[at + 1..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some((&text[..at], if negative { -value } else { value }))
}

/// Calls `visit` with each digit's value and returns how many stand after the point; `None` unless `text` is digits (at
/// least one) and at most one point.
fn for_each_digit(text: &[u8], radix: u32, mut visit: impl FnMut(u32)) -> Option<i64> {
    let mut point = None;
    for (at, &byte) in text.iter().enumerate() {
        if byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            visit(char::from(byte).to_digit(radix)?);
        }
    }
    let places = point.map_or(0, |at| text.len() - at - 1);
    (text.len() > usize::from(point.is_some())).then_some(places as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: LongDouble) -> String {
        let mut out = Vec::new();
        value.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sums_have_the_digits_of_the_reference() {
        for (a, b, want) in [
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("3", "-1.1", "1.9"),
            ("1", "-1", "0"),
            ("-0", "0", "0"),
            ("17179869184", "1.5", "17179869185.5"),
            ("0x10", "0x1.8p1", "19"),
            ("1e-17", "-1", "-0.99999999999999999"),
            ("1e-18", "-1", "-1"),
            ("-1e-20", "0", "0"),
        ] {
            let sum = LongDouble::parse(a.as_bytes()).unwrap().checked_add(LongDouble::parse(b.as_bytes()).unwrap()).unwrap();
            assert_eq!(shown(sum), want, "{a} + {b}");
        }
    }

    #[test]
    fn texts_that_are_no_numbers() {
        let long = "1".repeat(TEXT_MAX + 1);
        for text in
            ["", "-", ".", "e1", "1e", "1e+", " 1", "1 ", "nan", "0x", "0x.", "0x1p", "1e4933", "1e-5000", "1..2", "+-1", &long]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        for text in ["1e4932", "1e-4950", "0e99999999999999999999", "inf", "-Infinity", ".5", "5.", "0x.8", "1e-99999999999e"] {
            assert_eq!(LongDouble::parse(text.as_bytes()).is_some(), !text.ends_with('e'), "{text:?}");
        }
        let infinite = LongDouble::parse(b"inf").unwrap();
        assert!(infinite.is_infinite() && infinite.checked_add(LongDouble::ZERO).is_none());
        let most = LongDouble::parse(b"1.1e4932").unwrap();
        assert!(most.checked_add(most).is_none());
    }
}
