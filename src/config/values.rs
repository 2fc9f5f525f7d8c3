//! Values of one word: yes/no, numbers with their units, strings, and the choices out of a list of names.
//!
//! Owns how each is written, its bounds check and Redis's sentence for a value that does not fit. One deliberate
//! difference: a memory value too large for its unit is refused where Redis lets the multiplication overflow.

use std::ffi::OsStr;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::directive::{FileLine, Refusal, Setting, Spec, Unit};
use super::words;

/// The one word of a directive that takes one; several are the caller's mistake and are refused.
pub fn only_word(words: &[Vec<u8>]) -> Result<&[u8], Refusal> {
    match words {
        [word] => Ok(word),
        _ => Err("wrong number of arguments".into()),
    }
}

fn passes(spec: &Spec, value: &[u8]) -> Result<(), Refusal> {
    spec.check.map_or(Ok(()), |check| check(value)).map_err(Refusal::from)
}

impl Setting for bool {
    fn text(&self, _: &Spec) -> Vec<u8> {
        if *self { b"yes".to_vec() } else { b"no".to_vec() }
    }

    fn assign(&mut self, words: &[Vec<u8>], spec: &Spec) -> Result<(), Refusal> {
        let value = match only_word(words)?.to_ascii_lowercase().as_slice() {
            b"yes" => true,
            b"no" => false,
            _ => return Err("argument must be 'yes' or 'no'".into()),
        };
        passes(spec, &value.text(spec))?;
        *self = value;
        Ok(())
    }
}

/// Every integer type prints and reads the same way; the bounds of the row fit the type (tested over the table).
macro_rules! integer_settings {
    ($($integer:ty)*) => { $(
        impl Setting for $integer {
            fn text(&self, spec: &Spec) -> Vec<u8> {
                match spec.unit {
                    Unit::Octal => format!("{self:o}").into_bytes(),
                    _ => self.to_string().into_bytes(),
                }
            }

            fn assign(&mut self, words: &[Vec<u8>], spec: &Spec) -> Result<(), Refusal> {
                let value = within_bounds(parse_number(only_word(words)?, spec.unit)?, spec)?;
                *self = <$integer>::try_from(value).map_err(|_| out_of_bounds(spec))?;
                Ok(())
            }

            fn file_lines(&self, spec: &Spec, default: &dyn Setting) -> Vec<FileLine> {
                let required = self.text(spec) != default.text(spec);
                let value = match spec.unit {
                    Unit::Memory | Unit::MemoryOrPercent => with_memory_unit(*self as u64),
                    Unit::Plain | Unit::Octal => self.text(spec),
                };
                vec![FileLine { value, required }]
            }
        }
    )* };
}
integer_settings!(u16 u32 u64 usize i32 i64);

/// A limit given in bytes or as a share of `maxmemory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOrPercent {
    Bytes(u64),
    Percent(u8),
}

impl Setting for MemoryOrPercent {
    fn text(&self, _: &Spec) -> Vec<u8> {
        match self {
            MemoryOrPercent::Bytes(bytes) => bytes.to_string().into_bytes(),
            MemoryOrPercent::Percent(percent) => format!("{percent}%").into_bytes(),
        }
    }

    fn assign(&mut self, words: &[Vec<u8>], spec: &Spec) -> Result<(), Refusal> {
        let word = only_word(words)?;
        let percent = word.strip_suffix(b"%").and_then(canonical_integer).filter(|percent| *percent >= 0);
        *self = match percent {
            Some(0) => MemoryOrPercent::Bytes(0),
            Some(percent) if percent > 100 => return Err("percentage argument must be less or equal to 100".into()),
            Some(percent) => MemoryOrPercent::Percent(percent as u8),
            None => {
                let bytes = within_bounds(parse_number(word, spec.unit)?, spec)?;
                MemoryOrPercent::Bytes(u64::try_from(bytes).map_err(|_| out_of_bounds(spec))?)
            }
        };
        Ok(())
    }

    fn file_lines(&self, spec: &Spec, default: &dyn Setting) -> Vec<FileLine> {
        let required = self.text(spec) != default.text(spec);
        let value = match self {
            MemoryOrPercent::Bytes(bytes) => with_memory_unit(*bytes),
            MemoryOrPercent::Percent(_) => self.text(spec),
        };
        vec![FileLine { value, required }]
    }
}

/// A string of any bytes: passwords need not be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<u8>);

impl Text {
    pub fn new(text: impl Into<Vec<u8>>) -> Text {
        Text(text.into())
    }

    /// The string as a file's path.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The string for a log line.
    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl Deref for Text {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Setting for Text {
    fn text(&self, _: &Spec) -> Vec<u8> {
        self.0.clone()
    }

    fn assign(&mut self, words: &[Vec<u8>], spec: &Spec) -> Result<(), Refusal> {
        let value = only_word(words)?;
        passes(spec, value)?;
        self.0 = value.to_vec();
        Ok(())
    }

    fn file_lines(&self, spec: &Spec, default: &dyn Setting) -> Vec<FileLine> {
        if self.0.is_empty() && spec.absent_when_empty {
            return Vec::new();
        }
        vec![FileLine { value: words::quote(&self.0), required: self.0 != default.text(spec) }]
    }
}

/// Enumerations with the names a file uses. The first name of a variant is the one that is printed.
macro_rules! choices {
    ($( $(#[$doc:meta])* $choice:ident { $( $variant:ident = $($name:literal)|+ ),* $(,)? } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $choice { $( $variant ),* }

        impl $choice {
            /// Every spelling, in the order error messages list them.
            pub const NAMES: &[(&str, $choice)] = &[ $( $( ($name, $choice::$variant) ),+ ),* ];

            /// The name that CONFIG GET and INFO print.
            pub fn name(self) -> &'static str {
                Self::NAMES.iter().find(|(_, choice)| *choice == self).map_or("unknown", |(name, _)| name)
            }
        }

        impl Setting for $choice {
            fn text(&self, _: &Spec) -> Vec<u8> {
                self.name().as_bytes().to_vec()
            }

            fn assign(&mut self, words: &[Vec<u8>], spec: &Spec) -> Result<(), Refusal> {
                let found = match words {
                    [word] => Self::NAMES.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word)),
                    _ => None,
                };
                let names = || Self::NAMES.iter().map(|(name, _)| *name);
                let (name, choice) = found.ok_or_else(|| not_among(names()))?;
                passes(spec, name.as_bytes())?;
                *self = *choice;
                Ok(())
            }
        }
    )* };
}

choices! {
    /// What to evict when `maxmemory` is reached.
    MaxmemoryPolicy {
        VolatileLru = "volatile-lru",
        VolatileLfu = "volatile-lfu",
        VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl",
        AllkeysLru = "allkeys-lru",
        AllkeysLfu = "allkeys-lfu",
        AllkeysRandom = "allkeys-random",
        NoEviction = "noeviction",
    }
    /// The least important log line that is still written.
    LogLevel { Debug = "debug", Verbose = "verbose", Notice = "notice", Warning = "warning" }
    /// Where syslog files what it gets.
    SyslogFacility {
        User = "user",
        Local0 = "local0",
        Local1 = "local1",
        Local2 = "local2",
        Local3 = "local3",
        Local4 = "local4",
        Local5 = "local5",
        Local6 = "local6",
        Local7 = "local7",
    }
    /// Who started the process and is told that it is ready.
    Supervision { Upstart = "upstart", Systemd = "systemd", Auto = "auto", No = "no" }
    /// When the append-only file is synced to disk.
    AppendFsync { EverySec = "everysec", Always = "always", No = "no" }
    /// Whether a replica loads a full sync straight from the socket.
    DisklessLoad { Disabled = "disabled", OnEmptyDb = "on-empty-db", Swapdb = "swapdb" }
    /// Whether TLS clients have to show a certificate.
    TlsAuthClients { No = "no", Yes = "yes", Optional = "optional" }
    /// Whether the kernel is told whom to kill first when memory runs out.
    OomScoreAdj { No = "no", Relative = "yes" | "relative", Absolute = "absolute" }
    /// The channels a new ACL user may use.
    AclPubsubDefault { AllChannels = "allchannels", ResetChannels = "resetchannels" }
    /// Whose RESTORE payloads are checked in depth.
    SanitizeDumpPayload { No = "no", Yes = "yes", Clients = "clients" }
    /// Who may use a dangerous feature.
    ProtectedAction { No = "no", Yes = "yes", Local = "local" }
    /// What a cluster redirect names.
    EndpointType { Ip = "ip", Hostname = "hostname", Unknown = "unknown-endpoint" }
    /// What to do when a propagated command fails on the receiving side.
    PropagationErrorBehavior { Ignore = "ignore", Panic = "panic", PanicOnReplicas = "panic-on-replicas" }
}

impl ProtectedAction {
    /// Whether a client may do it; `local` clients come over loopback or the Unix socket.
    pub fn allows(self, local: bool) -> bool {
        self == ProtectedAction::Yes || (self == ProtectedAction::Local && local)
    }
}

pub(super) fn not_among<'a>(names: impl Iterator<Item = &'a str>) -> Refusal {
    let names: Vec<&str> = names.collect();
    format!("argument(s) must be one of the following: {}", names.join(", ")).into()
}

/// Bytes with one of the suffixes b k kb m mb g gb in any case (`k` is 1000, `kb` 1024), as Redis reads them: no digits
/// at all are 0, and plain digits beyond 64 bits are the largest number.
pub fn parse_memory(word: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 127;
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let factor: u64 = match word[digits..].to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    if digits > DIGITS_MAX {
        return None;
    }
    let add_digit = |sum: u64, byte: &u8| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    word[..digits].iter().fold(0, add_digit).checked_mul(factor)
}

/// The shortest form with a unit that a file reads back to the same number.
pub fn with_memory_unit(bytes: u64) -> Vec<u8> {
    let units = [(1u64 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    match units.iter().find(|(size, _)| bytes != 0 && bytes.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", bytes / size).into_bytes(),
        None => bytes.to_string().into_bytes(),
    }
}

/// An integer as C's strtoll reads a whole string: blanks in front, a sign, no digits for 0; beyond 64 bits the bound.
pub fn loose_integer(word: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(word).ok()?;
    let trimmed = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    if text.is_empty() {
        return Some(0);
    }
    let (negative, digits) = match trimmed.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add_digit = |sum: i64, byte: &u8| sum.saturating_mul(10).saturating_add(i64::from(byte - b'0'));
    let magnitude = digits.iter().fold(0i64, add_digit);
    Some(if negative { -magnitude } else { magnitude })
}

/// An integer in its one canonical form: no blanks, no plus sign, no leading zeros.
fn canonical_integer(word: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == word).then_some(number)
}

fn octal_integer(word: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(word).ok()?.trim_start();
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
}

fn parse_number(word: &[u8], unit: Unit) -> Result<i128, Refusal> {
    let (number, refusal) = match unit {
        Unit::Plain => (canonical_integer(word).map(i128::from), "argument couldn't be parsed into an integer"),
        Unit::Memory => (parse_memory(word).map(i128::from), "argument must be a memory value"),
        Unit::MemoryOrPercent => (parse_memory(word).map(i128::from), "argument must be a memory or percent value"),
        Unit::Octal => (octal_integer(word).map(i128::from), "argument couldn't be parsed as an octal number"),
    };
    number.ok_or(refusal.into())
}

fn within_bounds(number: i128, spec: &Spec) -> Result<i128, Refusal> {
    if (spec.min..=spec.max).contains(&number) { Ok(number) } else { Err(out_of_bounds(spec)) }
}

fn out_of_bounds(spec: &Spec) -> Refusal {
    let (min, max) = (spec.min, spec.max);
    match spec.unit {
        Unit::Octal => format!("argument must be between {min:o} and {max:o} inclusive").into(),
        _ => format!("argument must be between {min} and {max} inclusive").into(),
    }
}
