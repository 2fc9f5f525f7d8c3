//! Values of several words: save points, addresses, output limits, event classes and the like.
//!
//! Owns how each is written on a line, checked and printed, in Redis's words. Addresses are not resolved, ports not
//! opened; the one thing asked of the system is whether `dir` can be entered.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::directive::{FileLine, Refusal, Setting, Spec};
use super::values::{loose_integer, not_among, only_word, parse_memory, with_memory_unit};
use super::words;

/// The most addresses one `bind` takes.
pub const BIND_ADDRESSES_MAX: usize = 16;

/// Whether the words stand for "nothing": none at all, or one empty string.
fn is_nothing(words: &[Vec<u8>]) -> bool {
    words.iter().all(|word| word.is_empty()) && words.len() <= 1
}

fn joined<T: ToString>(parts: &[T]) -> Vec<u8> {
    parts.iter().map(T::to_string).collect::<Vec<_>>().join(" ").into_bytes()
}

/// Save a snapshot when `seconds` have passed and at least `changes` were made since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

impl Setting for Vec<SavePoint> {
    fn text(&self, _: &Spec) -> Vec<u8> {
        joined(&self.iter().flat_map(|point| [point.seconds, point.changes]).collect::<Vec<_>>())
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let words = if is_nothing(words) { &[] } else { words };
        let point = |pair: &[Vec<u8>]| {
            let [seconds, changes] = pair else { return None };
            let seconds = loose_integer(seconds).filter(|seconds| *seconds >= 1)?;
            let changes = loose_integer(changes).filter(|changes| *changes >= 0)?;
            Some(SavePoint { seconds: seconds as u64, changes: changes as u64 })
        };
        let points: Option<Vec<SavePoint>> = words.chunks(2).map(point).collect();
        *self = points.ok_or("Invalid save parameters")?;
        Ok(())
    }

    fn file_lines(&self, _: &Spec, _: &dyn Setting) -> Vec<FileLine> {
        if self.is_empty() {
            return vec![FileLine { value: b"\"\"".to_vec(), required: true }];
        }
        let line = |point: &SavePoint| joined(&[point.seconds, point.changes]);
        self.iter().map(|point| FileLine { value: line(point), required: true }).collect()
    }
}

/// The addresses to listen on; a leading `-` means "go on if it is not there", `*` and `::*` mean all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

impl Setting for Addresses {
    fn text(&self, _: &Spec) -> Vec<u8> {
        joined(&self.0)
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        if words.len() > BIND_ADDRESSES_MAX {
            return Err("Too many bind addresses specified.".into());
        }
        let words = if is_nothing(words) { &[] } else { words };
        self.0 = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Ok(())
    }

    fn file_lines(&self, spec: &Spec, default: &dyn Setting) -> Vec<FileLine> {
        let value = self.text(spec);
        if value == default.text(spec) {
            return Vec::new();
        }
        vec![FileLine { value: if self.0.is_empty() { b"\"\"".to_vec() } else { value }, required: true }]
    }
}

/// How much unsent output a client of one class may pile up before it is closed; 0 switches a limit off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// The output limits by class of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    pub normal: OutputLimit,
    pub replica: OutputLimit,
    pub pubsub: OutputLimit,
}

impl OutputLimits {
    pub const DEFAULT: OutputLimits = OutputLimits {
        normal: OutputLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
        replica: OutputLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_seconds: 60 },
        pubsub: OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 },
    };

    fn by_class(&mut self, class: &[u8]) -> Option<&mut OutputLimit> {
        match class.to_ascii_lowercase().as_slice() {
            b"normal" => Some(&mut self.normal),
            b"slave" | b"replica" => Some(&mut self.replica),
            b"pubsub" => Some(&mut self.pubsub),
            _ => None,
        }
    }
}

impl Setting for OutputLimits {
    fn text(&self, _: &Spec) -> Vec<u8> {
        let line = |class: &str, limit: &OutputLimit| {
            format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        };
        joined(&[line("normal", &self.normal), line("slave", &self.replica), line("pubsub", &self.pubsub)])
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let mut limits = *self;
        if !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        for group in words.chunks(4) {
            let limit = limits.by_class(&group[0]).ok_or("Invalid client class specified in buffer limit configuration.")?;
            let seconds = loose_integer(&group[3]).filter(|seconds| *seconds >= 0);
            let (Some(hard), Some(soft), Some(seconds)) = (parse_memory(&group[1]), parse_memory(&group[2]), seconds) else {
                return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.".into());
            };
            *limit = OutputLimit { hard_bytes: hard, soft_bytes: soft, soft_seconds: seconds as u64 };
        }
        *self = limits;
        Ok(())
    }

    fn file_lines(&self, _: &Spec, _: &dyn Setting) -> Vec<FileLine> {
        let default = OutputLimits::DEFAULT;
        let line = |class: &str, limit: OutputLimit, default: OutputLimit| {
            let mut value = class.as_bytes().to_vec();
            for part in [with_memory_unit(limit.hard_bytes), with_memory_unit(limit.soft_bytes)] {
                value.push(b' ');
                value.extend(part);
            }
            value.extend(format!(" {}", limit.soft_seconds).into_bytes());
            FileLine { value, required: limit != default }
        };
        vec![
            line("normal", self.normal, default.normal),
            line("replica", self.replica, default.replica),
            line("pubsub", self.pubsub, default.pubsub),
        ]
    }
}

/// The classes of keyspace events that are published, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEvents(pub u16);

impl KeyspaceEvents {
    pub const GENERIC: u16 = 1 << 0;
    pub const STRING: u16 = 1 << 1;
    pub const LIST: u16 = 1 << 2;
    pub const SET: u16 = 1 << 3;
    pub const HASH: u16 = 1 << 4;
    pub const SORTED_SET: u16 = 1 << 5;
    pub const EXPIRED: u16 = 1 << 6;
    pub const EVICTED: u16 = 1 << 7;
    pub const STREAM: u16 = 1 << 8;
    pub const MODULE: u16 = 1 << 9;
    /// Published on `__keyspace@…__`.
    pub const KEYSPACE: u16 = 1 << 10;
    /// Published on `__keyevent@…__`.
    pub const KEYEVENT: u16 = 1 << 11;
    pub const KEY_MISS: u16 = 1 << 12;
    pub const NEW_KEY: u16 = 1 << 13;
    /// What the letter A stands for.
    pub const ALL: u16 = Self::KEYSPACE - 1;

    /// Letters and bits in the order they are printed; those from `K` on are printed beside an `A` too.
    const LETTERS: &[(u8, u16)] = &[
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::SORTED_SET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW_KEY),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::KEY_MISS),
    ];

    /// Whether any class in `classes` is switched on.
    pub fn any(self, classes: u16) -> bool {
        self.0 & classes != 0
    }
}

impl Setting for KeyspaceEvents {
    fn text(&self, _: &Spec) -> Vec<u8> {
        let all = self.0 & Self::ALL == Self::ALL;
        // Redis shows neither the classes nor `n` beside an A.
        let covered = if all { Self::ALL | Self::NEW_KEY } else { 0 };
        let letters = Self::LETTERS.iter().filter(|(_, bit)| self.0 & !covered & bit != 0).map(|(letter, _)| *letter);
        all.then_some(b'A').into_iter().chain(letters).collect()
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let mut bits = 0;
        for letter in only_word(words)? {
            bits |= match (letter, Self::LETTERS.iter().find(|(known, _)| known == letter)) {
                (b'A', _) => Self::ALL,
                (_, Some((_, bit))) => *bit,
                (_, None) => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            };
        }
        self.0 = bits;
        Ok(())
    }

    fn file_lines(&self, spec: &Spec, _: &dyn Setting) -> Vec<FileLine> {
        vec![FileLine { value: words::quote(&self.text(spec)), required: self.0 != 0 }]
    }
}

/// What to do on SIGINT or SIGTERM; nothing set is Redis's `default`: save if there are save points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownBySignal {
    pub save: bool,
    pub nosave: bool,
    /// Do not wait for replicas.
    pub now: bool,
    /// Exit even if saving failed.
    pub force: bool,
}

impl Setting for ShutdownBySignal {
    fn text(&self, _: &Spec) -> Vec<u8> {
        let switches = [("save", self.save), ("nosave", self.nosave), ("now", self.now), ("force", self.force)];
        let on: Vec<&str> = switches.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        if on.is_empty() { b"default".to_vec() } else { joined(&on) }
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let names = || ["default", "save", "nosave", "now", "force"].into_iter();
        let mut chosen = ShutdownBySignal::default();
        if words.is_empty() {
            return Err(not_among(names()));
        }
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => chosen.save = true,
                b"nosave" => chosen.nosave = true,
                b"now" => chosen.now = true,
                b"force" => chosen.force = true,
                _ => return Err(not_among(names())),
            }
        }
        if chosen.save && chosen.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *self = chosen;
        Ok(())
    }
}

/// The oom_score_adj of a primary, a replica and a background child.
impl Setting for [i32; 3] {
    fn text(&self, _: &Spec) -> Vec<u8> {
        joined(self)
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let [primary, replica, child] = words else {
            return Err("wrong number of arguments".into());
        };
        let score = |word: &[u8]| loose_integer(word).filter(|score| (-2000..=2000).contains(score)).map(|s| s as i32);
        let (Some(primary), Some(replica), Some(child)) = (score(primary), score(replica), score(child)) else {
            return Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".into());
        };
        *self = [primary, replica, child];
        Ok(())
    }
}

/// The percentiles INFO latencystats prints.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles(pub Vec<f64>);

impl Setting for Percentiles {
    fn text(&self, _: &Spec) -> Vec<u8> {
        let short = |percentile: &f64| format!("{percentile:.6}").trim_end_matches('0').trim_end_matches('.').to_owned();
        joined(&self.0.iter().map(short).collect::<Vec<_>>())
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let mut percentiles = Vec::new();
        for word in if is_nothing(words) { &[] } else { words } {
            let number = std::str::from_utf8(word).ok().and_then(|text| text.parse::<f64>().ok());
            let number = number.filter(|number| !number.is_nan());
            let percentile = number.ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&percentile) {
                return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into());
            }
            percentiles.push(percentile);
        }
        self.0 = percentiles;
        Ok(())
    }

    fn file_lines(&self, spec: &Spec, _: &dyn Setting) -> Vec<FileLine> {
        let value = if self.0.is_empty() { b"\"\"".to_vec() } else { self.text(spec) };
        vec![FileLine { value, required: true }]
    }
}

/// The primary a node replicates from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAddress {
    pub host: String,
    pub port: u16,
}

impl Setting for Option<PrimaryAddress> {
    fn text(&self, _: &Spec) -> Vec<u8> {
        self.as_ref().map_or_else(Vec::new, |primary| format!("{} {}", primary.host, primary.port).into_bytes())
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let [host, port] = words else {
            return Err("wrong number of arguments".into());
        };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            *self = None;
            return Ok(());
        }
        let port = loose_integer(port).and_then(|port| u16::try_from(port).ok()).ok_or("Invalid master port")?;
        *self = Some(PrimaryAddress { host: String::from_utf8_lossy(host).into_owned(), port });
        Ok(())
    }

    fn file_lines(&self, spec: &Spec, _: &dyn Setting) -> Vec<FileLine> {
        self.iter().map(|_| FileLine { value: self.text(spec), required: true }).collect()
    }
}

/// The working directory, always absolute. A relative name counts from the one before; who owns the process enters it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// The directory the process is in.
    pub fn current() -> Directory {
        Directory(std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")))
    }

    /// Where `path` leads from here.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }
}

impl Setting for Directory {
    fn text(&self, _: &Spec) -> Vec<u8> {
        self.0.as_os_str().as_bytes().to_vec()
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let target = self.resolve(Path::new(std::ffi::OsStr::from_bytes(only_word(words)?)));
        // "x/." can be looked at exactly if x is a directory that may be entered.
        let entered = std::fs::metadata(target.join(".")).and_then(|_| std::fs::canonicalize(&target));
        self.0 = entered.map_err(|error| os_reason(&error))?;
        Ok(())
    }

    fn file_lines(&self, spec: &Spec, _: &dyn Setting) -> Vec<FileLine> {
        vec![FileLine { value: words::quote(&self.text(spec)), required: true }]
    }
}

/// The system's words for an error, without the number Rust appends.
pub fn os_reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Kernel features not to use although the kernel has them, written `no-multishot-recv`, or `no-all`. Which features
/// there are is known to the reactor, which refuses a name it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchedOff(Vec<String>);

impl SwitchedOff {
    /// The names as the reactor has them: `multishot_recv`, `all`.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl Setting for SwitchedOff {
    fn text(&self, _: &Spec) -> Vec<u8> {
        joined(&self.0.iter().map(|name| format!("no-{}", name.replace('_', "-"))).collect::<Vec<_>>())
    }

    fn assign(&mut self, words: &[Vec<u8>], _: &Spec) -> Result<(), Refusal> {
        let name = |word: &Vec<u8>| {
            let word = String::from_utf8_lossy(word).to_ascii_lowercase().replace('-', "_");
            word.strip_prefix("no_").filter(|name| !name.is_empty()).map(str::to_owned)
        };
        let words = if is_nothing(words) { &[] } else { words };
        let names: Option<Vec<String>> = words.iter().map(name).collect();
        self.0 = names.ok_or("each argument must name a feature to switch off, as in no-multishot-recv")?;
        Ok(())
    }

    fn file_lines(&self, spec: &Spec, _: &dyn Setting) -> Vec<FileLine> {
        if self.0.is_empty() { Vec::new() } else { vec![FileLine { value: self.text(spec), required: true }] }
    }
}
