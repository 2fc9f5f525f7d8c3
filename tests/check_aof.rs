//! `kvcore --check-aof` beside redis-check-aof, line by line: what they print, how they end, and what is left of the files.

mod harness;

use harness::{Server, wait_until};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// File names and their bytes.
type Files = BTreeMap<String, Vec<u8>>;

const SET: &str = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
const MULTI: &str = "*1\r\n$5\r\nMULTI\r\n";
const EXEC: &str = "*1\r\n$4\r\nEXEC\r\n";

fn files(list: &[(&str, &[u8])]) -> Files {
    list.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

/// Runs a program among copies of `files`: the exit code, the output without the log's process ids and times, and the files.
fn run(mut command: Command, files: &Files, arguments: &[&str], answer: &str) -> (Option<i32>, String, Files) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, bytes) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    command.args(arguments).current_dir(directory.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // It may end without having read anything.
    let _unread = child.stdin.take().expect("piped").write_all(answer.as_bytes());
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.stderr.escape_ascii().to_string(), "", "{arguments:?}");
    let text = output.stdout.escape_ascii().to_string();
    let left = files.keys().map(|name| (name.clone(), std::fs::read(directory.path().join(name)).expect("read"))).collect();
    (output.status.code(), text.split("\\n").map(without_stamp).collect::<Vec<_>>().join("\n"), left)
}

/// `123:C 21 Nov 2026 14:52:52.516 # text` becomes `# text`.
fn without_stamp(line: &str) -> &str {
    match line.split_once(":C ") {
        Some((pid, rest)) if pid.bytes().all(|byte| byte.is_ascii_digit()) => rest.splitn(5, ' ').nth(4).unwrap_or(line),
        _ => line,
    }
}

/// Both tools on the same files; what both did.
#[track_caller]
fn compare(files: &Files, arguments: &[&str], answer: &str) -> (Option<i32>, String, Files) {
    let mut kvcore = Command::new(env!("CARGO_BIN_EXE_kvcore"));
    kvcore.arg("--check-aof");
    let expected = run(Command::new("redis-check-aof"), files, arguments, answer);
    let found = run(kvcore, files, arguments, answer);
    assert_eq!(found.1, expected.1, "{arguments:?} on {files:?}");
    assert_eq!((found.0, &found.2), (expected.0, &expected.2), "{arguments:?} on {files:?}");
    found
}

#[test]
fn single_files() {
    let long_digits = format!("{SET}*{}\r\n", "1".repeat(100));
    let long_line = format!("{SET}#{}\r\n{SET}", "x".repeat(1100));
    let longest_line = format!("{SET}#{}\r\n{SET}", "x".repeat(1020));
    let big = format!("*2\r\n$100000\r\n{}\r\n$1\r\nx\r\n*", "v".repeat(100_000));
    let cases: Vec<(String, Option<i32>)> = [
        ("", 0),
        ("{S}", 0),
        ("{S}{M}{S}{E}{S}", 0),
        ("#TS:1\r\n{S}#any\r\n{M}#x\n{S}{E}#end", 0),
        ("{S}*0\r\n*-1\r\n*+1\r\n$ 4\r\nPING\r\n{S}", 0),
        ("{S}*1\r\n$04\r\nPING\r\n", 0),
        ("*", 1),
        ("*1", 1),
        ("*1\r\n$", 1),
        ("{S}*", 1),
        ("{S}*3", 1),
        ("{S}*3\r", 1),
        ("{S}*3\n", 1),
        ("{S}*3x\r\n", 1),
        ("{S}*3\0\r\n", 1),
        ("{S}*3\u{e9}\r\n", 1),
        ("{S}*3\r\n$", 1),
        ("{S}*3\r\n$3", 1),
        ("{S}*3\r\n$3\r\n", 1),
        ("{S}*3\r\n$3\r\nSE", 1),
        ("{S}*3\r\n$3\r\nSET\r", 1),
        ("{S}*3\r\n$3\r\nSET\r\n", 1),
        ("{S}*1\r\n$4\r\nPINGxx", 1),
        ("{S}*1\r\n$2\r\nxy\u{e9}", 1),
        ("{S}*1\r\n+4\r\nPING\r\n", 1),
        ("{S}*1\r\n\0", 1),
        ("{S}*1\r\n$-1\r\n", 1),
        ("{S}*1\r\n$9223372036854775807\r\n", 1),
        ("{S}*1\r\n$-92233720368547758070\r\n", 1),
        ("{S}*1\r\n$92233720368547758070\r\n", 1),
        ("{S}*99999999999999999999\r\n", 1),
        ("{S}*-99999999999999999999\r\n", 0),
        ("{S}x", 1),
        ("{S}\r\n{S}", 1),
        ("{S}\0\0\0\0", 1),
        ("REDIS00", 1),
        ("{S}{M}{S}", 1),
        ("{S}{M}", 1),
        ("{S}{M}{S}*", 1),
        ("{S}{M}*1\r\n", 1),
        ("{S}{M}{S}x", 1),
        ("{S}{M}{S}*3\r\n$3\r\nSE", 1),
        ("{S}{M}{M}{S}{E}", 1),
        ("{S}{E}{S}", 1),
        ("{S}*1\r\n$7\r\nmulti\0x\r\n{S}", 1),
        ("{S}*1\r\n$6\r\nmultix\r\n{S}", 0),
        ("{S}*2\r\n$5\r\nmUlTi\r\n$1\r\nx\r\n", 1),
        ("{D}", 1),
        ("{L}", 1),
        ("{K}", 0),
        ("{B}", 1),
    ]
    .into_iter()
    .map(|(text, code)| {
        let text = [("{S}", SET), ("{M}", MULTI), ("{E}", EXEC), ("{D}", &long_digits), ("{L}", &long_line)]
            .iter()
            .chain(&[("{K}", &longest_line[..]), ("{B}", &big)])
            .fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
        (text, Some(code))
    })
    .collect();
    for (text, code) in cases {
        let files = files(&[("a.aof", text.as_bytes())]);
        assert_eq!(compare(&files, &["a.aof"], "").0, code, "{text:?}");
        let (fixed, _, left) = compare(&files, &["--fix", "a.aof"], "y\n");
        assert_eq!(fixed, Some(0), "{text:?}");
        assert_eq!(compare(&left, &["a.aof"], "").0, Some(0), "{text:?}");
    }
}

#[test]
fn only_a_yes_cuts() {
    let cut = files(&[("a.aof", format!("{SET}*").as_bytes())]);
    for answer in ["", "\n", "n\n", "N\n", " y\n", "y", "Y\n", "yes\n"] {
        let (code, _, left) = compare(&cut, &["--fix", "a.aof"], answer);
        assert_eq!(
            (code == Some(0), left["a.aof"] == SET.as_bytes()),
            (answer.starts_with(['y', 'Y']), answer.starts_with(['y', 'Y']))
        );
    }
}

#[test]
fn timestamps() {
    let text = |text: &str| text.replace("{S}", SET).replace("{M}", MULTI).replace("{E}", EXEC);
    for content in [
        "#TS:100\r\n{S}#TS:200\r\n{S}#TS:300\r\n{S}",
        "#TS:100\r\n{S}#TS:200\r\n{S}*",
        "{S}{M}#TS:200\r\n{S}{E}",
        "{S}#TS:x\r\n{S}",
        "{S}#TS:\r\n{S}",
        "{S}#TS: 160\r\n{S}",
        "{S}#TS:160\n{S}",
        "{S}#TS:160",
        "{S}#TS:99999999999999999999\r\n{S}",
        "{S}#ts:200\r\n",
        "{S}",
        "",
    ] {
        for to in ["150", "200", "99", "1000", "-5", "0", "", "x", "5x", " 5", "99999999999999999999"] {
            compare(&files(&[("a.aof", text(content).as_bytes())]), &["--truncate-to-timestamp", to, "a.aof"], "");
        }
    }
}

#[test]
fn manifests() {
    let cut = format!("{SET}*");
    let stamped = format!("{SET}#TS:200\r\n{SET}");
    let long = format!("file a seq 1 type b {}\n", "x".repeat(1100));
    let almost = format!("{} seq 1 type b\n", "file a ".repeat(145));
    let comment = format!("#{}\nfile a seq 1 type b\n", "x".repeat(1100));
    let manifests: [(&str, i32); 27] = [
        ("file a seq 1 type b\nfile a seq 1 type i\n", 0),
        ("file a seq 1 type b\nfile a seq 1 type i\nfile empty seq 2 type i\nfile a seq 9 type i\n", 0),
        ("file a seq 1 type h\n", 0),
        ("#\nfile 'a' SEQ +1x type base extra word\n", 0),
        ("file empty seq 1 type b\nfile cut seq 1 type i\n", 1),
        ("file a seq 1 type b\nfile cut seq 1 type i\nfile a seq 2 type i\n", 1),
        ("file cut seq 1 type b\n", 1),
        ("file stamped seq 1 type b\nfile a seq 1 type i\n", 0),
        ("file a seq 1 type b\nfile stamped seq 1 type i\n", 0),
        ("file none seq 1 type b\n", 1),
        ("file none seq 1 type i\n", 1),
        ("file .. seq 1 type i\n", 1),
        ("file a seq 0 type b\n", 1),
        ("file a seq 1 type b", 1),
        ("file a seq 1 type b\n\n", 1),
        ("file a seq 1 type b odd\n", 1),
        ("file x/a seq 1 type b\n", 1),
        ("file x\\a seq 1 type b\n", 1),
        ("file a seq 1 type b\nfile a seq 2 type b\n", 1),
        ("file a seq 1 type i\nfile a seq 1 type i\n", 1),
        ("file a seq 1 type x\n", 1),
        ("file \"a seq 1 type b\n", 1),
        ("file a seq 1 type \"\"\n", 1),
        ("x\nfile a seq 1 type b\n", 1),
        (&long, 1),
        (&almost, 1),
        (&comment, 1),
    ];
    for (manifest, code) in manifests {
        let list: [(&str, &[u8]); 5] = [
            ("d/m", manifest.as_bytes()),
            ("d/a", SET.as_bytes()),
            ("d/empty", b""),
            ("d/cut", cut.as_bytes()),
            ("d/stamped", stamped.as_bytes()),
        ];
        let mut files = files(&list);
        assert_eq!(compare(&files, &["d/m"], "").0, Some(code), "{manifest}");
        compare(&files, &["--fix", "d/m"], "y\n");
        compare(&files, &["--truncate-to-timestamp", "150", "d//m"], "");
        files = files.into_iter().map(|(name, bytes)| (name.trim_start_matches("d/").to_owned(), bytes)).collect();
        compare(&files, &["m"], "");
    }
}

#[test]
fn command_lines() {
    let files = files(&[("a", SET.as_bytes()), ("d/a", b"")]);
    let longest = "x".repeat(4096);
    for arguments in [&["none"][..], &["--fix"], &["d"], &["--fix", "d"], &["d/"], &["/dev/null"], &[&longest]] {
        compare(&files, arguments, "");
    }
    let longer = "x".repeat(4097);
    for arguments in [&[][..], &["a", "b"], &["--fix", "a", "b"], &["a", "--fix"], &["a", "b", "c", "d"], &[&longer]] {
        let mut renamed = Command::new(env!("CARGO_BIN_EXE_kvcore"));
        renamed.arg0("redis-check-aof");
        let expected = run(Command::new("redis-check-aof"), &files, arguments, "");
        assert_eq!(run(renamed, &files, arguments, ""), expected, "{arguments:?}");
        assert_eq!(expected.0, Some(1));
    }
}

#[test]
fn every_cut_of_a_file() {
    let whole = format!("#TS:1\r\n{SET}{MULTI}{SET}{EXEC}");
    for cut in 1..whole.len() {
        compare(&files(&[("a", &whole.as_bytes()[..cut])]), &["a"], "");
    }
}

/// What redis-server leaves after a rewrite: a base that is an RDB, and a log behind it; whole, and damaged in several ways.
#[test]
fn a_base_that_is_an_rdb() {
    let server = Server::redis(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut client = server.client();
    for index in 0..200 {
        client.command(&["SET", &format!("key:{index}"), "value", "EX", "1000"]);
        client.command(&["RPUSH", "list", "a", "b", "c"]);
    }
    client.command(&["BGREWRITEAOF"]);
    wait_until("the rewrite ends", || {
        let info = client.command(&["INFO", "persistence"]).text();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
    client.command(&["SET", "behind", "the base"]);
    let directory = PathBuf::from(client.command(&["CONFIG", "GET", "dir"]).items()[1].text()).join("appendonlydir");
    let whole: Files = std::fs::read_dir(&directory)
        .expect("the directory is there")
        .map(|entry| entry.expect("listed").path())
        .map(|path| (path.file_name().expect("named").to_str().expect("text").to_owned(), std::fs::read(&path).expect("read")))
        .collect();
    let manifest = "appendonly.aof.manifest";
    let base = whole.keys().find(|name| name.ends_with(".base.rdb")).expect("a base").clone();
    let found = compare(&whole, &[manifest], "");
    assert_eq!(found.0, Some(0), "{}", found.1);
    assert!(found.1.contains("RDB preamble is OK"), "{}", found.1);
    for cut in [9, 40, whole[&base].len() - 9, whole[&base].len() - 1] {
        let mut damaged = whole.clone();
        damaged.get_mut(&base).expect("a base").truncate(cut);
        assert_eq!(compare(&damaged, &[manifest], "").0, Some(1), "cut at {cut}");
    }
    let old_style = files(&[("appendonly.aof", &[&whole[&base][..], SET.as_bytes(), b"*1\r\n"].concat())]);
    compare(&old_style, &["appendonly.aof"], "");
    assert_eq!(compare(&old_style, &["--fix", "appendonly.aof"], "y\n").0, Some(0));
}
