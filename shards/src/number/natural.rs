//! `Natural`: an unsigned integer of any size, with the few operations that reading and printing floats exactly needs.

/// 32-bit digits, least significant first, without leading zeros.
#[derive(Clone, Default, Debug)]
pub struct Natural(Vec<u32>);

/// Decimal digits of one chunk when printing: the most that fit 32 bits.
const CHUNK_DIGITS: usize = 9;
const CHUNK: u32 = 1_000_000_000;

impl Natural {
    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Position of the highest set bit plus one; 0 for zero.
    pub fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    /// `self * factor + addend`.
    pub fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for digit in &mut self.0 {
            let product = u64::from(*digit) * u64::from(factor) + carry;
            *digit = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// `self * 10^exponent`.
    pub fn scale_by_ten(&mut self, exponent: usize) {
        for _ in 0..exponent / CHUNK_DIGITS {
            self.multiply_add(CHUNK, 0);
        }
        self.multiply_add(10u32.pow((exponent % CHUNK_DIGITS) as u32), 0);
    }

    pub fn shift_left(&mut self, bits: usize) {
        if self.is_zero() {
            return;
        }
        let small = bits % 32;
        if small > 0 {
            self.multiply_add(1 << small, 0);
        }
        self.0.splice(0..0, std::iter::repeat_n(0, bits / 32));
    }

    pub fn at_least(&self, other: &Natural) -> bool {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev())).is_ge()
    }

    /// `self - other`; `other` must not be larger.
    pub fn subtract(&mut self, other: &Natural) {
        debug_assert!(self.at_least(other));
        let mut borrow = false;
        for (index, digit) in self.0.iter_mut().enumerate() {
            let (less, first) = digit.overflowing_sub(other.0.get(index).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u32::from(borrow));
            *digit = less;
            borrow = first || second;
        }
        self.trim();
    }

    /// Appends the decimal digits.
    pub fn write(mut self, out: &mut Vec<u8>) {
        let mut chunks = Vec::new();
        while !self.is_zero() {
            let mut rest = 0u64;
            for digit in self.0.iter_mut().rev() {
                let dividend = rest << 32 | u64::from(*digit);
                *digit = (dividend / u64::from(CHUNK)) as u32;
                rest = dividend % u64::from(CHUNK);
            }
            self.trim();
            chunks.push(rest as u32);
        }
        let mut buffer = itoa::Buffer::new();
        out.extend_from_slice(buffer.format(chunks.pop().unwrap_or(0)).as_bytes());
        for chunk in chunks.into_iter().rev() {
            let digits = buffer.format(chunk).as_bytes();
            out.extend(std::iter::repeat_n(b'0', CHUNK_DIGITS - digits.len()));
            out.extend_from_slice(digits);
        }
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

impl From<u64> for Natural {
    fn from(value: u64) -> Self {
        let mut natural = Natural(vec![value as u32, (value >> 32) as u32]);
        natural.trim();
        natural
    }
}
