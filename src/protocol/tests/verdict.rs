//! The whole verdict on a stream of bytes, and the claim that it does not depend on how the stream was cut.
//!
//! Used by the unit tests and by the fuzz target, which include it beside `crate::protocol`.

use crate::protocol::{Args, Limits, Parsed, Parser, ProtocolError};

/// What a stream amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub commands: Vec<Vec<Vec<u8>>>,
    pub fatal: Option<ProtocolError>,
    /// Bytes of commands and of requests without arguments.
    pub consumed: usize,
}

impl Verdict {
    pub fn reply(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(error) = self.fatal {
            error.write_reply(&mut out);
        }
        out
    }
}

/// Feeds `stream` cut at the ascending offsets `cuts`, as a connection does: all requests that are complete after each piece.
pub fn judge(stream: &[u8], cuts: impl IntoIterator<Item = usize>, limits: &Limits) -> Verdict {
    let mut verdict = Verdict::default();
    let mut parser = Parser::new();
    let mut args = Args::new();
    let mut short_of = 0;
    for arrived in cuts.into_iter().chain([stream.len()]) {
        while verdict.consumed < arrived {
            let input = &stream[verdict.consumed..arrived];
            let parsed = parser.parse(input, limits, &mut args);
            let heap_bytes = parser.heap_bytes() + args.heap_bytes();
            assert!(heap_bytes <= 1024 + 6 * stream.len(), "{heap_bytes} bytes held for {} of input", stream.len());
            match parsed {
                Parsed::Command { consumed } => {
                    assert!(!args.is_empty() && consumed <= input.len() && input.len() >= short_of);
                    verdict.commands.push(args.iter(input).map(<[u8]>::to_vec).collect());
                    verdict.consumed += consumed;
                }
                Parsed::Empty { consumed } => {
                    assert!(consumed > 0 && consumed <= input.len());
                    verdict.consumed += consumed;
                }
                Parsed::Fatal(error) => {
                    verdict.fatal = Some(error);
                    return verdict;
                }
                Parsed::Incomplete { need } => {
                    short_of = input.len() + need;
                    break;
                }
            }
            short_of = 0;
            assert_eq!(parser.heap_bytes(), 0, "a parser between requests holds memory");
        }
    }
    verdict
}
