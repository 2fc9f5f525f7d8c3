//! Words of a configuration line: splitting them by Redis's quoting rules, and quoting a value so that it survives.
//!
//! Owns the rules of `"…"` (escapes `\n \r \t \b \a \xHH`, any other `\c` is c) and `'…'` (only `\'`). Knows nothing of
//! directives. A quote opens anywhere in a word but its end must be followed by a blank.

/// The words of `line`, or nothing if a quote is not closed or is followed by more than a blank.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|b| is_blank(**b)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// `text` between double quotes, such that [`split`] gives it back and a line stays printable.
pub fn quote(text: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in text {
        match byte {
            b'\\' | b'"' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'\t' => quoted.extend(b"\\t"),
            0x07 => quoted.extend(b"\\a"),
            0x08 => quoted.extend(b"\\b"),
            b' '..=b'~' => quoted.push(byte),
            _ => quoted.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Takes one word off the front of `rest` (which starts with no blank); what follows the word.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match *rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t' | 0, ..] => return Some(rest.get(1..).unwrap_or_default()),
            [b'"', ref inside @ ..] => return take_double_quoted(inside, word),
            [b'\'', ref inside @ ..] => return take_single_quoted(inside, word),
            [byte, ref after @ ..] => {
                word.push(byte);
                rest = after;
            }
        }
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match *rest {
            [] => return None,
            [b'"', ref after @ ..] => return end_of_quote(after),
            [b'\\', b'x', high, low, ref after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex_value(high) << 4 | hex_value(low));
                rest = after;
            }
            [b'\\', escaped, ref after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                rest = after;
            }
            [byte, ref after @ ..] => {
                word.push(byte);
                rest = after;
            }
        }
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match *rest {
            [] => return None,
            [b'\'', ref after @ ..] => return end_of_quote(after),
            [b'\\', b'\'', ref after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [byte, ref after @ ..] => {
                word.push(byte);
                rest = after;
            }
        }
    }
}

fn end_of_quote(after: &[u8]) -> Option<&[u8]> {
    after.first().is_none_or(|byte| is_blank(*byte)).then_some(after)
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(line: &str) -> Option<Vec<String>> {
        Some(split(line.as_bytes())?.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(texts("").as_deref(), Some(&[][..]));
        assert_eq!(texts("  save 900\t1 ").unwrap(), ["save", "900", "1"]);
        assert_eq!(texts(r#"save """#).unwrap(), ["save", ""]);
        assert_eq!(texts(r#"a "b c" 'd "e'"#).unwrap(), ["a", "b c", "d \"e"]);
        assert_eq!(texts(r#"a "\x41\n\q\"" 'it\'s'"#).unwrap(), ["a", "A\nq\"", "it's"]);
        assert_eq!(texts(r#"pre"fix ed""#).unwrap(), ["prefix ed"]);
        assert_eq!(split(br#""\xff""#).unwrap(), [vec![0xff]]);
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#"a "b"#, "a 'b", r#""a"b"#, "'a'b", r#""a\"#] {
            assert_eq!(texts(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_value_survives(value: Vec<u8>) {
            prop_assert_eq!(split(&quote(&value)), Some(vec![value]));
        }

        #[test]
        fn splitting_is_total(line: Vec<u8>) {
            split(&line);
        }
    }
}
