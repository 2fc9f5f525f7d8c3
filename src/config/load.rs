//! Reading a configuration: file, standard input and the command line's overrides, as one text read line by line.
//!
//! Owns what a line means (comments, quotes, `include`, later lines win) and the error a bad line ends the start with, in
//! the form redis-server prints. Lines that belong to others (users, renamed commands, Sentinel) are kept with their
//! place for them to judge. Nothing is changed outside the result: `dir` is resolved and checked, not entered.
//!
//! Two things are stricter than in Redis, because there they misread a file silently or crash: a word that starts with
//! `#` behind a directive of several words is refused (a comment needs a line of its own), and includes nest to a depth.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kvshard::glob;

use super::directive::Directive;
use super::structures::os_reason;
use super::table::{Config, DIRECTIVES};
use super::{REDIS_VERSION, words};

/// How deep `include` lines may lead from file to file.
pub const INCLUDE_DEPTH_MAX: usize = 16;

/// Directives of the past that are still read, with one argument, and do nothing.
const RETIRED: &[&str] = &["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

/// Directives that are no settings: they name something, any number of times.
pub(super) const DECLARATIONS: &[&str] = &["include", "rename-command", "user", "loadmodule", "sentinel"];

const COMMENT_HINT: &str = "Hint: a comment must stand on its own line.";

/// Where a line of the configuration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counts from 1; the overrides of the command line count on after the end of the file.
    pub line: usize,
    /// The line without blanks around it.
    pub text: String,
    /// The included file, if it is not the one the node was started with.
    pub included_from: Option<PathBuf>,
}

/// A line kept for its owner: what stands behind the directive's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    pub words: Vec<Vec<u8>>,
    pub place: Place,
}

/// Everything that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Names (never aliases) of the directives that were given a value.
    pub mentioned: BTreeSet<&'static str>,
    pub declared: Declared,
}

/// The lines that belong to others, in the order they were read.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// `user name rules…`
    pub users: Vec<Declaration>,
    /// `rename-command from to`
    pub renamed_commands: Vec<Declaration>,
    /// `loadmodule path arguments…`
    pub modules: Vec<Declaration>,
    /// `sentinel option…`
    pub sentinel: Vec<Declaration>,
}

/// Why the configuration cannot be used; printed, it is what goes to standard error before exit code 1.
#[derive(Debug)]
pub enum LoadError {
    Line {
        place: Place,
        reason: String,
        hint: Option<String>,
    },
    /// No single line is at fault.
    Whole {
        reason: String,
    },
    Unreadable {
        path: PathBuf,
        error: io::Error,
    },
}

impl LoadError {
    /// The error of an owner of [`Declaration`]s who finds one to be wrong.
    pub fn at(place: &Place, reason: impl Into<String>) -> LoadError {
        LoadError::Line { place: place.clone(), reason: reason.into(), hint: None }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let LoadError::Unreadable { path, error } = self {
            return write!(f, "Fatal error, can't open config file '{}': {}", path.display(), os_reason(error));
        }
        write!(f, "\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***\n")?;
        match self {
            LoadError::Line { place, reason, hint } => {
                writeln!(f, "Reading the configuration file, at line {}", place.line)?;
                writeln!(f, ">>> '{}'", place.text)?;
                write!(f, "{reason}")?;
                if let Some(file) = &place.included_from {
                    write!(f, "\nIn the included file '{}'.", file.display())?;
                }
                hint.iter().try_for_each(|hint| write!(f, "\n{hint}"))
            }
            LoadError::Whole { reason } => write!(f, "{reason}"),
            LoadError::Unreadable { .. } => Ok(()),
        }
    }
}

impl std::error::Error for LoadError {}

/// What to read. All parts are optional and are read in this order.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    pub file: Option<&'a Path>,
    /// What came over standard input.
    pub input: Option<&'a [u8]>,
    /// Lines made from the command line.
    pub overrides: Option<&'a [u8]>,
}

/// Reads `sources` over the defaults.
pub fn load(sources: &Sources) -> Result<Loaded, LoadError> {
    let config = Config::default();
    let mut text = match sources.file {
        Some(path) => read_files(&config.dir.0, path)?,
        None => Vec::new(),
    };
    text.extend_from_slice(sources.input.unwrap_or_default());
    if let Some(overrides) = sources.overrides {
        text.push(b'\n');
        text.extend_from_slice(overrides);
    }
    let loaded = Loaded { config, mentioned: BTreeSet::new(), declared: Declared::default() };
    let mut loader = Loader { loaded, include_depth: 0 };
    loader.read(&text, None)?;
    loader.loaded.config.settle();
    Ok(loader.loaded)
}

/// The content of `path`, or of all files it matches if it holds a wildcard, of which there may be none.
fn read_files(dir: &Path, path: &Path) -> Result<Vec<u8>, LoadError> {
    let has_wildcard = path.as_os_str().as_bytes().iter().any(|byte| b"*?[".contains(byte));
    let paths = if has_wildcard { matching_files(&dir.join(path)) } else { vec![dir.join(path)] };
    let mut text = Vec::new();
    for file in paths {
        let named = if has_wildcard { file.clone() } else { path.to_owned() };
        text.extend(fs::read(&file).map_err(|error| LoadError::Unreadable { path: named, error })?);
    }
    Ok(text)
}

/// The paths that match `pattern`, an absolute path whose parts may hold wildcards, in order. A leading dot is only
/// matched by a dot.
fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        if !part.as_bytes().iter().any(|byte| b"*?[".contains(byte)) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let shown = |name: &OsStr| {
            let hidden = name.as_bytes().starts_with(b".") && !part.as_bytes().starts_with(b".");
            !hidden && glob::matches(part.as_bytes(), name.as_bytes(), false)
        };
        let entries = |dir: PathBuf| {
            let names = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let mut names: Vec<_> = names.filter(|name| shown(name)).collect();
            names.sort();
            names.into_iter().map(move |name| dir.join(name)).collect::<Vec<_>>()
        };
        found = found.into_iter().flat_map(entries).collect();
    }
    found.retain(|path| path.exists());
    found
}

struct Loader {
    loaded: Loaded,
    include_depth: usize,
}

/// Reason and hint of a bad line.
type BadLine = (String, Option<String>);

fn bad(reason: impl Into<String>) -> BadLine {
    (reason.into(), None)
}

impl Loader {
    fn read(&mut self, text: &[u8], included_from: Option<&Path>) -> Result<(), LoadError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let place = Place {
                line: index + 1,
                text: String::from_utf8_lossy(line).into_owned(),
                included_from: included_from.map(Path::to_owned),
            };
            self.read_line(line, &place)?;
        }
        self.check_log_file()
    }

    fn read_line(&mut self, line: &[u8], place: &Place) -> Result<(), LoadError> {
        let fail = |(reason, hint)| LoadError::Line { place: place.clone(), reason, hint };
        let words = words::split(line).ok_or_else(|| fail(bad("Unbalanced quotes in configuration line")))?;
        let Some((name, words)) = words.split_first() else {
            return Ok(());
        };
        if let Some(directive) = Directive::find(name) {
            return self.assign(directive, words).map_err(fail);
        }
        let name = name.to_ascii_lowercase();
        if RETIRED.iter().any(|retired| retired.as_bytes() == name) && words.len() == 1 {
            return Ok(());
        }
        let kept = || Declaration { words: words.to_vec(), place: place.clone() };
        match (name.as_slice(), words) {
            (b"include", [path]) => return self.include(path, place),
            (b"rename-command", [_, _]) => self.loaded.declared.renamed_commands.push(kept()),
            (b"user", [_, ..]) => self.loaded.declared.users.push(kept()),
            (b"loadmodule", [_, ..]) => self.loaded.declared.modules.push(kept()),
            (b"sentinel", [_, ..]) => self.loaded.declared.sentinel.push(kept()),
            // The switch itself; the command line has seen it.
            (b"sentinel", []) => {}
            _ => return Err(fail(unknown(&name, words))),
        }
        Ok(())
    }

    fn assign(&mut self, directive: &'static Directive, words: &[Vec<u8>]) -> Result<(), BadLine> {
        let comment = words.iter().skip(1).any(|word| word.starts_with(b"#"));
        let hint = || comment.then(|| COMMENT_HINT.to_owned());
        let several = directive.spec.several_words;
        if !several && words.len() != 1 {
            return Err(("wrong number of arguments".to_owned(), hint()));
        }
        if several && (comment || words.first().is_some_and(|word| word.starts_with(b"#"))) {
            return Err(("wrong number of arguments".to_owned(), Some(COMMENT_HINT.to_owned())));
        }
        // `--save "900 1"`: one word that holds several.
        let split = match words {
            [one] if several && !one.is_empty() => words::split(one),
            _ => None,
        };
        let earlier_points = self.loaded.config.save.clone();
        let assigned = directive.assign(&mut self.loaded.config, split.as_deref().unwrap_or(words));
        assigned.map_err(|reason| (reason.into_owned(), hint()))?;
        let first = self.loaded.mentioned.insert(directive.name);
        // Lines of `save` add up, until an empty one takes all back; the first replaces the defaults.
        if directive.name == "save" && !first && !matches!(words, [only] if only.is_empty()) {
            self.loaded.config.save.splice(0..0, earlier_points);
        }
        Ok(())
    }

    fn include(&mut self, path: &[u8], place: &Place) -> Result<(), LoadError> {
        if self.include_depth == INCLUDE_DEPTH_MAX {
            return Err(LoadError::at(place, format!("include files nest deeper than {INCLUDE_DEPTH_MAX}")));
        }
        let path = Path::new(OsStr::from_bytes(path));
        let text = read_files(&self.loaded.config.dir.0, path)?;
        self.include_depth += 1;
        let outcome = self.read(&text, Some(path));
        self.include_depth -= 1;
        outcome
    }

    /// A log file that cannot be written is found now, while there is a terminal to say so.
    fn check_log_file(&self) -> Result<(), LoadError> {
        let config = &self.loaded.config;
        if config.logfile.is_empty() {
            return Ok(());
        }
        let path = config.dir.resolve(config.logfile.path());
        match fs::OpenOptions::new().append(true).create(true).open(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(LoadError::Whole { reason: format!("Can't open the log file: {}", os_reason(&error)) }),
        }
    }
}

fn unknown(name: &[u8], words: &[Vec<u8>]) -> BadLine {
    let name = String::from_utf8_lossy(name);
    let hint = if RETIRED.contains(&&*name) {
        None
    } else if DECLARATIONS.contains(&&*name) {
        words.iter().any(|word| word.starts_with(b"#")).then(|| COMMENT_HINT.to_owned())
    } else if name == "down-after-milliseconds" {
        Some("Hint: write 'sentinel down-after-milliseconds <master-name> <milliseconds>'.".to_owned())
    } else {
        nearest(&name).map(|known| format!("Hint: did you mean '{known}'?"))
    };
    ("Bad directive or wrong number of arguments".to_owned(), hint)
}

/// The known name that is fewest edits away, if it is near enough to be meant.
fn nearest(name: &str) -> Option<&'static str> {
    const NAME_BYTES_MAX: usize = 64;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let known = DIRECTIVES.iter().filter(|directive| !directive.spec.hidden).flat_map(Directive::names);
    let known = known.chain(DECLARATIONS.iter().copied());
    let (distance, best) = known.map(|known| (edits(name.as_bytes(), known.as_bytes()), known)).min()?;
    (distance <= (name.len() / 3).max(1)).then_some(best)
}

/// The fewest insertions, deletions and replacements of a byte that turn one name into the other.
fn edits(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::structures::SavePoint;
    use crate::config::values::MaxmemoryPolicy;

    fn read(text: &str) -> Result<Loaded, LoadError> {
        load(&Sources { input: Some(text.as_bytes()), ..Sources::default() })
    }

    fn error(text: &str) -> String {
        read(text).expect_err(text).to_string()
    }

    #[test]
    fn a_plain_file() {
        let loaded =
            read("# 포트\r\n\n  Port 7000 \nmaxmemory 1gb\nmaxmemory-policy allkeys-lru\nrequirepass \"a b\"\nport 7001\n");
        let config = loaded.expect("a good file").config;
        assert_eq!(config.port, 7001, "later lines win");
        assert_eq!(config.maxmemory, 1 << 30);
        assert_eq!(config.maxmemory_policy, MaxmemoryPolicy::AllkeysLru);
        assert_eq!(&config.requirepass[..], b"a b");
    }

    #[test]
    fn save_lines_add_up_after_the_first() {
        let points = |text| read(text).expect(text).config.save;
        let point = |seconds, changes| SavePoint { seconds, changes };
        assert_eq!(points("save 900 1\nsave 60 5"), [point(900, 1), point(60, 5)]);
        assert_eq!(points("save \"900 1 60 5\""), [point(900, 1), point(60, 5)]);
        assert_eq!(points("save 900 1\nsave \"\"\nsave 60 5"), [point(60, 5)]);
        assert_eq!(points("save \"\""), []);
        assert_eq!(points("port 1").len(), 3);
    }

    #[test]
    fn aliases_and_retired_names() {
        let config = read("slave-priority 7\nslaveof 10.0.0.1 6380\nlua-replicate-commands yes").expect("known").config;
        assert_eq!(config.replica_priority, 7);
        assert_eq!(config.replicaof.expect("given").port, 6380);
    }

    #[test]
    fn kernel_features_are_named_as_the_reactor_has_them() {
        let names = |text: &str| read(text).map(|loaded| loaded.config.io_uring_features.names().to_vec());
        assert_eq!(names("io-uring-features no-multishot-recv NO-all").expect("right"), ["multishot_recv", "all"]);
        assert!(names("io-uring-features multishot-recv").is_err());
        assert!(names("io-uring-features \"\"").expect("right").is_empty());
    }

    #[test]
    fn lines_of_others_are_kept_with_their_place() {
        let loaded =
            read("user ann on >pw #ff\n\nrename-command FLUSHALL \"\"\nsentinel monitor m 127.0.0.1 1 2").expect("known");
        assert_eq!(loaded.declared.users[0].words, [&b"ann"[..], b"on", b">pw", b"#ff"]);
        assert_eq!(loaded.declared.renamed_commands[0].words, [&b"FLUSHALL"[..], b""]);
        assert_eq!(loaded.declared.sentinel[0].place.line, 4);
        let later = LoadError::at(&loaded.declared.renamed_commands[0].place, "No such command in rename-command").to_string();
        assert!(later.contains("at line 3\n>>> 'rename-command FLUSHALL \"\"'\nNo such command"), "{later}");
    }

    #[test]
    fn a_bad_line_is_reported_as_redis_does() {
        let text = "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading the configuration file, at line 2\n\
                    >>> 'port abc'\nargument couldn't be parsed into an integer";
        assert_eq!(error("timeout 0\n port abc \n"), text);
        assert!(error("port \"1").ends_with("Unbalanced quotes in configuration line"));
        assert!(error("daemonize").ends_with("wrong number of arguments"));
        assert!(error("include").ends_with("Bad directive or wrong number of arguments"));
        assert!(error("dir /nonexistent/x").ends_with(">>> 'dir /nonexistent/x'\nNo such file or directory"));
        assert!(error("logfile /nonexistent/x").ends_with("***\nCan't open the log file: No such file or directory"));
    }

    #[test]
    fn unknown_names_get_the_nearest_known_one() {
        assert!(error("maxmemroy 1gb").ends_with("Hint: did you mean 'maxmemory'?"));
        assert!(error("replica-of a 1").ends_with("Hint: did you mean 'replicaof'?"));
        assert!(error("no-such-thing-at-all 1").ends_with("wrong number of arguments"));
        assert!(error("down-after-milliseconds 1000").contains("sentinel down-after-milliseconds <master-name>"));
    }

    #[test]
    fn trailing_comments_are_refused_with_a_hint() {
        for line in ["port 6379 # 포트", "repl-backlog-size 10MB #x", "bind 0.0.0.0 # all", "save 900 1 # x", "bind #x"] {
            assert!(error(line).ends_with(COMMENT_HINT), "{line}");
        }
        assert!(read("requirepass #secret").is_ok(), "a value may start with the sign");
    }

    #[test]
    fn includes_are_relative_to_the_directory_and_may_match_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        write("b.conf", "port 2\n");
        write("a.conf", "port 1\ntimeout 9\n");
        write(".hidden.conf", "port 3\n");
        write("loop.inc", "include loop.inc\n");
        let at = |rest: &str| format!("dir {}\n{rest}", dir.path().display());
        let config = read(&at("include *.conf")).expect("two files").config;
        assert_eq!((config.port, config.timeout), (2, 9), "in order of names, hidden files left out");
        assert!(read(&at("include none-*.conf")).is_ok());
        assert!(error(&at("include loop.inc")).contains("nest deeper"));
        assert!(error(&at("include none.conf")).starts_with("Fatal error, can't open config file 'none.conf': No such"));
        write("bad.inc", "prot 1\n");
        assert!(error(&at("include bad.inc")).contains("In the included file 'bad.inc'."));
    }

    #[test]
    fn reading_is_total() {
        use proptest::prelude::*;
        let names: Vec<&str> = DIRECTIVES.iter().map(|directive| directive.name).filter(|n| *n != "logfile").collect();
        proptest!(|(name in proptest::sample::select(names), rest in "[ -~]{0,20}", raw: Vec<u8>)| {
            let _ = read(&format!("{name} {rest}"));
            let _ = load(&Sources { input: Some(&raw), ..Sources::default() });
        });
    }
}
