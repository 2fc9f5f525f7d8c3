//! The log, in Redis's format: `pid:role day month year time.ms level message`.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock};

/// In ascending severity; the mark stands before the message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    Debug = 0,
    Verbose = 1,
    Notice = 2,
    Warning = 3,
}

struct Sink {
    /// `None`: standard output.
    file: Option<File>,
}

static SINK: OnceLock<Mutex<Sink>> = OnceLock::new();
static LEAST: AtomicU8 = AtomicU8::new(Level::Notice as u8);

/// Opens the log. `path` empty: standard output.
pub fn open(path: &std::path::Path) -> std::io::Result<()> {
    let file = match path.as_os_str().is_empty() {
        true => None,
        false => Some(File::options().append(true).create(true).open(path)?),
    };
    let sink = SINK.get_or_init(|| Mutex::new(Sink { file: None }));
    sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).file = file;
    Ok(())
}

pub fn set_least(level: Level) {
    LEAST.store(level as u8, Ordering::Relaxed);
}

/// Whether a message of this level would be written; to spare making it.
pub fn wants(level: Level) -> bool {
    level as u8 >= LEAST.load(Ordering::Relaxed)
}

pub fn write(level: Level, message: &str) {
    if !wants(level) {
        return;
    }
    let line = format_line(std::process::id(), 'M', std::time::SystemTime::now(), level, message);
    let sink = SINK.get_or_init(|| Mutex::new(Sink { file: None }));
    let mut sink = sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // A log that cannot be written must not stop the node.
    let _unwritable = match &mut sink.file {
        Some(file) => file.write_all(line.as_bytes()),
        None => std::io::stdout().write_all(line.as_bytes()),
    };
}

pub fn notice(message: &str) {
    write(Level::Notice, message);
}

pub fn warning(message: &str) {
    write(Level::Warning, message);
}

pub fn verbose(message: &str) {
    write(Level::Verbose, message);
}

/// A line of the log. `role` is `M` for a node, `C` for a checking tool.
pub fn format_line(pid: u32, role: char, at: std::time::SystemTime, level: Level, message: &str) -> String {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mark = match level {
        Level::Debug => '.',
        Level::Verbose => '-',
        Level::Notice => '*',
        Level::Warning => '#',
    };
    format!("{pid}:{role} {}.{:03} {mark} {message}\n", local_time(since.as_secs() as i64), since.subsec_millis())
}

/// `21 Nov 2026 09:15:41` in local time.
fn local_time(seconds: i64) -> String {
    let mut parts: libc::tm = empty_tm();
    // SAFETY: both pointers are to live values of the types the function wants.
    unsafe { libc::localtime_r(&seconds, &mut parts) };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS[(parts.tm_mon as usize).min(11)];
    format!("{:02} {month} {} {:02}:{:02}:{:02}", parts.tm_mday, 1900 + parts.tm_year, parts.tm_hour, parts.tm_min, parts.tm_sec)
}

fn empty_tm() -> libc::tm {
    // SAFETY: `tm` is plain numbers and a pointer; all zeros is a valid value.
    unsafe { std::mem::zeroed() }
}
