//! CONFIG GET and CONFIG SET on a [`Config`].
//!
//! A change is all or nothing: it is tried out on a copy. The caller applies effects (rebinding a port, raising a limit)
//! and, where one fails, keeps its old configuration and answers with [`SetError::failed`].

use std::fmt;

use kvshard::glob;

use super::directive::{Directive, Refusal, RunTime};
use super::table::{Config, DIRECTIVES, HZ_MAX, HZ_MIN};

/// The circumstances of a CONFIG SET that decide what it may change.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetContext {
    /// The client comes over loopback or the Unix socket.
    pub local_client: bool,
    /// The data set is being loaded.
    pub loading: bool,
}

/// Why CONFIG SET changed nothing; printed, it is the whole error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    Loading,
    Unknown { name: String },
    Failed { name: String, reason: Refusal },
}

impl SetError {
    /// The reply when a value was fine but could not be put into effect.
    pub fn failed(name: &str, reason: impl Into<Refusal>) -> SetError {
        SetError::Failed { name: one_line(name.as_bytes()), reason: reason.into() }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Loading => write!(f, "LOADING Redis is loading the dataset in memory"),
            SetError::Unknown { name } => {
                write!(f, "ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            SetError::Failed { name, reason } => {
                write!(f, "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
            }
        }
    }
}

impl std::error::Error for SetError {}

/// A client's bytes as a part of an error line.
fn one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
}

impl Config {
    /// What CONFIG GET answers: names (an exact name as it was asked for) and values, each once. A pattern is matched
    /// against names and aliases without regard to case and does not find hidden directives.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], directive: &Directive| {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name.to_vec(), directive.text(self)));
            }
        };
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
                if let Some(directive) = Directive::find(pattern) {
                    add(pattern, directive);
                }
                continue;
            }
            for directive in DIRECTIVES.iter().filter(|directive| !directive.spec.hidden) {
                for name in directive.names().filter(|name| glob::matches(pattern, name.as_bytes(), true)) {
                    add(name.as_bytes(), directive);
                }
            }
        }
        found
    }

    /// CONFIG SET: changes all of `pairs` (name, value) or nothing, and says which directives have a new value.
    pub fn set(&mut self, pairs: &[(&[u8], &[u8])], context: SetContext) -> Result<Vec<&'static Directive>, SetError> {
        let chosen = self.settable(pairs, context)?;
        let mut next = self.clone();
        for ((directive, spelling), (_, value)) in chosen.iter().zip(pairs) {
            let words = words_of_set(directive, value);
            directive.assign(&mut next, &words).map_err(|reason| SetError::failed(spelling, reason))?;
        }
        next.settle();
        let changed = chosen.iter().map(|(directive, _)| *directive);
        let changed = changed.filter(|directive| directive.text(self) != directive.text(&next)).collect();
        *self = next;
        Ok(changed)
    }

    /// Whether a value given for `name` must be kept out of logs, the slow log and MONITOR.
    pub fn is_sensitive(name: &[u8]) -> bool {
        Directive::find(name).is_some_and(|directive| directive.spec.sensitive)
    }

    /// Brings values that Redis accepts but bends into their bounds.
    pub(super) fn settle(&mut self) {
        self.hz = self.hz.clamp(HZ_MIN, HZ_MAX);
    }

    /// The directives of `pairs`, each with the spelling that error texts show, or the first reason to change none.
    fn settable(
        &self,
        pairs: &[(&[u8], &[u8])],
        context: SetContext,
    ) -> Result<Vec<(&'static Directive, &'static str)>, SetError> {
        let mut chosen: Vec<(&Directive, &str)> = Vec::with_capacity(pairs.len());
        for (name, _) in pairs {
            let directive = Directive::find(name).ok_or_else(|| SetError::Unknown { name: one_line(name) })?;
            let refuse = |reason: &'static str| SetError::Failed { name: one_line(name), reason: reason.into() };
            match directive.spec.run_time {
                RunTime::Immutable => return Err(refuse("can't set immutable config")),
                RunTime::Protected if !self.enable_protected_configs.allows(context.local_client) => {
                    return Err(refuse("can't set protected config"));
                }
                RunTime::Protected | RunTime::Modifiable => {}
            }
            if context.loading && directive.spec.refused_while_loading {
                return Err(SetError::Loading);
            }
            let spelling = directive.names().find(|own| own.as_bytes().eq_ignore_ascii_case(name));
            let spelling = spelling.unwrap_or(directive.name);
            // A name and its alias are two parameters to Redis: the later one wins.
            if chosen.iter().any(|(_, earlier)| *earlier == spelling) {
                return Err(refuse("duplicate parameter"));
            }
            chosen.push((directive, spelling));
        }
        Ok(chosen)
    }
}

/// CONFIG SET splits the value of a directive of several words at each single space and knows no quotes.
fn words_of_set(directive: &Directive, value: &[u8]) -> Vec<Vec<u8>> {
    if !directive.spec.several_words {
        return vec![value.to_vec()];
    }
    if value.is_empty() {
        return Vec::new();
    }
    value.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::structures::KeyspaceEvents;

    const LOCAL: SetContext = SetContext { local_client: true, loading: false };

    fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        let changed = config.set(&pairs, LOCAL).map_err(|error| error.to_string())?;
        Ok(changed.iter().map(|directive| directive.name).collect())
    }

    fn get(config: &Config, patterns: &[&str]) -> Vec<(String, String)> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        config.get(&patterns).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// Values, and what redis-server 7.0.15 then shows or the end of its error (asked of it on a live server).
    #[test]
    fn values_and_refusals_in_redis_words() {
        let table: &[(&str, &str, Result<&str, &str>)] = &[
            ("maxmemory", "kb", Ok("0")),
            ("maxmemory", "", Ok("0")),
            ("maxmemory", "1Gb", Ok("1073741824")),
            ("maxmemory", "2k", Ok("2000")),
            ("maxmemory", "99999999999999999999", Ok("18446744073709551615")),
            ("maxmemory", "1kbx", Err("argument must be a memory value")),
            ("maxmemory", "-1", Err("argument must be a memory value")),
            ("port", "70000", Err("argument must be between 0 and 65535 inclusive")),
            ("port", "abc", Err("argument couldn't be parsed into an integer")),
            ("timeout", "01", Err("argument couldn't be parsed into an integer")),
            ("maxclients", "0", Err("argument must be between 1 and 4294967295 inclusive")),
            ("proto-max-bulk-len", "1", Err("argument must be between 1048576 and 9223372036854775807 inclusive")),
            ("tracking-table-max-keys", "-1", Err("argument must be between 0 and 9223372036854775807 inclusive")),
            ("slowlog-log-slower-than", "-2", Err("argument must be between -1 and 9223372036854775807 inclusive")),
            ("list-max-listpack-size", "99999999999", Err("argument must be between -2147483648 and 2147483647 inclusive")),
            ("hash-max-listpack-value", "1k", Ok("1000")),
            ("maxmemory-clients", "100%", Ok("100%")),
            ("maxmemory-clients", "0%", Ok("0")),
            ("maxmemory-clients", "1mb", Ok("1048576")),
            ("maxmemory-clients", "101%", Err("percentage argument must be less or equal to 100")),
            ("maxmemory-clients", "-5", Err("argument must be a memory or percent value")),
            ("appendonly", "maybe", Err("argument must be 'yes' or 'no'")),
            ("loglevel", "nothing", Err("argument(s) must be one of the following: debug, verbose, notice, warning")),
            ("oom-score-adj", "relative", Ok("yes")),
            ("shutdown-on-sigterm", "force nosave", Ok("nosave force")),
            ("shutdown-on-sigterm", "nosave save", Err("shutdown options SAVE and NOSAVE can't be used simultaneously")),
            ("shutdown-on-sigterm", "x", Err("one of the following: default, save, nosave, now, force")),
            ("notify-keyspace-events", "KEA", Ok("AKE")),
            ("notify-keyspace-events", "nmKg", Ok("gnKm")),
            ("notify-keyspace-events", "Q", Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")),
            ("save", "", Ok("")),
            ("save", "900 1 60 2", Ok("900 1 60 2")),
            ("save", "60 1  30 2", Err("Invalid save parameters")),
            ("save", "60", Err("Invalid save parameters")),
            ("bind", "127.0.0.1 -::1", Ok("127.0.0.1 -::1")),
            ("bind", "", Ok("")),
            ("client-output-buffer-limit", "replica 1k 2kb 3", Ok("normal 0 0 0 slave 1000 2048 3 pubsub 33554432 8388608 60")),
            ("client-output-buffer-limit", "foo", Err("Wrong number of arguments in buffer limit configuration.")),
            ("client-output-buffer-limit", "master 1 2 3", Err("Invalid client class specified in buffer limit configuration.")),
            (
                "client-output-buffer-limit",
                "normal 1 2 x",
                Err("Error in hard, soft or soft_seconds setting in buffer limit configuration."),
            ),
            ("oom-score-adj-values", "1", Err("wrong number of arguments")),
            ("oom-score-adj-values", "1 2 3000", Err("elements must be between -2000 and 2000.")),
            ("latency-tracking-info-percentiles", "50 99.95", Ok("50 99.95")),
            ("latency-tracking-info-percentiles", "a", Err("Invalid latency-tracking-info-percentiles parameters")),
            ("latency-tracking-info-percentiles", "101", Err("parameters should sit between [0.0,100.0]")),
            ("cluster-announce-hostname", "a_b", Err("may only contain alphanumeric characters, hyphens or dots")),
            ("proc-title-template", "{x}", Err("template format is invalid or contains unknown variables")),
            ("hz", "10000", Ok("500")),
            ("activedefrag", "yes", Err("shipped by default with the Redis source distribution")),
        ];
        for (name, value, expected) in table {
            let mut config = Config::default();
            let outcome = set(&mut config, &[(name, value)]);
            match expected {
                Ok(shown) => {
                    assert!(outcome.is_ok(), "{name} {value}: {outcome:?}");
                    assert_eq!(get(&config, &[name])[0].1, *shown, "{name} {value}");
                }
                Err(end) => {
                    let error = outcome.expect_err(value);
                    let start = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - ");
                    assert!(error.starts_with(&start) && error.ends_with(end), "{name} {value}: {error}");
                    assert_eq!(config, Config::default(), "nothing changed");
                }
            }
        }
    }

    #[test]
    fn what_may_not_be_set() {
        let mut config = Config::default();
        let mut refused = |pairs: &[(&str, &str)]| set(&mut config, pairs).expect_err("refused");
        let failed =
            |name: &str, reason: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
        assert_eq!(refused(&[("no\nsuch", "1")]), "ERR Unknown option or number of arguments for CONFIG SET - 'no such'");
        assert_eq!(refused(&[("DaemoniZe", "yes"), ("nosuch", "2")]), failed("DaemoniZe", "can't set immutable config"));
        assert_eq!(refused(&[("maxmemory", "1"), ("maxmemory", "2")]), failed("maxmemory", "duplicate parameter"));
        assert_eq!(refused(&[("dir", "/")]), failed("dir", "can't set protected config"));
        let loading = SetContext { loading: true, ..LOCAL };
        let error = config.set(&[(b"appendonly", b"yes")], loading).expect_err("loading");
        assert_eq!(error.to_string(), "LOADING Redis is loading the dataset in memory");
    }

    #[test]
    fn a_change_is_all_or_nothing_and_names_what_changed() {
        let mut config = Config::default();
        assert!(set(&mut config, &[("maxmemory", "1mb"), ("timeout", "x")]).is_err());
        assert_eq!(config, Config::default());
        assert_eq!(set(&mut config, &[("slave-priority", "1"), ("replica-priority", "2"), ("timeout", "0")]).unwrap().len(), 2);
        assert_eq!(config.replica_priority, 2);
        set(&mut config, &[("notify-keyspace-events", "Kx")]).unwrap();
        assert!(config.notify_keyspace_events.any(KeyspaceEvents::EXPIRED));
    }

    #[test]
    fn protected_directives_follow_their_switch() {
        let mut config = Config { enable_protected_configs: crate::config::values::ProtectedAction::Local, ..Config::default() };
        assert!(config.set(&[(b"dbfilename", b"x.rdb")], SetContext::default()).is_err());
        assert!(config.set(&[(b"dbfilename", b"x.rdb")], LOCAL).is_ok());
        assert!(config.set(&[(b"dir", b"/proc")], LOCAL).is_ok());
        assert_eq!(config.dir.0.to_str(), Some("/proc"));
        let error = config.set(&[(b"dir", b"/proc/version")], LOCAL).expect_err("a file").to_string();
        assert!(error.ends_with("'dir') - Not a directory"), "{error}");
    }

    #[test]
    fn patterns_find_names_and_aliases_once() {
        let config = Config::default();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(get(&config, &["MAXMEMORY", "maxmemory"]), [pair("MAXMEMORY", "0")]);
        let both = [pair("slave-priority", "100"), pair("replica-priority", "100")];
        assert_eq!(get(&config, &["slave-priority", "slave-pri*", "replica-priorit?"]), both);
        assert_eq!(get(&config, &["use-exit*", "nosuch"]), []);
        assert_eq!(get(&config, &["use-exit-on-panic"]), [pair("use-exit-on-panic", "no")]);
    }

    /// Starts a real redis-server with nothing but a port and compares every directive it shows.
    #[test]
    fn defaults_are_those_of_redis_server() {
        use std::process::{Command, Stdio};
        const PORT: &str = "18121";
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut server = Command::new("redis-server")
            .args(["--port", PORT])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let ask = || {
            let output = Command::new("redis-cli").args(["-p", PORT, "config", "get", "*"]).output();
            String::from_utf8(output.expect("redis-cli is installed").stdout).expect("text")
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut theirs = ask();
        while !theirs.contains("maxmemory") && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(50));
            theirs = ask();
        }
        server.kill().expect("our own child");
        server.wait().expect("our own child");

        let lines: Vec<&str> = theirs.lines().collect();
        let mut theirs: Vec<(&str, &str)> = lines.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let config = Config::default();
        let own = |name: &str| Directive::find(name.as_bytes()).is_some_and(|directive| directive.spec.own);
        let mut ours = get(&config, &["*"]);
        ours.retain(|(name, _)| !own(name));
        let mut ours: Vec<(&str, &str)> = ours.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        for (name, value) in &mut theirs {
            match *name {
                "port" => *value = "6379",
                "dir" => *value = config.dir.0.to_str().expect("text"),
                _ => {}
            }
        }
        assert_eq!(ours, theirs);
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_answered(pairs: Vec<(Vec<u8>, Vec<u8>)>, index in 0..DIRECTIVES.len(), value: Vec<u8>) {
            let mut config = Config::default();
            let mut requests: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (&n[..], &v[..])).collect();
            let _ = config.get(&requests.iter().map(|(name, _)| *name).collect::<Vec<_>>());
            let _ = config.set(&requests, LOCAL);
            requests = vec![(DIRECTIVES[index].name.as_bytes(), &value)];
            let _ = config.set(&requests, LOCAL);
        }
    }
}
