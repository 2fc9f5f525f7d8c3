//! The command line: what the process was asked to be, from its name and its arguments.
//!
//! Owns the two ways of reading arguments. `--help`, `--version`, `--check-system` and `--check-rdb` in first place are clap's;
//! `--check-aof` in first place, and the names redis-check-aof and redis-check-rdb, are those tools'; anything else is
//! redis-server's own form, in which a first word without a dash is the file, `-` in first or last place reads standard input,
//! and `--directive value…` makes a line that is read after both. Nothing is printed and nothing ends here: [`invocation`]
//! returns a [`Launch`], a check to run, or an [`Exit`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, value_parser};

use super::availability;
use super::load::{Declared, LoadError, Loaded, Sources, load};
use super::table::Config;
use super::{REDIS_VERSION, words};
use crate::system::{Role, usable_cpus};

/// A node to start. Who starts it enters `config.dir` first, so that relative paths count from there.
#[derive(Clone, Debug)]
pub struct Launch {
    pub config: Config,
    /// Absolute: where CONFIG REWRITE writes and INFO points.
    pub config_file: Option<PathBuf>,
    /// How many shard threads to start: as configured, or one for each CPU the process may use.
    pub cores: usize,
    /// The CPU the coordinator was given, if any.
    pub coordinator_cpu: Option<usize>,
    /// Lines for the log, as warnings, once it is open.
    pub notices: Vec<String>,
    /// Lines for others to judge: users, renamed commands, Sentinel.
    pub declared: Declared,
}

/// What the process is to do.
#[derive(Debug)]
pub enum Invocation {
    Serve(Box<Launch>),
    CheckSystem(Role),
    /// redis-check-aof with these arguments; `program` is its name in the usage line.
    CheckAof {
        program: OsString,
        arguments: Vec<OsString>,
    },
    /// The RDB file to check.
    CheckRdb(OsString),
}

/// The end of the process before it began.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: u8,
    /// For standard output where the code is 0, for standard error otherwise.
    pub message: String,
}

impl Exit {
    fn refused(message: impl Into<String>) -> Exit {
        Exit { code: 1, message: message.into() }
    }
}

impl From<LoadError> for Exit {
    fn from(error: LoadError) -> Exit {
        Exit::refused(error.to_string())
    }
}

/// Reads the arguments (the first is the program's name). `input` reads standard input and is called only for `-`.
pub fn invocation(arguments: &[OsString], input: impl FnOnce() -> std::io::Result<Vec<u8>>) -> Result<Invocation, Exit> {
    let name = arguments.first().map(|name| Path::new(name).file_name().unwrap_or(name)).unwrap_or(OsStr::new("kvcore"));
    let name = name.to_string_lossy();
    let rest = arguments.get(1..).unwrap_or_default();
    if name.contains("redis-sentinel") || rest.iter().any(|argument| argument == "--sentinel") {
        return Err(Exit::refused(availability::not_available("Sentinel mode")));
    }
    if name.contains("redis-check-rdb") {
        return check_rdb(arguments);
    }
    if name.contains("redis-check-aof") {
        return Ok(Invocation::CheckAof { program: arguments[0].clone(), arguments: rest.to_vec() });
    }
    if let [first, rest @ ..] = rest
        && first == "--check-aof"
    {
        return Ok(Invocation::CheckAof { program: OsString::from("kvcore --check-aof"), arguments: rest.to_vec() });
    }
    if rest.first().is_some_and(|first| is_switch(first)) {
        return switches(rest);
    }
    let mut line = ServerLine::read(rest);
    let input = match line.reads_input {
        true => Some(input().map_err(|error| Exit::refused(format!("Can't read standard input: {error}")))?),
        false => None,
    };
    let file = line.file.take().map(|file| std::path::absolute(&file).unwrap_or(file));
    let overrides = (!rest.is_empty()).then_some(&line.overrides[..]);
    let loaded = load(&Sources { file: file.as_deref(), input: input.as_deref(), overrides })?;
    match availability::refusal(&loaded) {
        Some(reason) => Err(Exit::refused(reason)),
        None => Ok(Invocation::Serve(Box::new(launch(loaded, file)))),
    }
}

fn launch(loaded: Loaded, config_file: Option<PathBuf>) -> Launch {
    let usable = usable_cpus();
    let mut notices = availability::notices(&loaded);
    let Loaded { config, declared, .. } = loaded;
    let cores = if config.cores == 0 { usable } else { config.cores };
    if cores > usable {
        notices.push(format!("{cores} cores were asked for but this process may use {usable} CPUs: threads will share them."));
    }
    let coordinator_cpu = usize::try_from(config.coordinator_cpu).ok();
    Launch { config, config_file, cores, coordinator_cpu, notices, declared }
}

/// The arguments of redis-check-rdb: a file, or a question for the version.
fn check_rdb(arguments: &[OsString]) -> Result<Invocation, Exit> {
    match arguments {
        [_, switch] if switch == "-v" || switch == "--version" => {
            Err(Exit { code: 0, message: format!("redis-check-rdb {REDIS_VERSION}") })
        }
        [_, file] => Ok(Invocation::CheckRdb(file.clone())),
        _ => {
            let name = arguments.first().map_or("redis-check-rdb".into(), |name| name.to_string_lossy());
            Err(Exit::refused(format!("Usage: {name} <rdb-file-name>")))
        }
    }
}

/// The version in the shape of redis-server's line.
pub fn version_line() -> String {
    let bits = usize::BITS;
    format!("kvcore server v={} (Redis {REDIS_VERSION} compatible) bits={bits} malloc=mimalloc", env!("CARGO_PKG_VERSION"))
}

fn is_switch(argument: &OsStr) -> bool {
    let known: [&[u8]; 7] = [b"-h", b"--help", b"-v", b"-V", b"--version", b"--check-system", b"--check-rdb"];
    known.contains(&argument.as_bytes())
}

fn switches(arguments: &[OsString]) -> Result<Invocation, Exit> {
    let matches =
        command().try_get_matches_from(std::iter::once(OsStr::new("kvcore")).chain(arguments.iter().map(OsString::as_os_str)));
    let matches = matches.map_err(|error| Exit { code: error.exit_code() as u8, message: error.render().to_string() })?;
    if matches.get_flag("version") {
        return Err(Exit { code: 0, message: version_line() });
    }
    if let Some(file) = matches.get_one::<OsString>("check-rdb") {
        return Ok(Invocation::CheckRdb(file.clone()));
    }
    let role = matches.get_one::<Role>("role").copied().unwrap_or(Role::Store);
    Ok(Invocation::CheckSystem(role))
}

fn command() -> Command {
    const EXAMPLES: &str = "\
Every directive of redis.conf can be given as --directive value, and counts after the file and standard input.

Examples:
  kvcore                                    start with the defaults
  kvcore --cores 8 node.conf                (the file may also come first)
  kvcore /etc/kvcore/node.conf --port 7777 --loglevel verbose
  echo 'maxmemory 128mb' | kvcore -         read the configuration from standard input
  kvcore --check-system --role store        compare this machine with the tuning files; changes nothing
  kvcore --check-aof appendonlydir/appendonly.aof.manifest
  kvcore --check-aof --fix FILE             cut off what is unfinished or damaged, after asking
  kvcore --check-aof --truncate-to-timestamp SECONDS FILE
  kvcore --check-rdb dump.rdb               say whether a snapshot file is whole, and where it is not";
    Command::new("kvcore")
        .about("A Redis-compatible, thread-per-core in-memory server on io_uring")
        .override_usage("kvcore [CONFIG FILE] [--directive VALUE...] [-]")
        .after_help(EXAMPLES)
        .arg(Arg::new("config").value_name("CONFIG FILE").help("A configuration file as for redis-server"))
        .arg(
            Arg::new("cores").long("cores").value_name("N").help("Shard threads [default: one for each CPU the process may use]"),
        )
        .arg(
            Arg::new("check-system")
                .long("check-system")
                .action(ArgAction::SetTrue)
                .help("Compare this machine's settings with those kvcore wants; exit code 1 on a difference"),
        )
        .arg(
            Arg::new("check-aof")
                .long("check-aof")
                .value_name("MANIFEST OR FILE")
                .help("Check append-only files, as redis-check-aof does"),
        )
        .arg(
            Arg::new("role")
                .long("role")
                .value_parser(value_parser!(Role))
                .requires("check-system")
                .help("What the machine is for"),
        )
        .arg(
            Arg::new("check-rdb")
                .long("check-rdb")
                .value_name("FILE")
                .value_parser(value_parser!(OsString))
                .conflicts_with("check-system")
                .help("Check an RDB file as redis-check-rdb does; exit code 1 if something is wrong with it"),
        )
        .arg(Arg::new("version").short('v').short_alias('V').long("version").action(ArgAction::SetTrue).help("Print the version"))
}

/// redis-server's own form of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct ServerLine {
    file: Option<PathBuf>,
    reads_input: bool,
    /// One line for each directive.
    overrides: Vec<u8>,
}

impl ServerLine {
    fn read(arguments: &[OsString]) -> ServerLine {
        let mut line = ServerLine::default();
        let words: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        // A directive takes at least one word, even one with dashes, before the next may begin.
        let mut complete = true;
        let mut index = 0;
        while let Some(word) = words.get(index).copied() {
            let next = words.get(index + 1).copied();
            let at_an_end = index == 0 || next.is_none();
            if index == 0 && !word.starts_with(b"-") {
                line.file = (!word.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(word)));
            } else if word == b"-" && at_an_end {
                line.reads_input = true;
            } else if complete && word == b"--cores" && line.file.is_none() && is_cores_before_file(&words[index..]) {
                // `--cores 8 node.conf`: the file follows kvcore's own switch.
                line.directive(b"cores");
                line.value(words[index + 1]);
                line.file = Some(PathBuf::from(OsStr::from_bytes(words[index + 2])));
                index += 2;
            } else if complete && word.starts_with(b"--") {
                line.directive(&word[2..]);
                complete = words::split(word).is_none_or(|words| words.len() != 1);
                let alone = next.is_none_or(|next| next.starts_with(b"--"));
                if word == b"--sentinel" && alone {
                    complete = true;
                }
                if !complete && word.eq_ignore_ascii_case(b"--save") && alone {
                    line.overrides.extend_from_slice(b"\"\"");
                    complete = next.is_some();
                }
            } else {
                line.value(word);
                complete = true;
            }
            index += 1;
        }
        line
    }

    fn directive(&mut self, name: &[u8]) {
        if !self.overrides.is_empty() {
            self.overrides.push(b'\n');
        }
        self.overrides.extend_from_slice(name);
        self.overrides.push(b' ');
    }

    fn value(&mut self, word: &[u8]) {
        self.overrides.extend(words::quote(word));
        self.overrides.push(b' ');
    }
}

/// Whether `words` are `--cores N file`, with nothing but a directive or the end after them.
fn is_cores_before_file(words: &[&[u8]]) -> bool {
    let (Some(count), Some(file)) = (words.get(1), words.get(2)) else {
        return false;
    };
    !count.is_empty() && count.iter().all(u8::is_ascii_digit) && !file.starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn line(words: &[&str]) -> (Option<String>, bool, String) {
        let line = ServerLine::read(&arguments(words));
        let file = line.file.map(|file| file.display().to_string());
        (file, line.reads_input, String::from_utf8(line.overrides).expect("text"))
    }

    fn serve(words: &[&str]) -> Launch {
        match invocation(&arguments(words), || Ok(b"timeout 3\nport 1\n".to_vec())) {
            Ok(Invocation::Serve(launch)) => *launch,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn exit(words: &[&str]) -> Exit {
        invocation(&arguments(words), || Ok(Vec::new())).expect_err("an end")
    }

    #[test]
    fn the_form_of_redis_server() {
        let some = |file: &str| Some(file.to_owned());
        let none = None::<String>;
        assert_eq!(line(&["a.conf"]), (some("a.conf"), false, String::new()));
        assert_eq!(line(&["-"]), (none.clone(), true, String::new()));
        assert_eq!(line(&["a.conf", "--port", "1", "-"]), (some("a.conf"), true, "port \"1\" ".into()));
        assert_eq!(line(&["--port 1", "--timeout", "2"]), (none.clone(), false, "port 1 \ntimeout \"2\" ".into()));
        assert_eq!(line(&["--save", "900", "1", "60", "2"]), (none.clone(), false, "save \"900\" \"1\" \"60\" \"2\" ".into()));
        assert_eq!(line(&["--save", "--port", "1"]), (none.clone(), false, "save \"\"\nport \"1\" ".into()));
        assert_eq!(line(&["--save"]), (none.clone(), false, "save \"\"".into()));
        assert_eq!(line(&["--save", ""]), (none.clone(), false, "save \"\" ".into()));
        assert_eq!(line(&["--requirepass", "--x", "--port", "1"]), (none, false, "requirepass \"--x\" \nport \"1\" ".into()));
        assert_eq!(line(&["--cores", "8", "n.conf", "--port", "1"]), (some("n.conf"), false, "cores \"8\" \nport \"1\" ".into()));
    }

    #[test]
    fn file_input_and_overrides_count_in_this_order() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("n.conf");
        std::fs::write(&file, "port 5\ntimeout 5\ntcp-backlog 5\ncores 3\n").expect("written");
        let launch = serve(&["kvcore", file.to_str().expect("text"), "--port", "7", "-"]);
        let config = &launch.config;
        assert_eq!((config.port, config.timeout, config.tcp_backlog, launch.cores), (7, 3, 5, 3));
        assert_eq!(launch.config_file, Some(file));
        assert_eq!(serve(&["redis-server"]).config.port, 6379);
        assert!(serve(&["kvcore"]).cores >= 1);
        assert_eq!(serve(&["kvcore", "--save", ""]).config.save, []);
    }

    #[test]
    fn charts_command_line_is_understood() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let include = dir.path().join("redis.conf");
        std::fs::write(&include, "rename-command FLUSHDB \"\"\nslave-read-only yes\n").expect("written");
        let include = include.to_str().expect("text");
        let launch = serve(&[
            "redis-server",
            "--port",
            "6379",
            "--requirepass",
            "p",
            "--masterauth",
            "p",
            "--include",
            include,
            "--include",
            include,
            "--slaveof",
            "redis-master",
            "6379",
        ]);
        assert_eq!(launch.declared.renamed_commands.len(), 2);
        assert_eq!(launch.config.replicaof.expect("given").host, "redis-master");
    }

    #[test]
    fn what_is_not_there_is_refused_in_one_sentence() {
        for words in [
            &["redis-sentinel", "x.conf"][..],
            &["kvcore", "x.conf", "--sentinel"],
            &["kvcore", "--cluster-enabled", "yes"],
            &["kvcore", "--tls-port", "6380"],
        ] {
            let exit = exit(words);
            assert_eq!(exit.code, 1);
            assert!(exit.message.ends_with("is not available in this version of kvcore."), "{}", exit.message);
        }
    }

    #[test]
    fn errors_name_the_line_made_from_the_arguments() {
        let exit = exit(&["kvcore", "--port", "abc"]);
        let expected = "at line 2\n>>> 'port \"abc\"'\nargument couldn't be parsed into an integer";
        assert_eq!(exit.code, 1);
        assert!(exit.message.ends_with(expected), "{}", exit.message);
    }

    #[test]
    fn help_version_and_check() {
        for switch in ["-v", "-V", "--version"] {
            let exit = exit(&["kvcore", switch]);
            assert!(exit.code == 0 && exit.message.starts_with("kvcore server v=0."), "{}", exit.message);
            assert!(exit.message.contains("(Redis 7.0.15 compatible) bits=64"));
        }
        for switch in ["-h", "--help"] {
            let exit = exit(&["kvcore", switch]);
            assert!(exit.code == 0 && exit.message.contains("--check-system"), "{}", exit.message);
        }
        let check = |words: &[&str]| invocation(&arguments(words), || Ok(Vec::new()));
        for (words, expected) in [
            (&["kvcore", "--check-aof", "--fix", "x"][..], "kvcore --check-aof"),
            (&["/bin/redis-check-aof", "--fix", "x"], "/bin/redis-check-aof"),
        ] {
            match check(words) {
                Ok(Invocation::CheckAof { program, arguments }) => {
                    assert_eq!((program, arguments), (expected.into(), vec!["--fix".into(), "x".into()]))
                }
                other => panic!("{words:?}: {other:?}"),
            }
        }
        assert!(matches!(check(&["kvcore", "--check-system"]), Ok(Invocation::CheckSystem(Role::Store))));
        assert!(matches!(check(&["kvcore", "--check-system", "--role", "proxy"]), Ok(Invocation::CheckSystem(Role::Proxy))));
        assert_eq!(exit(&["kvcore", "--check-system", "--role", "x"]).code, 2);
    }

    #[test]
    fn checking_an_rdb_file() {
        for words in [&["kvcore", "--check-rdb", "dump.rdb"][..], &["/usr/bin/redis-check-rdb", "dump.rdb"]] {
            let found = invocation(&arguments(words), || Ok(Vec::new()));
            assert!(matches!(&found, Ok(Invocation::CheckRdb(file)) if file == "dump.rdb"), "{words:?}: {found:?}");
        }
        let version = Exit { code: 0, message: "redis-check-rdb 7.0.15".into() };
        assert_eq!(exit(&["redis-check-rdb", "--version"]), version);
        for words in [&["redis-check-rdb"][..], &["redis-check-rdb", "a", "b"]] {
            assert_eq!(exit(words), Exit { code: 1, message: "Usage: redis-check-rdb <rdb-file-name>".into() });
        }
        assert_eq!(exit(&["kvcore", "--check-rdb"]).code, 2);
    }
}
