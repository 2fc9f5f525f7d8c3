//! The house rules that a machine can check: who may import whom, how long a file is, where `unsafe` may stand, what must not be
//! left behind, and that the sample configurations start.

mod harness;

use harness::Server;
use std::path::{Path, PathBuf};

/// The node's modules, from the top: a module may import from its own row and from those below, never from above.
const LAYERS: &[&[&str]] = &[
    &["main", "node", "system"],
    &["reactor"],
    &["dispatch"],
    &["commands"],
    &["core", "coordinator", "peers"],
    &["replication"],
    &["persistence"],
    &["client", "acl"],
    &["protocol", "config", "observe"],
];

/// (importing module, imported module, why it is right although it points upwards).
const UPWARD: &[(&str, &str, &str)] = &[
    ("commands", "system", "CONFIG and SHUTDOWN act on the process"),
    ("config", "system", "the checks of a directive ask for the machine's limits"),
    ("core", "commands", "a connection names the command it runs"),
    ("dispatch", "reactor", "the waker between cores"),
    ("peers", "system", "replication ids are made of the system's randomness"),
];

/// Longest file, without its tests.
const LINES_MAX: usize = 800;
/// Longer all the same: (file, why).
const LONG_FILES: &[(&str, &str)] = &[];

/// Files that may hold `unsafe`.
const UNSAFE_FILES: &[&str] = &[
    "shards/src/keyspace/db.rs",
    "shards/src/keyspace/entry.rs",
    "shards/src/table/chunk.rs",
    "shards/src/table/page.rs",
    "shards/src/value/member.rs",
    "shards/src/value/scored.rs",
    "shards/src/value/sorted_set/tree.rs",
    "shards/src/value/thin.rs",
    "src/commands/info/figures.rs",
    "src/commands/info/node.rs",
    "src/observe/clock.rs",
    "src/observe/log.rs",
    "src/observe/memory.rs",
    "src/peers/connection.rs",
    "src/reactor/buffers.rs",
    "src/reactor/enter.rs",
    "src/reactor/features.rs",
    "src/reactor/listener.rs",
    "src/reactor/ring.rs",
    "src/reactor/ring_tests.rs",
    "src/reactor/runtime.rs",
    "src/reactor/wake.rs",
    "src/system/process.rs",
];

/// What the shard crate may not touch: it has no I/O, clock, thread or randomness of its own.
const NOT_IN_THE_SHARD: &[&str] = &[
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
];

/// Rooms that belong to nobody.
const NAMES_OF_NOTHING: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

struct Source {
    /// From the root of the project.
    path: String,
    text: String,
}

impl Source {
    /// The text before the tests that the file ends with.
    fn body(&self) -> &str {
        self.text.find("#[cfg(test)]\nmod tests {").map_or(&self.text, |at| &self.text[..at])
    }

    /// Lines of code with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("")))
            .filter(|(_, line)| !line.trim().is_empty())
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.ends_with("tests.rs")
            || self.path.ends_with("testing.rs")
            || self.path.starts_with("tests/")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("a directory entry").path()) {
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| files_below(&root().join(folder), "rs", &mut paths));
    paths.sort();
    let relative = |path: &Path| path.strip_prefix(root()).expect("inside the project").to_string_lossy().into_owned();
    let sources: Vec<_> = paths
        .iter()
        .map(|path| Source { path: relative(path), text: std::fs::read_to_string(path).expect("a source file") })
        .collect();
    assert!(!sources.is_empty(), "nothing in {folders:?}");
    sources
}

#[track_caller]
fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn module_of(path: &str) -> &str {
    let rest = path.strip_prefix("src/").expect("a file of the node");
    rest.split('/').next().expect("a first part").trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The modules named after `crate::` in a line.
fn imported(line: &str) -> Vec<&str> {
    let names = line
        .split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or(""));
    names.filter(|name| layer(name).is_some()).collect()
}

#[test]
fn imports_go_one_way() {
    let (mut wrong, mut used) = (Vec::new(), Vec::new());
    for source in sources(&["src"]).iter().filter(|source| !source.is_test()) {
        let module = module_of(&source.path);
        let Some(own) = layer(module) else {
            wrong.push(format!("{}: the module {module} has no place in the table of layers", source.path));
            continue;
        };
        for (number, line) in source.code().take_while(|(_, line)| !line.contains("#[cfg(test)]")) {
            for name in imported(line) {
                let excused = UPWARD.iter().position(|(from, to, _)| *from == module && *to == name);
                if layer(name).is_some_and(|other| other < own) {
                    match excused {
                        Some(index) => used.push(index),
                        None => {
                            wrong.push(format!("{}:{number}: {module} imports from {name}, which stands above it", source.path))
                        }
                    }
                }
            }
        }
    }
    let stale =
        (0..UPWARD.len()).filter(|index| !used.contains(index)).map(|index| format!("no longer needed: {:?}", UPWARD[index]));
    wrong.extend(stale);
    none("imports", wrong);
}

#[test]
fn the_shard_has_no_outside() {
    let mut wrong = Vec::new();
    for source in sources(&["shards/src"]).iter().filter(|source| !source.is_test()) {
        for (number, line) in source.code() {
            wrong.extend(
                NOT_IN_THE_SHARD
                    .iter()
                    .filter(|name| line.contains(*name))
                    .map(|name| format!("{}:{number}: {name}", source.path)),
            );
        }
    }
    none("kvshard is given its clock, seeds and bytes; it does not fetch them", wrong);
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "shards/src", "tests", "benches"]) {
        let lines = source.body().lines().count();
        let excused = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if lines > LINES_MAX && !excused {
            wrong.push(format!("{}: {lines} lines before its tests; split it along a seam", source.path));
        } else if lines <= LINES_MAX && excused {
            wrong.push(format!("{}: is short enough, and no longer needs its exception", source.path));
        }
    }
    none("long files", wrong);
}

#[test]
fn files_say_what_they_are() {
    let wrong = sources(&["src", "shards/src", "tests", "benches"])
        .iter()
        .filter(|source| !source.is_test() && !source.text.starts_with("//! "))
        .map(|source| source.path.clone())
        .collect();
    none("files without a module comment on their first line", wrong);
    let nameless = |path: &str| path.split(['/', '.']).any(|part| NAMES_OF_NOTHING.contains(&part));
    none(
        "names that say nothing",
        sources(&["src", "shards/src", "tests", "benches"])
            .into_iter()
            .map(|source| source.path)
            .filter(|path| nameless(path))
            .collect(),
    );
}

#[test]
fn unsafe_stands_only_where_listed() {
    let word = concat!("un", "safe");
    let mut wrong = Vec::new();
    let mut with = Vec::new();
    for source in sources(&["src", "shards/src", "tests", "benches"]) {
        let uses = source.code().any(|(_, line)| {
            line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|name| name == word) && !line.contains("#![")
        });
        if uses && source.path != "tests/tidy.rs" {
            with.push(source.path.clone());
            if !UNSAFE_FILES.contains(&source.path.as_str()) {
                wrong.push(format!("{}: not in the list", source.path));
            }
        }
    }
    wrong.extend(
        UNSAFE_FILES
            .iter()
            .filter(|path| !with.iter().any(|found| found == *path))
            .map(|path| format!("{path}: listed, but has none")),
    );
    none(word, wrong);
}

#[test]
fn nothing_is_left_behind() {
    // Put together so that this file does not name them itself.
    let marks =
        [["to", "do!("], ["unimple", "mented!("], ["db", "g!("], ["FIX", "ME"], ["XX", "X "], ["TO", "DO"], ["#[ign", "ore"]]
            .map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for source in sources(&["src", "shards/src", "tests", "benches"]) {
        for (index, line) in source.text.lines().enumerate() {
            wrong.extend(
                marks
                    .iter()
                    .filter(|mark| line.contains(mark.as_str()))
                    .map(|mark| format!("{}:{}: {mark}", source.path, index + 1)),
            );
        }
    }
    none("leftovers", wrong);
}

#[test]
fn nothing_unwraps_outside_tests() {
    let call = concat!(".un", "wrap()");
    let mut wrong = Vec::new();
    for source in sources(&["src", "shards/src"]).iter().filter(|source| !source.is_test()) {
        for (index, line) in source.body().lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if code.contains(call) {
                wrong.push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    none("an expect that names the invariant says more", wrong);
}

#[test]
fn sample_configurations_start() {
    let mut samples = Vec::new();
    files_below(&root().join("conf"), "conf", &mut samples);
    assert!(!samples.is_empty(), "conf/ holds the samples");
    // Samples for other programs, or for modes that are tested elsewhere.
    let others = ["sentinel", "haproxy", "cluster", "replica"];
    for sample in samples.iter().filter(|path| !others.iter().any(|other| path.to_string_lossy().contains(other))) {
        let mut server = Server::kvcore(1, &[&sample.to_string_lossy(), "--daemonize", "no", "--logfile", "", "--dir", "."]);
        let mut client = server.client();
        for line in std::fs::read_to_string(sample).expect("a sample").lines() {
            let Some((name, _)) = line.trim().split_once(' ').filter(|(name, _)| !name.starts_with('#')) else { continue };
            if !["include", "rename-command", "user", "loadmodule"].contains(&name) {
                let reply = client.command(&["CONFIG", "GET", name]);
                assert!(!reply.items().is_empty(), "{}: CONFIG GET does not know {name}", sample.display());
            }
        }
        server.check_healthy();
    }
}
