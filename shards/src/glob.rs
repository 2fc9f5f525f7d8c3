//! Glob patterns as KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET and ACL key patterns understand them.
//!
//! Owns the matching rule and nothing else: a pattern is bytes and is not compiled. `*` any run of bytes, `?` one byte,
//! `[abc]` `[a-z]` `[^a]` one byte of a class, `\x` the byte x itself. The corners are those of redis-server 7.0.15,
//! because clients depend on them: an unterminated class ends with the pattern, a range may be written backwards, a
//! range compares bytes as signed numbers, an escaped byte inside a class ignores `nocase`, and an empty text is matched
//! by the empty pattern alone (the commands treat a bare `*` as "everything" before they ask here).
//!
//! More than [`STARS_MAX`] stars before the last element match nothing, as in Redis, whose matching is recursive.
//!
//! Cost: O(pattern × text) at worst, no recursion and no allocation. Every element but `*` takes exactly one byte, so
//! on a mismatch only the latest `*` needs to take one byte more; earlier ones can never help.

/// Runs of stars that a text may need before the end of a pattern.
const STARS_MAX: usize = 1000;

/// Whether `text` as a whole matches `pattern`; `nocase` compares ASCII letters without regard to case.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where the pattern goes on after the latest star, and the first byte of text that the star does not take.
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += pattern[p..].iter().take_while(|byte| **byte == b'*').count();
            stars += usize::from(p < pattern.len());
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((p, t));
            continue;
        }
        if let Some(next) = match_one(pattern, p, text[t], nocase) {
            p = next;
            t += 1;
            continue;
        }
        match retry {
            // A final star takes all that is left.
            Some((after, _)) if after == pattern.len() => return true,
            Some((after, from)) => {
                p = after;
                t = from + 1;
                retry = Some((after, t));
            }
            None => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Matches the one element at `pattern[p]` (never a star) against `byte`: where the pattern goes on, or no match.
fn match_one(pattern: &[u8], p: usize, byte: u8, nocase: bool) -> Option<usize> {
    let (wanted, next) = match *pattern.get(p)? {
        b'?' => return Some(p + 1),
        b'[' => return match_class(pattern, p + 1, byte, nocase),
        b'\\' => match pattern.get(p + 1) {
            Some(&escaped) => (escaped, p + 2),
            None => (b'\\', p + 1),
        },
        literal => (literal, p + 1),
    };
    (fold(wanted, nocase) == fold(byte, nocase)).then_some(next)
}

/// Matches a class whose opening bracket stands just before `pattern[p]`.
fn match_class(pattern: &[u8], mut p: usize, byte: u8, nocase: bool) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    let after = loop {
        match pattern[p.min(pattern.len())..] {
            [] => break pattern.len(),
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                p += 2;
            }
            [b']', ..] => break p + 1,
            [first, b'-', last, ..] => {
                found |= in_range(first, last, byte, nocase);
                p += 3;
            }
            [single, ..] => {
                found |= fold(single, nocase) == fold(byte, nocase);
                p += 1;
            }
        }
    };
    (found != negated).then_some(after)
}

fn in_range(first: u8, last: u8, byte: u8, nocase: bool) -> bool {
    let signed = |b: u8| fold(b, nocase) as i8;
    let (low, high) = if (first as i8) > (last as i8) { (last, first) } else { (first, last) };
    (signed(low)..=signed(high)).contains(&signed(byte))
}

fn fold(byte: u8, nocase: bool) -> u8 {
    if nocase { byte.to_ascii_lowercase() } else { byte }
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

    #[test]
    fn the_documented_forms() {
        let table: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("*", "", false),
            ("*", "a", true),
            ("**", "ab", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "hllo", true),
            ("h*llo", "heeeello", true),
            ("h*llo", "heeeellox", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("h[a-b]llo", "hcllo", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a\\", "a\\", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*a", "bbba", true),
            ("*ab", "aab", true),
            ("a***", "a", true),
            ("a*?", "a", false),
        ];
        for &(pattern, text, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), false), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn unterminated_and_odd_classes() {
        assert!(!matches(b"[", b"[", false));
        assert!(matches(b"[^", b"x", false));
        assert!(matches(b"[a", b"a", false));
        assert!(matches(b"[a-", b"-", false));
        assert!(matches(b"[a\\]b]", b"]", false));
        assert!(matches(b"[\\", b"\\", false));
        assert!(!matches(b"[]", b"]", false));
        assert!(matches(b"[^]", b"]", false));
        assert!(matches(b"[a-]]", b"a", false), "a bracket may end a range: a..]");
    }

    #[test]
    fn case_is_ignored_on_request() {
        assert!(matches(b"MAX*", b"maxmemory", true));
        assert!(!matches(b"MAX*", b"maxmemory", false));
        assert!(matches(b"[A-C]x", b"bX", true));
        assert!(!matches(b"[\\A]", b"a", true), "an escaped byte in a class is exact");
    }

    #[test]
    fn many_stars_end_in_reasonable_time() {
        let text = vec![b'a'; 2000];
        assert!(matches(&b"a*".repeat(1001), &text, false), "the last star is no step");
        assert!(!matches(&b"a*".repeat(1002), &text, false));
        assert!(matches(&b"***a".repeat(1000), &text, false));
        let mut failing = b"*a".repeat(1000);
        failing.push(b'b');
        assert!(!matches(&failing, &text, false));
    }

    /// The rule in its shortest form: exponential, for short inputs only.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..])),
            (_, [first, rest @ ..]) => {
                super::match_one(pattern, 0, *first, false).is_some_and(|next| by_definition(&pattern[next..], rest))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?\\[\\]^\\\\-]{0,10}", text in "[ab]{1,10}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text, false), by_definition(pattern, text));
        }

        #[test]
        fn is_total(pattern: Vec<u8>, text: Vec<u8>, nocase: bool) {
            matches(&pattern, &text, nocase);
        }
    }
}
