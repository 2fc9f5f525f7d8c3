//! Admission: the checks between finding a command and running it, in Redis's order.
//!
//! Each check is small and answers for one reason. With no special state of the client or the node only the arity is looked at.

use crate::commands::registry::Registered;
use crate::config::structures::os_reason;
use crate::core::connection::{Connection, Special, Transaction};
use kvshard::shard::READ_ONLY;
use kvshard::{Args, Error, Flags};

/// The reply to a command that needs memory when there is none.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// What the gate says about one command.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Run,
    /// Keep for EXEC and answer QUEUED.
    Queue,
    Refuse(Error),
    /// Look again when the pause has ended.
    Pause,
}

/// State of the whole node that concerns every command, refreshed once a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeSpecial {
    /// CLIENT PAUSE is on; `true`: for writes only.
    pub paused: Option<bool>,
    /// The last save is being written: data is neither read nor changed any more.
    pub ending: bool,
    /// Some connection monitors.
    pub monitored: bool,
    /// `maxmemory` is set.
    pub memory_limited: bool,
    /// The data set is being loaded.
    pub loading: bool,
    /// Another one is being loaded beside it.
    pub async_loading: bool,
    /// Writes are refused, as too few replicas would have them.
    pub lacks_replicas: bool,
    /// Writes are refused, as they are the primary's to make.
    pub read_only: bool,
    /// What is here is not to be shown, as the primary may have something else.
    pub stale: bool,
    /// Writes are refused, as they would not survive.
    pub disk_error: Option<DiskError>,
}

/// What cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    Rdb,
    /// With the system's error number.
    Aof(i32),
}

impl DiskError {
    fn error(self) -> Error {
        match self {
            DiskError::Rdb => Error::Text(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may \
                 modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
                 snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.",
            ),
            DiskError::Aof(errno) => {
                let reason = os_reason(&std::io::Error::from_raw_os_error(errno));
                Error::Owned(format!("MISCONF Errors writing to the AOF file: {reason}"))
            }
        }
    }
}

impl NodeSpecial {
    #[inline]
    pub fn any(&self) -> bool {
        let replication = self.lacks_replicas || self.read_only || self.stale;
        let upkeep = self.memory_limited || self.loading || self.async_loading || self.disk_error.is_some();
        self.paused.is_some() || self.ending || self.monitored || upkeep || replication
    }
}

/// Bytes of a client's word that an error repeats; of all arguments of an unknown command together.
const SHOWN_MAX: usize = 128;

/// The error for a command that does not exist.
pub fn unknown_command(args: Args<'_>) -> Error {
    let mut text = [b"ERR unknown command '", beginning(args.at(0), SHOWN_MAX), b"', with args beginning with: "].concat();
    let mut length = 0;
    for arg in args.from(1).iter() {
        if length >= SHOWN_MAX {
            break;
        }
        let part = beginning(arg, SHOWN_MAX - length);
        length += part.len() + "'' ".len();
        text.extend([b"'", part, b"' "].concat());
    }
    Error::Bytes(text)
}

/// What redis-server would print of a word: up to its first NUL.
fn beginning(word: &[u8], max: usize) -> &[u8] {
    let word = &word[..word.len().min(max)];
    word.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The error for a container's unknown subcommand.
fn unknown_subcommand(args: Args<'_>) -> Error {
    let container = args.at(0).to_ascii_uppercase();
    Error::Bytes([b"ERR unknown subcommand '", beginning(args.at(1), SHOWN_MAX), b"'. Try ", &container, b" HELP."].concat())
}

/// The first word of an HTTP request's line or header that a browser can be made to send here: whatever follows must not be run.
pub fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

/// What the log says about it, and how often at most.
pub const HTTP_WARNING: &str = "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is \
    likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. Connection aborted.";
pub const HTTP_WARNING_PAUSE_MS: i64 = 60_000;

pub fn wrong_arity(command: &Registered) -> Error {
    Error::Owned(format!("ERR wrong number of arguments for '{}' command", command.spec.name))
}

/// The arguments fit the command. Not fitting fails an open transaction.
#[inline]
pub fn check_form(command: &'static Registered, args: Args<'_>) -> Result<(), Error> {
    if !command.subcommands.is_empty() && args.len() >= 2 {
        return Err(unknown_subcommand(args));
    }
    if !command.spec.arity_matches(args.len()) {
        return Err(wrong_arity(command));
    }
    Ok(())
}

/// Everything else.
pub fn check(connection: &Connection, command: &'static Registered, node: NodeSpecial) -> Verdict {
    let (flags, special) = (command.flags(), connection.special);
    if special.has(Special::LOADER) {
        return if connection.in_multi() && !flags.has(Flags::NO_QUEUE) { Verdict::Queue } else { Verdict::Run };
    }
    if special.has(Special::UNAUTHENTICATED) && !flags.has(Flags::NO_AUTH) {
        return Verdict::Refuse(Error::Text("NOAUTH Authentication required."));
    }
    if connection.in_multi() && flags.has(Flags::NO_MULTI) {
        return Verdict::Refuse(Error::Text("ERR Command not allowed inside a transaction"));
    }
    if let Some(disk_error) = node.disk_error
        && runs_any(connection, command, Flags::WRITE | Flags::HEALTH)
    {
        return Verdict::Refuse(disk_error.error());
    }
    if node.lacks_replicas && runs_any(connection, command, Flags::WRITE) {
        return Verdict::Refuse(Error::Text("NOREPLICAS Not enough good replicas to write."));
    }
    if node.read_only && runs_any(connection, command, Flags::WRITE) {
        return Verdict::Refuse(READ_ONLY);
    }
    if special.has(Special::SUBSCRIBED) && !allowed_while_subscribed(command) {
        let name = command.spec.name;
        return Verdict::Refuse(Error::Owned(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
        )));
    }
    if special.has(Special::MONITOR) && touches_keys(connection, command) {
        return Verdict::Refuse(Error::Text("ERR Replica can't interact with the keyspace"));
    }
    if node.stale && !runs_while(connection, command, Flags::STALE) {
        return Verdict::Refuse(Error::Text("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."));
    }
    if node.loading && !runs_while(connection, command, Flags::LOADING)
        || node.async_loading && runs_any(connection, command, Flags::NO_ASYNC_LOADING)
    {
        return Verdict::Refuse(Error::Text("LOADING Redis is loading the dataset in memory"));
    }
    if node.ending && touches_keys(connection, command) {
        return Verdict::Pause;
    }
    let runs_now = !connection.in_multi() || flags.has(Flags::NO_QUEUE);
    if let Some(writes_only) = node.paused {
        let may_write = runs_any(connection, command, Flags::WRITE | Flags::MAY_REPLICATE);
        let exempt = flags.has(Flags::NO_PAUSE) || special.has(Special::MONITOR);
        if !exempt && (!writes_only || may_write) {
            return Verdict::Pause;
        }
    }
    if !runs_now {
        return Verdict::Queue;
    }
    Verdict::Run
}

/// Whether the command, or a command that EXEC would run, has any of the flags.
pub fn runs_any(connection: &Connection, command: &'static Registered, flags: Flags) -> bool {
    let queued = |transaction: &Transaction| transaction.queue.iter().any(|(queued, _)| queued.flags().any(flags));
    let runs_queue = command.flags().has(Flags::RUNS_QUEUE);
    command.flags().any(flags) || (runs_queue && connection.transaction.as_deref().is_some_and(queued))
}

/// Whether the command, and all commands that EXEC would run, have the flag.
fn runs_while(connection: &Connection, command: &'static Registered, flag: Flags) -> bool {
    let all = |transaction: &Transaction| transaction.queue.iter().all(|(queued, _)| queued.flags().has(flag));
    let queue_runs = !command.flags().has(Flags::RUNS_QUEUE) || connection.transaction.as_deref().is_none_or(all);
    command.flags().has(flag) && queue_runs
}

/// Not for monitors, which Redis counts as replicas here.
fn touches_keys(connection: &Connection, command: &'static Registered) -> bool {
    runs_any(connection, command, Flags::WRITE | Flags::READONLY | Flags::MAY_REPLICATE)
}

fn allowed_while_subscribed(command: &'static Registered) -> bool {
    command.flags().any(Flags::SUBSCRIBED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::registry::Registry;
    use kvshard::command::ArgsBuf;
    use kvshard::keyspace::ClientId;

    fn verdict(connection: &Connection, words: &str, node: NodeSpecial) -> Verdict {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let args = ArgsBuf::from_slices(&words);
        let registry = Registry::new();
        check(connection, registry.find(args.args()).expect("exists"), node)
    }

    fn connection(special: u8) -> Connection {
        let mut connection = Connection::new(ClientId(1), 0, 1, String::new(), String::new(), false, 0);
        connection.special = Special(special);
        connection
    }

    fn refusal(verdict: Verdict) -> String {
        match verdict {
            Verdict::Refuse(error) => error.text().into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn strangers_may_only_introduce_themselves() {
        let stranger = connection(Special::UNAUTHENTICATED);
        for words in ["auth x", "hello 3", "reset", "quit"] {
            assert_eq!(verdict(&stranger, words, NodeSpecial::default()), Verdict::Run, "{words}");
        }
        for words in ["ping", "get x", "client id"] {
            assert_eq!(refusal(verdict(&stranger, words, NodeSpecial::default())), "NOAUTH Authentication required.");
        }
    }

    #[test]
    fn subscribers_and_monitors_are_restricted() {
        let subscriber = connection(Special::SUBSCRIBED);
        for words in ["subscribe x", "sunsubscribe", "punsubscribe", "ping", "quit", "reset"] {
            assert_eq!(verdict(&subscriber, words, NodeSpecial::default()), Verdict::Run, "{words}");
        }
        let text = refusal(verdict(&subscriber, "client id", NodeSpecial::default()));
        assert!(text.starts_with("ERR Can't execute 'client|id': only (P|S)SUBSCRIBE"), "{text}");
        let monitor = connection(Special::MONITOR);
        assert_eq!(refusal(verdict(&monitor, "get x", NodeSpecial::default())), "ERR Replica can't interact with the keyspace");
        assert_eq!(verdict(&monitor, "ping", NodeSpecial::default()), Verdict::Run);
    }

    #[test]
    fn a_pause_holds_what_may_write_even_before_it_is_queued() {
        let (writes, all) = (
            NodeSpecial { paused: Some(true), ..NodeSpecial::default() },
            NodeSpecial { paused: Some(false), ..NodeSpecial::default() },
        );
        let mut client = connection(0);
        assert_eq!(verdict(&client, "get x", writes), Verdict::Run);
        for words in ["set x 1", "publish x 1"] {
            assert_eq!(verdict(&client, words, writes), Verdict::Pause);
        }
        assert_eq!(verdict(&client, "client unpause", all), Verdict::Pause);
        client.transaction = Some(Box::new(Transaction { open: true, ..Transaction::default() }));
        assert_eq!(verdict(&client, "get x", writes), Verdict::Queue);
        assert_eq!(verdict(&client, "set x 1", writes), Verdict::Pause);
        assert_eq!(verdict(&client, "exec", writes), Verdict::Run);
    }

    #[test]
    fn while_the_last_save_is_written_nobody_comes_near_the_data() {
        let ending = NodeSpecial { ending: true, ..NodeSpecial::default() };
        let mut client = connection(0);
        for words in ["get x", "set x 1", "publish x 1", "flushall", "dbsize"] {
            assert_eq!(verdict(&client, words, ending), Verdict::Pause, "{words}");
        }
        for words in ["ping", "info", "shutdown abort", "client id"] {
            assert_eq!(verdict(&client, words, ending), Verdict::Run, "{words}");
        }
        client.transaction = Some(Box::new(Transaction { open: true, ..Transaction::default() }));
        assert_eq!(verdict(&client, "set x 1", ending), Verdict::Pause);
    }

    #[test]
    fn unknown_commands_are_repeated_up_to_128_bytes() {
        let text = |args: &[&[u8]]| unknown_command(ArgsBuf::from_slices(args).args()).text().into_owned();
        assert_eq!(text(&[b"foo"]), "ERR unknown command 'foo', with args beginning with: ");
        assert_eq!(text(&[b"foo", b"a", b"", b"b\0c"]), "ERR unknown command 'foo', with args beginning with: 'a' '' 'b' ");
        let (long, cut) = ([b'x'; 200], "x".repeat(128));
        assert_eq!(text(&[&long, &long, b"y"]), format!("ERR unknown command '{cut}', with args beginning with: '{cut}' "));
        let shown = format!("'{}' '{}' ", "x".repeat(100), "x".repeat(25));
        assert_eq!(
            text(&[b"f", &long[..100], &long, b"y"]),
            format!("ERR unknown command 'f', with args beginning with: {shown}")
        );
    }

    #[test]
    fn http_is_known_by_its_first_words() {
        assert!(is_http(b"POST") && is_http(b"Host:") && !is_http(b"Host") && !is_http(b"GET"));
    }
}
