//! The material commands are made of: a small universe of keys, and values and numbers with all the odd ones among them.
//!
//! Half of the keys share a hash tag, so that with several cores both happen: all keys of a command on one shard, and not.

use super::step::{Check, Step};
use crate::harness::Random;

/// The types a key can be meant for. A few commands get a key of another type on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Bits,
    List,
    Hash,
    Set,
    Scored,
    /// Sorted sets whose scores are all equal, as the BYLEX commands need.
    Lexical,
    Geo,
    Counter,
}

pub const KINDS: &[(Kind, &str)] = &[
    (Kind::Text, "text"),
    (Kind::Bits, "bits"),
    (Kind::List, "list"),
    (Kind::Hash, "hash"),
    (Kind::Set, "set"),
    (Kind::Scored, "zset"),
    (Kind::Lexical, "lex"),
    (Kind::Geo, "geo"),
    (Kind::Counter, "hll"),
];

/// Keys of each type with a hash tag, and as many without.
const KEYS_OF_A_KIND: usize = 4;

/// The source of choices for one run.
pub struct Gen {
    pub random: Random,
    /// Leaves out commands that could wait.
    pub quiet: bool,
}

/// Anything that can stand as an argument.
pub trait Argument {
    fn bytes(self) -> Vec<u8>;
}

impl Argument for &str {
    fn bytes(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Argument for String {
    fn bytes(self) -> Vec<u8> {
        self.into_bytes()
    }
}

impl Argument for Vec<u8> {
    fn bytes(self) -> Vec<u8> {
        self
    }
}

impl Argument for i64 {
    fn bytes(self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

/// A command's arguments from expressions of any argument type.
macro_rules! command {
    ($($argument:expr),* $(,)?) => {
        Vec::<Vec<u8>>::from([$($crate::generated::Argument::bytes($argument)),*])
    };
}
pub(crate) use command;

impl Gen {
    pub fn new(seed: u64) -> Gen {
        Gen { random: Random::new(seed), quiet: false }
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.random.chance(percent)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    pub fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    /// A key, nearly always of the type given.
    pub fn key(&mut self, kind: Kind) -> Vec<u8> {
        let tagged = self.chance(50);
        self.key_in(kind, tagged)
    }

    fn key_in(&mut self, kind: Kind, tagged: bool) -> Vec<u8> {
        // Nothing else may get into the sorted sets of equal scores: BYLEX on others has no defined answer.
        let other = self.random.pick(KINDS).0;
        let kind = if kind != Kind::Lexical && other != Kind::Lexical && self.chance(4) { other } else { kind };
        let name = KINDS.iter().find(|(of, _)| *of == kind).expect("every kind is in the table").1;
        let index = self.below(KEYS_OF_A_KIND);
        if tagged { format!("{{a}}{name}{index}") } else { format!("{name}{index}") }.into_bytes()
    }

    /// Several keys of a type: half of the time all with the same hash tag.
    pub fn keys(&mut self, kind: Kind, most: usize) -> Vec<Vec<u8>> {
        let tagged = self.chance(50);
        let count = 1 + self.below(most);
        (0..count)
            .map(|_| {
                let tagged = tagged || self.chance(25);
                self.key_in(kind, tagged)
            })
            .collect()
    }

    /// A small integer, as a string; now and then something that is none, or out of range.
    pub fn integer(&mut self) -> String {
        match self.below(40) {
            0 => self.one_of(&["", "abc", "1.5", " 1", "1 ", "0x10", "+1", "-0", "01", "1e3"]).to_string(),
            1 => self
                .one_of(&[
                    "9223372036854775807",
                    "-9223372036854775808",
                    "9223372036854775808",
                    "18446744073709551616",
                    "4294967296",
                ])
                .to_string(),
            _ => self.random.between(-12, 25).to_string(),
        }
    }

    /// An index into something short.
    pub fn index(&mut self) -> String {
        if self.chance(2) { self.integer() } else { self.random.between(-8, 12).to_string() }
    }

    /// A count for an option: small, sometimes zero, negative or no number.
    pub fn count(&mut self) -> String {
        if self.chance(4) { self.integer() } else { self.random.between(0, 8).to_string() }
    }

    /// A floating-point number, as a string; now and then something that is none.
    pub fn float(&mut self) -> String {
        match self.below(30) {
            0 => self.one_of(&["nan", "abc", "", "1e400", "1.5 ", "0x1p3", "1,5"]).to_string(),
            1 => self.one_of(&["inf", "-inf", "+inf", "Infinity"]).to_string(),
            2 => self
                .one_of(&["1e300", "-1e300", "1e-300", "123456789012345678", "3.0e5", "1e20", "-0.0", "0.1", "17179869184"])
                .to_string(),
            3..=9 => format!("{}.{}", self.random.between(-9, 9), self.below(1000)),
            _ => self.random.between(-10, 20).to_string(),
        }
    }

    /// A string value: numbers, words, long and binary ones.
    pub fn value(&mut self) -> Vec<u8> {
        match self.below(24) {
            0 => Vec::new(),
            1 => vec![b'x'; 30 + self.below(40)],
            2 => (0..self.below(20)).map(|_| self.random.next() as u8).collect(),
            3 => {
                let len = 200 + self.below(9000);
                let fill = b'a' + self.below(3) as u8;
                vec![fill; len]
            }
            4 => self.float().into_bytes(),
            5..=12 => self.integer().into_bytes(),
            13 => self.random.between(i64::MIN / 2, i64::MAX / 2).to_string().into_bytes(),
            _ => format!("value{}", self.below(30)).into_bytes(),
        }
    }

    /// A member of a set or a field of a hash, out of few.
    pub fn member(&mut self) -> Vec<u8> {
        match self.below(20) {
            0 => Vec::new(),
            1 => vec![b'm'; 10 + self.below(70)],
            2..=9 => self.random.between(-5, 30).to_string().into_bytes(),
            10 => self.random.pick(&[300i64, -300, 70_000, -70_000, 5_000_000_000, i64::MIN, i64::MAX]).to_string().into_bytes(),
            _ => format!("m{}", self.below(25)).into_bytes(),
        }
    }

    pub fn members(&mut self, most: usize) -> Vec<Vec<u8>> {
        (0..1 + self.below(most)).map(|_| self.member()).collect()
    }

    /// Seconds far enough in the future not to end during a run, or long past.
    pub fn far_seconds(&mut self) -> String {
        match self.below(12) {
            // But for a time that ends while the test runs: the two servers would see it end at different steps.
            0 => match self.integer() {
                soon if soon.parse().is_ok_and(|seconds: i64| (1..1000).contains(&seconds)) => "1000".into(),
                other => other,
            },
            1 => "-1".into(),
            2 => "0".into(),
            _ => self.random.between(1000, 100_000).to_string(),
        }
    }

    pub fn far_milliseconds(&mut self) -> String {
        if self.chance(10) {
            self.one_of(&["-1", "0", "abc", "9223372036854775807"]).to_string()
        } else {
            self.random.between(1_000_000, 100_000_000).to_string()
        }
    }

    /// A point in time, in seconds since 1970: past, or in the year 2100 and later.
    pub fn unix_seconds(&mut self) -> String {
        if self.chance(15) {
            self.one_of(&["1", "1000000000", "-5", "0", "abc"]).to_string()
        } else {
            self.random.between(4_102_444_800, 4_202_444_800).to_string()
        }
    }

    pub fn unix_milliseconds(&mut self) -> String {
        if self.chance(15) {
            self.one_of(&["1", "1000000000000", "-5", "0"]).to_string()
        } else {
            self.random.between(4_102_444_800_000, 4_202_444_800_000).to_string()
        }
    }

    /// A pattern as KEYS and SCAN take it.
    pub fn pattern(&mut self) -> &'static str {
        self.one_of(&["*", "m*", "*1", "[ms]*", "?1", "{a}*", "*t[0-2]", "*\\*", "", "text*", "*[^a-z]", "h?sh*", "value1*"])
    }

    /// The name in random case, as clients write it.
    pub fn cased(&mut self, name: &str) -> Vec<u8> {
        match self.below(8) {
            0 => name.to_lowercase(),
            1 => name.chars().enumerate().map(|(at, c)| if at % 2 == 0 { c.to_ascii_lowercase() } else { c }).collect(),
            _ => name.to_string(),
        }
        .into_bytes()
    }

    /// Spoils an argument: drops, doubles or replaces one, so that arity, syntax and number errors occur.
    pub fn spoil(&mut self, step: &mut Step) {
        let waits = step.args[0].first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'b')) && !step.name().starts_with("BIT");
        // ZRANK and ZREVRANK take one more argument here, as of Redis 7.2.
        let special = ["HELLO", "COMMAND", "CONFIG", "ZRANK", "ZREVRANK"].contains(&step.name().as_str());
        let lexical = step.args.iter().any(|arg| arg.windows(3).any(|part| part == b"lex"));
        if waits || special || lexical || step.args.len() < 2 || !step.is_plain() {
            return;
        }
        let (at, mut args) = (1 + self.below(step.args.len() - 1), step.args.clone());
        match self.below(4) {
            0 => drop(args.remove(at)),
            1 => args.insert(at, self.random.pick(&["x", "1", "", "LIMIT", "COUNT", "-1"]).as_bytes().to_vec()),
            2 => args.push(args[at].clone()),
            _ => args[at] = self.value(),
        }
        if may_end_soon(&args) {
            return;
        }
        step.args = args;
        // A spoilt command may answer something else than its rule was made for.
        if step.check == Check::Shape {
            step.check = Check::Exact;
        }
    }
}

/// Whether a key may be given a time that ends while the test runs: the two servers would see it end at different steps.
fn may_end_soon(args: &[Vec<u8>]) -> bool {
    let word = |at: usize| args.get(at).map(|arg| String::from_utf8_lossy(arg).to_uppercase()).unwrap_or_default();
    let is_soon = |at: usize, unit_ms: i64| word(at).parse().is_ok_and(|time: i64| (1..1_000_000 / unit_ms).contains(&time));
    let after = |name: &str, unit_ms: i64| (2..args.len()).any(|at| word(at) == name && is_soon(at + 1, unit_ms));
    match word(0).as_str() {
        "EXPIRE" | "SETEX" => is_soon(2, 1000),
        "PEXPIRE" | "PSETEX" | "RESTORE" => is_soon(2, 1),
        "SET" | "GETEX" => after("EX", 1000) || after("PX", 1),
        _ => false,
    }
}

/// One argument after another.
pub fn join(parts: Vec<Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    parts.into_iter().flatten().collect()
}
