//! A server process of the test's own: kvcore, or redis-server to compare with.

use super::{Client, PATIENCE, Value};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which program a server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    Kvcore { cores: usize },
    Redis,
}

/// A running server. It is killed when this is dropped.
pub struct Server {
    pub program: Program,
    pub port: u16,
    pub dir: tempfile::TempDir,
    child: Child,
}

/// The user and group of a server without privileges, where tests run as root.
const NOBODY: u32 = 65534;

/// Starts may lose the race for a port to another process that often.
const ATTEMPTS: usize = 8;

/// Makes a directory that belongs to whom the one around it belongs to.
pub fn make_directory(path: &Path) {
    std::fs::create_dir_all(path).expect("a directory");
    let owner = path.parent().expect("a directory around it").metadata().expect("it exists").uid();
    chown(path, Some(owner), None).expect("given to its owner");
}

/// The names in a directory, in order.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A copy of a server's append-only directory, in a directory of its own.
pub fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::Builder::new().prefix("kvcore-test-").tempdir().expect("a temporary directory");
    let (from, to) = (dir.join("appendonlydir"), copy.path().join("appendonlydir"));
    std::fs::create_dir(&to).expect("a directory");
    for name in names(&from) {
        std::fs::copy(from.join(&name), to.join(&name)).expect("copied");
    }
    copy
}

#[derive(Clone, Copy, Default)]
struct Start {
    /// It counts as started while it loads.
    may_load: bool,
    /// Runs as this user, and its group; otherwise as the test does.
    user: Option<u32>,
}

/// The path of the kvcore under test.
pub fn kvcore_path() -> PathBuf {
    std::env::var_os("KVCORE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_kvcore")), PathBuf::from)
}

impl Server {
    /// kvcore on a free loopback port, with an empty directory, no persistence, and `extra` arguments. If the first of them is
    /// no option, it is a configuration file.
    pub fn kvcore(cores: usize, extra: &[&str]) -> Server {
        Server::start(Program::Kvcore { cores }, extra)
    }

    /// redis-server likewise.
    pub fn redis(extra: &[&str]) -> Server {
        Server::start(Program::Redis, extra)
    }

    /// kvcore on files that take a while to load: it answers, with -LOADING.
    pub fn kvcore_that_loads(cores: usize, extra: &[&str]) -> Server {
        Server::start_as(Program::Kvcore { cores }, extra, Start { may_load: true, ..Start::default() })
    }

    pub fn start(program: Program, extra: &[&str]) -> Server {
        Server::start_as(program, extra, Start::default())
    }

    /// A server that file permissions count for.
    pub fn without_privileges(program: Program, extra: &[&str]) -> Server {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        Server::start_as(program, extra, Start { user: is_root.then_some(NOBODY), ..Start::default() })
    }

    fn start_as(program: Program, extra: &[&str], start: Start) -> Server {
        for _ in 0..ATTEMPTS {
            let dir = tempfile::Builder::new().prefix("kvcore-test-").tempdir().expect("a temporary directory");
            let port = free_port();
            let log = File::create(dir.path().join("out.log")).expect("a log file");
            let mut command = match program {
                Program::Redis => Command::new("redis-server"),
                Program::Kvcore { cores } => {
                    let mut path = kvcore_path();
                    if start.user.is_some() {
                        // Where it was built others may not be let in.
                        let own = dir.path().join("kvcore");
                        std::fs::copy(&path, &own).expect("a copy of the program");
                        path = own;
                    }
                    let mut command = Command::new(&path);
                    if path.file_name().is_none_or(|name| name != "redis-server") {
                        command.args(["--cores", &cores.to_string()]);
                    }
                    command
                }
            };
            let (file, options) = extra.split_at(usize::from(extra.first().is_some_and(|first| !first.starts_with("--"))));
            command
                .args(file)
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(options)
                .current_dir(dir.path())
                .env("LC_ALL", "C")
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a second handle of the log"))
                .stderr(log);
            if let Some(user) = start.user {
                chown(dir.path(), Some(user), Some(user)).expect("given to its owner");
                command.uid(user).gid(user);
            }
            let child = command.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}"));
            let mut server = Server { program, port, dir, child };
            if server.becomes_ready(start.may_load) {
                return server;
            }
            let log = server.log();
            assert!(log.contains("ddress already in use"), "{program:?} did not start:\n{log}");
        }
        panic!("{program:?}: no free port in {ATTEMPTS} attempts");
    }

    /// Waits for the answer to PING; false when the process has ended.
    fn becomes_ready(&mut self, may_load: bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(_)) = self.child.try_wait() {
                return false;
            }
            if let Ok(mut client) = Client::connect(self.port)
                && client.try_send_raw(b"*1\r\n$4\r\nPING\r\n").is_ok()
                && let Ok(reply) = client.try_message()
            {
                // Without a password it is this process and no other that must have answered.
                let loads = reply.is_error() && reply.text().starts_with("LOADING");
                let needs_password = reply.is_error();
                if (may_load || !loads) && (needs_password || self.is_process(&mut client)) {
                    return true;
                }
            }
            if Instant::now() > deadline {
                panic!("{:?} did not answer PING within {PATIENCE:?}:\n{}", self.program, self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_process(&self, client: &mut Client) -> bool {
        let info = client.run("INFO server");
        info.is_error() || info.text().contains(&format!("process_id:{}\r\n", self.child.id()))
    }

    /// A new connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("connecting to {:?}: {error}\n{}", self.program, self.log()))
    }

    /// A new connection that speaks RESP3.
    #[track_caller]
    pub fn client3(&self) -> Client {
        let mut client = self.client();
        let reply = client.run("HELLO 3");
        assert!(matches!(reply, Value::Map(_)), "HELLO 3 answered {reply}");
        client
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal: `TERM`, `INT` …
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -s {name}");
    }

    /// Ends the process at once, as the machine's failure would.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process of one's own can be killed");
        let _ = self.child.wait();
    }

    /// Runs a kvcore in this directory that is expected to end by itself; its exit code and what it printed.
    pub fn kvcore_to_its_end(dir: &Path, cores: usize, extra: &[&str]) -> (Option<i32>, String) {
        let log = File::create(dir.join("end.log")).expect("a log file");
        let mut child = Command::new(kvcore_path())
            .args(["--cores", &cores.to_string(), "--port", "0", "--unixsocket", "end.sock", "--save", "", "--dir"])
            .arg(dir)
            .args(extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("kvcore starts");
        let deadline = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = child.try_wait().expect("the state of a child") {
                break status.code();
            }
            if Instant::now() > deadline {
                let _ended = (child.kill(), child.wait());
                panic!("kvcore did not end:\n{}", std::fs::read_to_string(dir.join("end.log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        (code, String::from_utf8_lossy(&std::fs::read(dir.join("end.log")).unwrap_or_default()).into_owned())
    }

    /// What the process has printed.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("out.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The exit code, once the process has ended by itself.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "{:?} did not end:\n{}", self.program, self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails if the process has ended or printed that a thread panicked.
    #[track_caller]
    pub fn check_healthy(&mut self) {
        let ended = self.child.try_wait().expect("the state of a child");
        let log = self.log();
        assert!(ended.is_none() && !log.contains("panicked at"), "{:?} is not well ({ended:?}):\n{log}", self.program);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let panicked = self.log().contains("panicked at");
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("last lines of {:?}:", self.program);
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        } else if panicked {
            panic!("{:?} panicked:\n{}", self.program, self.log());
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
