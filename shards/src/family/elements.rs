//! Elements of hashes and sets in replies, and the counts with which they are drawn at random.

use crate::error::Error;
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::value::item::Item;

/// Writes an element as a bulk string.
#[inline]
pub fn bulk_item(r: &mut Reply<'_>, item: Item<'_>) {
    match item {
        Item::Bytes(bytes) => r.bulk(bytes),
        Item::Int(int) => r.bulk_integer(int),
    }
}

/// How many elements a client wants drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Draws {
    /// All different: at most as many as there are.
    Different(usize),
    /// The same one may come again: exactly so many.
    Repeated(usize),
}

/// Most draws of one command that may repeat, so that a few bytes cannot ask for a reply without bounds.
pub const DRAWS_MAX: usize = 1 << 24;

impl Draws {
    /// A count argument; a negative one asks for repeated draws.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        match parse_i64(text).ok_or(Error::NotInteger)? {
            i64::MIN => {
                Err(Error::Text("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"))
            }
            count @ 0.. => Ok(Draws::Different(usize::try_from(count).unwrap_or(usize::MAX))),
            count => match usize::try_from(count.unsigned_abs()) {
                Ok(count) if count <= DRAWS_MAX => Ok(Draws::Repeated(count)),
                _ => Err(Error::OutOfRange),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_draws() {
        let range = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
        for (text, want) in [
            ("0", Ok(Draws::Different(0))),
            ("5", Ok(Draws::Different(5))),
            ("-5", Ok(Draws::Repeated(5))),
            ("-16777216", Ok(Draws::Repeated(DRAWS_MAX))),
            ("-16777217", Err(Error::OutOfRange)),
            ("9223372036854775807", Ok(Draws::Different(i64::MAX as usize))),
            ("-9223372036854775808", Err(Error::Text(range))),
            ("x", Err(Error::NotInteger)),
        ] {
            assert_eq!(Draws::parse(text.as_bytes()), want, "{text}");
        }
    }
}
