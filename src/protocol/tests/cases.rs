//! Streams with the verdict each must get. The same table is cut at every byte and sent to a live redis-server.

use super::verdict::Verdict;
use crate::protocol::ProtocolError::{self, *};
use crate::protocol::limits::{LINE_BYTES_MAX, Limits, UNAUTHENTICATED_BULK_BYTES_MAX};

pub struct Case {
    pub name: &'static str,
    pub stream: Vec<u8>,
    pub limits: Limits,
    pub expected: Verdict,
}

impl Case {
    fn new(name: &'static str, stream: impl Into<Vec<u8>>) -> Self {
        Case { name, stream: stream.into(), limits: Limits::default(), expected: Verdict::default() }
    }

    /// One more command is expected.
    fn command(mut self, args: &[&[u8]]) -> Self {
        self.expected.commands.push(args.iter().map(|arg| arg.to_vec()).collect());
        self
    }

    fn fatal(mut self, error: ProtocolError) -> Self {
        self.expected.fatal = Some(error);
        self
    }

    /// Bytes that must be consumed, if not all.
    fn consumed(mut self, consumed: usize) -> Self {
        self.expected.consumed = consumed;
        self
    }

    fn unauthenticated(mut self) -> Self {
        self.limits.authenticated = false;
        self
    }
}

fn repeat(prefix: &str, byte: u8, count: usize, suffix: &str) -> Vec<u8> {
    let mut out = prefix.as_bytes().to_vec();
    out.resize(prefix.len() + count, byte);
    out.extend_from_slice(suffix.as_bytes());
    out
}

/// `*<count>` and that many arguments of one byte.
fn counted(count: usize) -> Vec<u8> {
    let mut out = format!("*{count}\r\n").into_bytes();
    out.extend_from_slice(&b"$1\r\na\r\n".repeat(count));
    out
}

/// Whole requests: everything is consumed.
fn complete() -> Vec<Case> {
    let ping: &[&[u8]] = &[b"PING"];
    let echo_x: &[&[u8]] = &[b"ECHO", b"x"];
    let many = vec![b"a".as_slice(); 200];
    let long_arg = vec![b'x'; 1000];
    let longer_arg = vec![b'x'; 12345];
    vec![
        Case::new("nothing", ""),
        Case::new("one argument", "*1\r\n$4\r\nPING\r\n").command(ping),
        Case::new("two", "*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n").command(echo_x),
        Case::new("pipeline", "*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$1\r\nx\r\nPING\r\n")
            .command(ping)
            .command(echo_x)
            .command(ping),
        Case::new("empty argument", "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n").command(&[b"ECHO", b""]),
        Case::new("empty command name", "*1\r\n$0\r\n\r\n").command(&[b""]),
        Case::new("binary argument", &b"*2\r\n$4\r\nECHO\r\n$6\r\n\0\r\n*$\xff\r\n"[..]).command(&[b"ECHO", b"\0\r\n*$\xff"]),
        Case::new("two-digit length", "*2\r\n$4\r\nECHO\r\n$12\r\nabcdefghijkl\r\n").command(&[b"ECHO", b"abcdefghijkl"]),
        Case::new("three-digit length", repeat("*2\r\n$4\r\nECHO\r\n$100\r\n", b'x', 100, "\r\n"))
            .command(&[b"ECHO", &long_arg[..100]]),
        Case::new("four-digit length", repeat("*2\r\n$4\r\nECHO\r\n$1000\r\n", b'x', 1000, "\r\n"))
            .command(&[b"ECHO", &long_arg]),
        Case::new("five-digit length", repeat("*2\r\n$4\r\nECHO\r\n$12345\r\n", b'x', 12345, "\r\n"))
            .command(&[b"ECHO", &longer_arg]),
        Case::new("more arguments than are copied", counted(200)).command(&many),
        Case::new("twice that", [counted(200), counted(100)].concat()).command(&many).command(&many[..100]),
        // What follows a CR, and what ends an argument, is not looked at.
        Case::new("other bytes for LF", "*1\rX$4\rYPING\r\n").command(ping),
        Case::new("other bytes after an argument", "*2\r\n$4\r\nECHO??$1\r\nx!!*1\r\n$4\r\nPING\r\n")
            .command(echo_x)
            .command(ping),
        Case::new("CR for LF", "*1\r\r$4\r\rPING\r\n").command(ping),
        Case::new("NUL for LF", "*1\r\0$4\r\0PING\r\n").command(ping),
        Case::new("count of zero", "*0\r\n*1\r\n$4\r\nPING\r\n").command(ping),
        Case::new("count below zero", "*-1\r\n*-10\r\n*-9223372036854775808\r\nPING\r\n").command(ping),
        // Inline.
        Case::new("inline", "PING\r\n").command(ping),
        Case::new("inline, LF only", "PING\nECHO x\n").command(ping).command(echo_x),
        Case::new("blank lines", "\r\n\n  \r\n\t\x0b\x0c\nPING\r\n").command(ping),
        Case::new("CR inside a line", "ECHO\rx\r\n").command(echo_x),
        Case::new("two CRs", "PING\r\r\n").command(ping),
        Case::new("blanks around words", " \t ECHO \t  x \t\r\n").command(echo_x),
        Case::new("vertical tab before a word", "\x0bPING\r\n").command(ping),
        Case::new("vertical tab and form feed in a word", "ECHO a\x0bb\x0c\r\n").command(&[b"ECHO", b"a\x0bb\x0c"]),
        Case::new("high bytes", &b"ECHO \x85\xa0\xff\r\n"[..]).command(&[b"ECHO", b"\x85\xa0\xff"]),
        Case::new("double quotes", "ECHO \"a b\"\r\n").command(&[b"ECHO", b"a b"]),
        Case::new("empty quotes", "ECHO \"\"\r\nECHO ''\r\n").command(&[b"ECHO", b""]).command(&[b"ECHO", b""]),
        Case::new("only empty quotes", "\"\"\r\n").command(&[b""]),
        Case::new("escapes", "ECHO \"\\n\\r\\t\\b\\a\\\"\\\\\\q\\x41\\xfF\\x0\\xg1\\x\"\r\n")
            .command(&[b"ECHO", b"\n\r\t\x08\x07\"\\qA\xffx0xg1x"]),
        Case::new("escaped NUL", "ECHO \"\\x00\"\r\n").command(&[b"ECHO", b"\0"]),
        Case::new("single quotes", "ECHO 'a\\'b\\n\"'\r\n").command(&[b"ECHO", b"a'b\\n\""]),
        Case::new("backslash without quotes", "ECHO a\\n\\\r\n").command(&[b"ECHO", b"a\\n\\"]),
        Case::new("quote inside a word", "ECHO ab\"c d\"\r\n").command(&[b"ECHO", b"abc d"]),
        Case::new("blank after quotes", "ECHO \"a\"\x0b'b'\r\n").command(&[b"ECHO", b"a", b"b"]),
        Case::new("dollar is inline", "$4\r\nPING\r\n").command(&[b"$4"]).command(ping),
        Case::new("blank before a star is inline", " *1\r\n").command(&[b"*1"]),
        Case::new("RESP3 types are inline", "~1\r\n").command(&[b"~1"]),
        Case::new("longest inline line", repeat("PING", b' ', LINE_BYTES_MAX - 4, "\n")).command(ping),
        // Before authentication.
        Case::new("ten arguments, unauthenticated", counted(10)).command(&many[..10]).unauthenticated(),
        Case::new(
            "longest argument, unauthenticated",
            repeat("*1\r\n$16384\r\n", b'x', UNAUTHENTICATED_BULK_BYTES_MAX as usize, "\r\n"),
        )
        .command(&[&[b'x'; 16384]])
        .unauthenticated(),
    ]
}

/// Requests that never end: nothing is consumed past what is whole.
fn incomplete() -> Vec<Case> {
    vec![
        Case::new("star", "*"),
        Case::new("count without CR", "*3"),
        Case::new("count without LF", "*3\r"),
        Case::new("invalid count without LF", "*x\r"),
        Case::new("header missing", "*3\r\n"),
        Case::new("wrong header without its end", "*1\r\n+"),
        Case::new("length without LF", "*1\r\n$4\r"),
        Case::new("argument missing", "*1\r\n$4\r\n"),
        Case::new("argument cut", "*1\r\n$4\r\nPI"),
        Case::new("argument without CR LF", "*1\r\n$4\r\nPING"),
        Case::new("argument without LF", "*1\r\n$4\r\nPING\r"),
        Case::new("second argument missing", "*2\r\n$4\r\nECHO\r\n"),
        Case::new("whole and cut", "PING\r\n*2\r\n$4\r\nECHO\r\n$1").command(&[b"PING"]).consumed(6),
        Case::new("inline without LF", "PING\r"),
        Case::new("unbalanced without LF", "\"PING"),
        Case::new("most arguments", "*2147483647\r\n$1\r\na\r\n"),
        Case::new("largest bulk", "*1\r\n$536870912\r\nx"),
        // A NUL hides the rest of the line.
        Case::new("NUL inline", &b"PI\0NG\r\nPING\r\n"[..]),
        Case::new("NUL first", &b"\0\r\n"[..]),
        Case::new("NUL in a count", &b"*1\0\r\n$4\r\nPING\r\n"[..]),
        Case::new("NUL in a length", &b"*1\r\n$4\0\r\nPING\r\n"[..]),
        Case::new("NUL for a header", &b"*1\r\n\0\r\n"[..]),
        Case::new("longest line without end", vec![b'a'; LINE_BYTES_MAX]),
        Case::new("longest count without end", repeat("*", b'1', LINE_BYTES_MAX - 1, "")),
        Case::new("longest length without end", repeat("*1\r\n$", b'1', LINE_BYTES_MAX - 1, "")),
        Case::new("longest line behind a NUL", repeat("\0", b'\n', LINE_BYTES_MAX - 1, "")),
    ]
}

fn errors() -> Vec<Case> {
    let ping: &[&[u8]] = &[b"PING"];
    let mut cases = vec![
        Case::new("error after commands", "PING\r\n*1\r\n$4\r\nPING\r\n*x\r\nPING\r\n")
            .command(ping)
            .command(ping)
            .fatal(InvalidCount)
            .consumed(20),
        Case::new("blank line within a request", "*2\r\n$1\r\na\r\n\r\n$1\r\nb\r\n").fatal(ExpectedBulk(b'\r')),
        Case::new("LF for a header", "*1\r\n\n\r\n").fatal(ExpectedBulk(b'\n')),
        Case::new("integer for a header", "*1\r\n:4\r\n").fatal(ExpectedBulk(b':')),
        Case::new("high byte for a header", &b"*1\r\n\xff4\r\n"[..]).fatal(ExpectedBulk(0xff)),
        Case::new("digit for a header", "*1\r\n14\r\nPING\r\n").fatal(ExpectedBulk(b'1')),
        Case::new("argument longer than said", "*2\r\n$3\r\nECHO\r\n$1\r\nx\r\n").fatal(ExpectedBulk(b'\n')),
        Case::new("nested count", "*1\r\n*1\r\n$4\r\nPING\r\n").fatal(ExpectedBulk(b'*')),
        Case::new("eleven arguments, unauthenticated", counted(11)).fatal(UnauthenticatedCount).unauthenticated(),
        Case::new("many arguments, unauthenticated", "*1000000\r\n").fatal(UnauthenticatedCount).unauthenticated(),
        Case::new("too many arguments, unauthenticated", "*2147483648\r\n").fatal(InvalidCount).unauthenticated(),
        Case::new("long argument, unauthenticated", "*1\r\n$16385\r\n").fatal(UnauthenticatedLength).unauthenticated(),
        Case::new("too long argument, unauthenticated", "*1\r\n$536870913\r\n").fatal(InvalidLength).unauthenticated(),
        Case::new("line too long", vec![b'a'; LINE_BYTES_MAX + 1]).fatal(InlineTooBig),
        Case::new("line too long behind a NUL", repeat("\0", b'\n', LINE_BYTES_MAX, "")).fatal(InlineTooBig),
        Case::new("count too long", repeat("*", b'1', LINE_BYTES_MAX, "")).fatal(CountTooBig),
        Case::new("count too long behind a NUL", repeat("*1\0", b'\r', LINE_BYTES_MAX - 2, "")).fatal(CountTooBig),
        Case::new("length too long", repeat("*1\r\n$", b'1', LINE_BYTES_MAX, "")).fatal(LengthTooBig),
        Case::new("no header too long", repeat("*1\r\n", b'x', LINE_BYTES_MAX + 1, "")).fatal(LengthTooBig),
        Case::new("longest count", repeat("*", b'1', LINE_BYTES_MAX - 1, "\r\n")).fatal(InvalidCount),
        Case::new("longest length", repeat("*1\r\n$", b'1', LINE_BYTES_MAX - 1, "\r\n")).fatal(InvalidLength),
        Case::new("longest wrong header", repeat("*1\r\n", b'x', LINE_BYTES_MAX, "\r\n")).fatal(ExpectedBulk(b'x')),
    ];
    for count in [
        "*\r\n",
        "*x\r\n",
        "*1x\r\n",
        "*x1\r\n",
        "*12x\r\n",
        "*1 \r\n",
        "* 1\r\n",
        "*+1\r\n",
        "*-\r\n",
        "*-0\r\n",
        "*00\r\n",
        "*01\r\n",
        "*001\r\n",
        "*--1\r\n",
        "*1\n\r\n",
        "*\n\r\n",
        "*2147483648\r\n",
        "*9223372036854775808\r\n",
        "*-9223372036854775809\r\n",
        "*18446744073709551617\r\n",
        "*100000000000000000000000\r\n",
        "*3\n$3\r\n",
        "*9:\r\n",
        "*/1\r\n",
    ] {
        cases.push(Case::new("count", count).fatal(InvalidCount));
    }
    for length in [
        "$\r\n",
        "$x\r\n",
        "$4x\r\n",
        "$-1\r\n",
        "$-0\r\n",
        "$+4\r\n",
        "$ 4\r\n",
        "$04\r\nPING\r\n",
        "$004\r\n",
        "$0004\r\n",
        "$4 \r\n",
        "$4\nPING\r\n",
        "$536870913\r\n",
        "$2147483648\r\n",
        "$4294967296\r\n",
        "$9223372036854775807\r\n",
        "$9223372036854775808\r\n",
        "$18446744073709551620\r\n",
        "$12x4\r\nPING",
        "$1:\r\nPING\r\n",
        "$123:\r\nPING\r\n",
        "$99999\n\r\n",
    ] {
        cases.push(Case::new("length", format!("*1\r\n{length}")).fatal(InvalidLength));
    }
    for line in [
        "\"\r\n",
        "'\r\n",
        "\"a\r\n",
        "'a\r\n",
        "\"a\"b\r\n",
        "'a'b\r\n",
        "a\"\r\n",
        "\"\\\"\r\n",
        "\"\\\r\n",
        "'\\'\r\n",
        "\"a\"'b'\r\n",
        "\"\"\"\r\n",
    ] {
        cases.push(Case::new("quotes", line).fatal(UnbalancedQuotes));
    }
    cases
}

pub fn all() -> Vec<Case> {
    let mut complete = complete();
    for case in &mut complete {
        case.expected.consumed = case.stream.len();
    }
    complete.into_iter().chain(incomplete()).chain(errors()).collect()
}
