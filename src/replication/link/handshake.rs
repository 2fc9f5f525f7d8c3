//! What is said before anything is replicated: PING, AUTH, REPLCONF, PSYNC.

use super::transfer::Transfer;
use super::{HistoryChange, Link, Output, State, notice, warning};
use crate::replication::history::{Offset, ReplId};
use kvshard::effects::write_command;

/// Longest line of the primary's before the stream begins.
pub(super) const LINE_BYTES_MAX: usize = 1024;

/// Whose answer is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Ping,
    Auth,
    Port,
    Ip,
    Capa,
    Psync,
}

impl Step {
    /// The line for the log when the connection ends instead.
    pub fn no_response(self) -> &'static str {
        match self {
            Step::Psync => "Master did not reply to PSYNC, will try later",
            _ => "Master did not respond to command during SYNC handshake",
        }
    }
}

/// A command as it is sent.
pub(super) fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_command(&mut bytes, args.iter().copied());
    bytes
}

impl Link {
    pub(super) fn connected(&mut self, now: i64, out: &mut Vec<Output>) {
        if !matches!(self.state, State::Connecting) {
            return;
        }
        notice(out, "Non blocking connect for SYNC fired the event.");
        self.last_io_ms = now;
        self.state = State::Handshake(Step::Ping);
        out.push(Output::Send(command(&[b"PING"])));
    }

    /// Takes the next line, if it is here. False: there is nothing to be done until more comes.
    pub(super) fn handshake_line(&mut self, now: i64, out: &mut Vec<Output>) -> bool {
        let State::Handshake(step) = self.state else { return false };
        let line = match self.stream.line(LINE_BYTES_MAX) {
            Ok(Some(line)) => line,
            Ok(None) => return false,
            Err(_) => {
                warning(out, step.no_response().to_owned());
                self.hang_up(out);
                return false;
            }
        };
        let text = String::from_utf8_lossy(&line).into_owned();
        let next = match step {
            Step::Ping => return self.pong(&text, out),
            Step::Auth if text.starts_with('-') => {
                warning(out, format!("Unable to AUTH to MASTER: {text}"));
                self.hang_up(out);
                return false;
            }
            Step::Auth => Step::Port,
            Step::Port if self.config.replica_announce_ip.is_some() => Step::Ip,
            Step::Port | Step::Ip => Step::Capa,
            Step::Capa => Step::Psync,
            Step::Psync => return self.psync_answer(now, &text, out),
        };
        let option = match step {
            Step::Port => "listening-port",
            Step::Ip => "ip-address",
            _ => "capa",
        };
        if text.starts_with('-') {
            notice(out, &format!("(Non critical) Master does not understand REPLCONF {option}: {text}"));
        }
        if next == Step::Psync {
            self.send_psync(out);
        }
        self.state = State::Handshake(next);
        true
    }

    /// PING is answered: who this node is goes out in one piece.
    fn pong(&mut self, text: &str, out: &mut Vec<Output>) -> bool {
        let fine = ["+", "-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
        if !fine.iter().any(|start| text.starts_with(start)) {
            warning(out, format!("Error reply to PING from master: '{text}'"));
            self.hang_up(out);
            return false;
        }
        notice(out, "Master replied to PING, replication can continue...");
        let config = &self.config;
        let mut bytes = match (&config.masteruser, &config.masterauth) {
            (Some(user), Some(password)) => command(&[b"AUTH", user, password]),
            (None, Some(password)) => command(&[b"AUTH", password]),
            (_, None) => Vec::new(),
        };
        self.state = State::Handshake(if config.masterauth.is_some() { Step::Auth } else { Step::Port });
        bytes.extend(command(&[b"REPLCONF", b"listening-port", config.port.to_string().as_bytes()]));
        if let Some(ip) = &config.replica_announce_ip {
            bytes.extend(command(&[b"REPLCONF", b"ip-address", ip.as_bytes()]));
        }
        bytes.extend(command(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]));
        out.push(Output::Send(bytes));
        true
    }

    fn send_psync(&mut self, out: &mut Vec<Output>) {
        let (id, offset) = match self.standing {
            Some(standing) => {
                let (id, offset) = (standing.id.to_string(), standing.offset.next_byte().to_string());
                notice(out, &format!("Trying a partial resynchronization (request {id}:{offset})."));
                (id, offset)
            }
            None => {
                notice(out, "Partial resynchronization not possible (no cached master)");
                ("?".to_owned(), "-1".to_owned())
            }
        };
        let mut args = vec![&b"PSYNC"[..], id.as_bytes(), offset.as_bytes()];
        if self.asks_failover {
            args.push(b"FAILOVER");
        }
        out.push(Output::Send(command(&args)));
    }

    fn psync_answer(&mut self, now: i64, text: &str, out: &mut Vec<Output>) -> bool {
        if text.is_empty() {
            // It is there, and not ready yet.
            return true;
        }
        let is_partial = text.starts_with("+CONTINUE") && self.standing.is_some();
        if self.asks_failover {
            let accepted = is_partial || text.starts_with("+FULLRESYNC");
            out.push(Output::FailoverAnswered(accepted));
            if !accepted {
                return false;
            }
        }
        if text.starts_with("+FULLRESYNC") {
            return self.full_resync(now, text, out);
        }
        if is_partial {
            self.resume(text.trim_start_matches("+CONTINUE").trim(), out);
            return false;
        }
        if text.starts_with("-NOMASTERLINK") || text.starts_with("-LOADING") {
            notice(out, &format!("Master is currently unable to PSYNC but should be in the future: {text}"));
            self.hang_up(out);
            return false;
        }
        if text.starts_with("-ERR") {
            notice(out, &format!("Master does not support PSYNC or is in error state (reply: {text})"));
        } else {
            warning(out, format!("Unexpected reply to PSYNC from master: {text}"));
        }
        notice(out, "Retrying with SYNC...");
        out.push(Output::Send(b"SYNC\r\n".to_vec()));
        self.is_old = true;
        self.state = State::Transfer(Transfer::new(None));
        true
    }

    fn full_resync(&mut self, now: i64, text: &str, out: &mut Vec<Output>) -> bool {
        let mut words = text.split(' ').skip(1);
        let id = words.next().and_then(|word| ReplId::parse(word.as_bytes()));
        let offset = words.next().and_then(|word| word.parse::<i64>().ok()).and_then(|offset| u64::try_from(offset).ok());
        let (Some(id), Some(offset)) = (id, offset) else {
            warning(out, "Master replied with wrong +FULLRESYNC syntax.".to_owned());
            self.hang_up(out);
            return false;
        };
        notice(out, &format!("Full resync from master: {id}:{offset}"));
        self.last_io_ms = now;
        self.state = State::Transfer(Transfer::new(Some((id, Offset(offset)))));
        true
    }

    fn resume(&mut self, id: &str, out: &mut Vec<Output>) {
        notice(out, "Successful partial resynchronization with master.");
        if let (Some(standing), Some(id)) = (&mut self.standing, ReplId::parse(id.as_bytes()))
            && standing.id != id
        {
            warning(out, format!("Master replication ID changed to {id}"));
            standing.id = id;
            out.push(Output::History(HistoryChange::ContinueAs(id)));
        }
        notice(out, "MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
        self.stream_begins(out);
    }

    /// From here on the stream comes.
    pub(super) fn stream_begins(&mut self, out: &mut Vec<Output>) {
        self.state = State::Connected;
        self.down_since_ms = None;
        out.push(Output::History(HistoryChange::LinkUp));
    }
}
