//! What a client says before it is a replica: REPLCONF about itself, then PSYNC or SYNC. Texts of errors as redis-server's.

/// What a replica has said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Where it listens, if it has said so: its port, and an address other than the connection's.
    pub port: u16,
    pub announced_ip: Option<String>,
    /// The address that the connection comes from.
    pub peer_ip: String,
    /// `capa eof`: it finds the end of a snapshot whose length is not known before.
    pub eof: bool,
    /// `capa psync2`: it knows `+CONTINUE <id>`.
    pub psync2: bool,
    /// It wants the snapshot and nothing behind it.
    pub rdb_only: bool,
    pub contents: Contents,
}

/// What is left out of a snapshot (`rdb-filter-only`). A snapshot that lacks something never goes to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub without_data: bool,
    pub without_functions: bool,
}

impl Contents {
    pub fn is_filtered(self) -> bool {
        self.without_data || self.without_functions
    }
}

/// Longest `ip-address`.
const ADDRESS_BYTES_MAX: usize = 255;

/// What an ordinary client's REPLCONF is answered with.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    /// Without the code: the text behind `-ERR `.
    Error(String),
    /// Nothing at all.
    Silence,
}

impl About {
    /// How the log names it.
    pub fn name(&self) -> String {
        match (self.ip(), self.port) {
            (ip, 0) => format!("{ip}:<unknown-replica-port>"),
            (ip, port) if ip.contains(':') => format!("[{ip}]:{port}"),
            (ip, port) => format!("{ip}:{port}"),
        }
    }

    pub fn ip(&self) -> &str {
        self.announced_ip.as_deref().unwrap_or(&self.peer_ip)
    }

    /// REPLCONF with its options, `args` without the command's name. What stands before a wrong one counts.
    pub fn replconf(&mut self, args: &[&[u8]]) -> Answer {
        if !args.len().is_multiple_of(2) {
            return Answer::Error("syntax error".to_owned());
        }
        for pair in args.chunks_exact(2) {
            let (option, value) = (pair[0].to_ascii_lowercase(), pair[1]);
            let error = match &option[..] {
                // Those are for replicas and for primaries: an ordinary client is neither.
                b"ack" | b"getack" => return Answer::Silence,
                b"listening-port" => match integer(value) {
                    Some(port) => {
                        self.port = u16::try_from(port).unwrap_or_default();
                        None
                    }
                    None => Some("value is not an integer or out of range".to_owned()),
                },
                b"ip-address" if value.len() > ADDRESS_BYTES_MAX => {
                    Some(format!("REPLCONF ip-address provided by replica instance is too long: {} bytes", value.len()))
                }
                b"ip-address" => {
                    self.announced_ip = Some(printable(value));
                    None
                }
                b"capa" => {
                    self.eof |= value.eq_ignore_ascii_case(b"eof");
                    self.psync2 |= value.eq_ignore_ascii_case(b"psync2");
                    None
                }
                b"rdb-only" => match integer(value) {
                    Some(only @ (0 | 1)) => {
                        self.rdb_only = only == 1;
                        None
                    }
                    Some(_) => Some("value is out of range, value must between 0 and 1".to_owned()),
                    None => Some("value is not an integer or out of range".to_owned()),
                },
                b"rdb-filter-only" => self.filter(value),
                _ => Some(format!("Unrecognized REPLCONF option: {}", printable(pair[0]))),
            };
            if let Some(error) = error {
                return Answer::Error(error);
            }
        }
        Answer::Ok
    }

    fn filter(&mut self, value: &[u8]) -> Option<String> {
        if value.contains(&b'"') || value.contains(&b'\'') {
            return Some("Missing rdb-filter-only values".to_owned());
        }
        self.contents = Contents { without_data: true, without_functions: true };
        for word in value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            if !word.eq_ignore_ascii_case(b"functions") {
                return Some(format!("Unsupported rdb-filter-only option: {}", printable(word)));
            }
            self.contents.without_functions = false;
        }
        None
    }
}

/// SYNC or PSYNC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Of old: it never acknowledges.
    Sync,
    Psync {
        id: Vec<u8>,
        offset: i64,
        failover: bool,
    },
}

impl Request {
    /// From the arguments of PSYNC, without the command's name; `None`: the offset is no number.
    pub fn psync(args: &[&[u8]]) -> Option<Request> {
        let [id, offset, rest @ ..] = args else { return None };
        let failover = rest.first().is_some_and(|word| word.eq_ignore_ascii_case(b"failover"));
        Some(Request::Psync { id: id.to_vec(), offset: integer(offset)?, failover })
    }
}

/// A decimal integer in its only form.
pub(in crate::replication) fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(number).as_bytes() == text).then_some(number)
}

/// What a peer said, as it may stand in a line of a reply or of the log.
pub(in crate::replication) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replconf(about: &mut About, text: &str) -> Answer {
        about.replconf(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn a_replica_says_what_it_is() {
        let mut about = About { peer_ip: "10.0.0.1".to_owned(), ..About::default() };
        assert_eq!(about.name(), "10.0.0.1:<unknown-replica-port>");
        for text in ["listening-port 7001", "capa eof CAPA psync2", "capa later", "rdb-only 1 rdb-only 0"] {
            assert_eq!(replconf(&mut about, text), Answer::Ok, "{text}");
        }
        assert!(about.eof && about.psync2 && !about.rdb_only && !about.contents.is_filtered());
        assert_eq!(about.name(), "10.0.0.1:7001");
        assert_eq!(replconf(&mut about, "ip-address ::5 rdb-filter-only functions"), Answer::Ok);
        assert_eq!(
            (about.name(), about.contents),
            ("[::5]:7001".to_owned(), Contents { without_data: true, without_functions: false })
        );
    }

    #[test]
    fn what_is_wrong_is_answered_as_redis_does() {
        let wrong = [
            ("listening-port", "syntax error"),
            ("listening-port x", "value is not an integer or out of range"),
            ("rdb-only 2", "value is out of range, value must between 0 and 1"),
            ("version 7.2", "Unrecognized REPLCONF option: version"),
            ("rdb-filter-only \"x", "Missing rdb-filter-only values"),
            ("rdb-filter-only keys", "Unsupported rdb-filter-only option: keys"),
        ];
        for (text, error) in wrong {
            assert_eq!(replconf(&mut About::default(), text), Answer::Error(error.to_owned()));
        }
        let long = format!("ip-address {}", "x".repeat(300));
        let error = "REPLCONF ip-address provided by replica instance is too long: 300 bytes".to_owned();
        assert_eq!(replconf(&mut About::default(), &long), Answer::Error(error));
        assert_eq!(replconf(&mut About::default(), "ack 5"), Answer::Silence);
        assert_eq!(replconf(&mut About::default(), "getack *"), Answer::Silence);
    }

    #[test]
    fn psync_has_an_id_and_an_offset() {
        let psync = |text: &str| Request::psync(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        let wanted = |offset, failover| Some(Request::Psync { id: b"?".to_vec(), offset, failover });
        assert_eq!(psync("? -1"), wanted(-1, false));
        assert_eq!(psync("? 5 FAILOVER"), wanted(5, true));
        for text in ["? x", "? 05", "? +5", "?", "? 99999999999999999999"] {
            assert_eq!(psync(text), None, "{text}");
        }
    }
}
