//! Inline requests: one line of words, typed by a person at a terminal.
//!
//! Words are separated by blanks. A double-quoted part knows `\n \r \t \b \a`, `\xhh` and `\` before any other byte; a
//! single-quoted part knows `\'` only. A quoted part may start inside a word but must end it. Unescaped bytes do not exist
//! in the input, so words are copied out; a line costs one pass and no allocation once `text` has grown.

/// The quotes are unbalanced, or a closing quote is followed by something other than a blank.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Splits `line` (no terminator, no NUL) and appends each word's bytes to `text` and its start and end there to `ranges`.
pub(super) fn split(line: &[u8], text: &mut Vec<u8>, ranges: &mut Vec<(u32, u32)>) -> Result<(), Unbalanced> {
    debug_assert!(!line.contains(&0));
    let mut rest = line;
    loop {
        let Some(first) = rest.iter().position(|&byte| !is_blank(byte)) else {
            return Ok(());
        };
        let start = text.len();
        rest = word(&rest[first..], text)?;
        ranges.push((start as u32, text.len() as u32));
    }
}

/// Reads one word and returns what follows it.
fn word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            // Fewer than `is_blank`: a vertical tab or a form feed is part of a word that has begun.
            b' ' | b'\n' | b'\r' | b'\t' => break,
            b'"' => return double_quoted(rest, text).and_then(ends_word),
            b'\'' => return single_quoted(rest, text).and_then(ends_word),
            _ => text.push(*byte),
        }
    }
    Ok(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        let (byte, tail) = match rest {
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => (unescape(*escaped), tail),
            [byte, tail @ ..] => (*byte, tail),
            [] => return Err(Unbalanced),
        };
        text.push(byte);
        rest = tail;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        let (byte, tail) = match rest {
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [b'\'', tail @ ..] => return Ok(tail),
            [byte, tail @ ..] => (*byte, tail),
            [] => return Err(Unbalanced),
        };
        text.push(byte);
        rest = tail;
    }
}

fn ends_word(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest.first() {
        Some(&byte) if !is_blank(byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// The blanks of C's `isspace` in the C locale.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let (mut text, mut ranges) = (Vec::new(), Vec::new());
        split(line.as_bytes(), &mut text, &mut ranges)?;
        Ok(ranges.iter().map(|&(start, end)| text[start as usize..end as usize].to_vec()).collect())
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words(""), Ok(vec![]));
        assert_eq!(words(" \t "), Ok(vec![]));
        assert_eq!(words("set k \"a\\x20b\""), Ok(vec![b"set".to_vec(), b"k".to_vec(), b"a b".to_vec()]));
        assert_eq!(words("a'b c'  \"\""), Ok(vec![b"ab c".to_vec(), b"".to_vec()]));
        for line in ["\"", "'", "'a'b", "\"a\"b", "\"a\\\""] {
            assert_eq!(words(line), Err(Unbalanced), "{line}");
        }
    }
}
