//! Tests of the parser as a whole. Edges of single parts are tested beside them.

mod cases;
mod differential;
mod smoke;
mod verdict;

use super::limits::{CONFIGURED_BYTES_MIN, REQUEST_BYTES_MAX};
use super::{Args, Limits, Parsed, Parser, ProtocolError};
use proptest::prelude::*;
use verdict::judge;

/// Streams up to this long are cut at every byte; longer ones at every byte near their ends and in steps between.
const CUT_EVERYWHERE_MAX: usize = 2048;

fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[test]
fn every_case_gets_its_verdict() {
    for case in cases::all() {
        assert_eq!(
            judge(&case.stream, [], &case.limits),
            case.expected,
            "{}: {:?}",
            case.name,
            case.stream.escape_ascii().to_string()
        );
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for case in cases::all() {
        let len = case.stream.len();
        for cut in (0..len).filter(|&cut| len <= CUT_EVERYWHERE_MAX || cut < 64 || cut + 64 > len || cut % 997 == 0) {
            assert_eq!(judge(&case.stream, [cut], &case.limits), case.expected, "{} cut at {cut}", case.name);
        }
        assert_eq!(judge(&case.stream, 1..len, &case.limits), case.expected, "{} byte by byte", case.name);
    }
}

#[test]
fn a_big_argument_says_what_it_needs() {
    let (mut parser, mut args) = (Parser::new(), Args::new());
    let mut input = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000000\r\n".to_vec();
    let header = input.len();
    let limits = Limits::default();
    assert_eq!(parser.parse(&input, &limits, &mut args), Parsed::Incomplete { need: 20_000_002 });
    input.resize(header + 20_000_001, b'x');
    assert_eq!(parser.parse(&input, &limits, &mut args), Parsed::Incomplete { need: 1 });
    input.push(b'\n');
    assert_eq!(parser.parse(&input, &limits, &mut args), Parsed::Command { consumed: input.len() });
    assert_eq!(args.ranges(), [(8, 11), (17, 18), (header as u32, header as u32 + 20_000_000)]);
}

#[test]
fn connections_share_one_scratch() {
    let limits = Limits::default();
    let mut args = Args::new();
    let (mut short, mut long) = (Parser::new(), Parser::new());
    let short_input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let long_input = encode(&vec![b"word".to_vec(); 500]);
    for cut in (0..long_input.len()).step_by(37) {
        assert!(matches!(long.parse(&long_input[..cut], &limits, &mut args), Parsed::Incomplete { .. }));
        assert_eq!(short.parse(&short_input[..15], &limits, &mut args), Parsed::Incomplete { need: 0 });
        short.reset();
        assert_eq!(short.parse(b"PING a\r\n", &limits, &mut args), Parsed::Command { consumed: 8 });
    }
    assert_eq!(long.parse(&long_input, &limits, &mut args), Parsed::Command { consumed: long_input.len() });
    assert_eq!(args.len(), 500);
    assert!(args.iter(&long_input).all(|arg| arg == b"word"));
}

#[test]
fn limits_hold_at_their_edge() {
    let over = |length: u64, bulk_bytes_max, query_buffer_bytes_max| {
        let limits = Limits::new(bulk_bytes_max, query_buffer_bytes_max, true);
        Parser::new().parse(format!("*1\r\n${length}\r\n").as_bytes(), &limits, &mut Args::new())
    };
    let mib = CONFIGURED_BYTES_MIN;
    let waits = |length: u64| Parsed::Incomplete { need: length as usize + 2 };
    assert_eq!(over(mib, mib, 10 * mib), waits(mib));
    assert_eq!(over(mib + 1, mib, 10 * mib), Parsed::Fatal(ProtocolError::InvalidLength));
    assert_eq!(over(mib, 0, 10 * mib), waits(mib), "limits below the least are raised to it");
    assert_eq!(over(mib - 2, 10 * mib, mib), waits(mib - 2));
    assert_eq!(over(mib - 1, 10 * mib, mib), Parsed::Fatal(ProtocolError::QueryBufferFull));
    let header = "*1\r\n$4294836200\r\n".len();
    let largest = (REQUEST_BYTES_MAX - header - 2) as u64;
    assert_eq!(over(largest, u64::MAX, u64::MAX), waits(largest));
    assert_eq!(over(largest + 1, u64::MAX, u64::MAX), Parsed::Fatal(ProtocolError::QueryBufferFull));
}

#[test]
fn trim_returns_memory() {
    let mut args = Args::new();
    let input = encode(&vec![b"a".to_vec(); 10_000]);
    assert_eq!(Parser::new().parse(&input, &Limits::default(), &mut args), Parsed::Command { consumed: input.len() });
    assert!(args.heap_bytes() > 64 * 1024);
    args.trim();
    assert_eq!(args.heap_bytes(), 0);
}

proptest! {
    #[test]
    fn what_is_encoded_is_parsed(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let stream: Vec<u8> = commands.iter().flat_map(|args| encode(args)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let verdict = judge(&stream, cuts, &Limits::default());
        prop_assert_eq!(verdict.commands, commands);
        prop_assert_eq!(verdict.consumed, stream.len());
        prop_assert_eq!(verdict.fatal, None);
    }

    #[test]
    fn a_quoted_line_is_parsed(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6)) {
        let mut line = Vec::new();
        for word in &words {
            line.push(b'"');
            for byte in word {
                line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
            line.extend_from_slice(b"\" ");
        }
        line.push(b'\n');
        prop_assert_eq!(judge(&line, [], &Limits::default()).commands, vec![words]);
    }
}
