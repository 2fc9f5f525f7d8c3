//! A whole data set on its way from the primary: `$<bytes>` and the RDB, or `$EOF:<mark>`, the RDB and the mark.

use super::handshake::LINE_BYTES_MAX;
use super::{HistoryChange, Link, LoadTo, Output, State, notice, warning};
use crate::replication::history::{ID_DIGITS, Offset, ReplId, Standing};

#[derive(Debug)]
pub(super) struct Transfer {
    /// What the node will have when it is through, if the primary has said so.
    goal: Option<(ReplId, Offset)>,
    end: End,
    to: LoadTo,
    /// Bytes that have come, of the mark too.
    pub read: u64,
    /// The connection ended after all of it had come.
    pub is_cut_off: bool,
}

#[derive(Debug)]
enum End {
    /// Not known before the first line.
    Unknown,
    After(u64),
    Mark([u8; ID_DIGITS]),
}

impl Transfer {
    pub fn new(goal: Option<(ReplId, Offset)>) -> Transfer {
        Transfer { goal, end: End::Unknown, to: LoadTo::Disk, read: 0, is_cut_off: false }
    }

    /// Whether its first line has come.
    pub fn has_begun(&self) -> bool {
        !matches!(self.end, End::Unknown)
    }

    /// Whether it is loaded while it comes.
    pub fn is_loading(&self) -> bool {
        self.has_begun() && self.to != LoadTo::Disk
    }

    /// `master_sync_total_bytes`.
    pub fn total(&self) -> i64 {
        match self.end {
            End::Unknown => -1,
            End::After(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
            End::Mark(_) => 0,
        }
    }

    /// The line for the log when the connection ends.
    pub fn broken_line(&self, reason: &str) -> String {
        match self.has_begun() {
            false => format!("I/O error reading bulk count from MASTER: {reason}"),
            true if self.is_loading() => format!("Failed trying to load the MASTER synchronization DB from socket: {reason}"),
            true => format!("I/O error trying to sync with MASTER: {reason}"),
        }
    }
}

impl Link {
    /// The line that says how the data set ends. False: there is nothing to be done until more comes.
    pub(super) fn header_line(&mut self, now: i64, out: &mut Vec<Output>) -> bool {
        let State::Transfer(transfer) = &mut self.state else { return false };
        let line = match self.stream.line(LINE_BYTES_MAX) {
            Ok(Some(line)) => line,
            Ok(None) => return false,
            Err(_) => b"a line without end".to_vec(),
        };
        let text = String::from_utf8_lossy(&line).into_owned();
        if text.is_empty() {
            // The primary is there.
            return true;
        }
        let to = self.config.load_to;
        let place = if to == LoadTo::Disk { "to disk" } else { "to parser" };
        let mark = line.strip_prefix(b"$EOF:").and_then(|mark| mark.first_chunk::<ID_DIGITS>());
        let length = text.strip_prefix('$').and_then(|digits| digits.parse::<i64>().ok());
        match (mark, length.and_then(|length| u64::try_from(length).ok())) {
            (Some(mark), _) => {
                transfer.end = End::Mark(*mark);
                notice(out, &format!("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {place}"));
            }
            (None, Some(length)) => {
                transfer.end = End::After(length);
                notice(out, &format!("MASTER <-> REPLICA sync: receiving {length} bytes from master {place}"));
            }
            (None, None) => {
                warning(
                    out,
                    match text.strip_prefix('-') {
                        Some(error) => format!("MASTER aborted replication with an error: {error}"),
                        None => format!(
                            "Bad protocol from MASTER, the first byte is not '$' (we received '{text}'), \
                         are you sure the host and port are right?"
                        ),
                    },
                );
                self.retry(now, out);
                return false;
            }
        }
        transfer.to = to;
        let bytes = if let End::After(length) = transfer.end { Some(length) } else { None };
        let is_same_history = self.standing.is_some_and(|standing| transfer.goal.is_some_and(|(id, _)| standing.id == id));
        if to == LoadTo::Memory {
            self.replace_data(out);
        } else if to == LoadTo::Beside {
            notice(out, "MASTER <-> REPLICA sync: Loading DB in memory");
        }
        out.push(Output::LoadBegins { bytes, to, is_same_history });
        true
    }

    /// What the node has goes: nobody continues from it, not even this link.
    fn replace_data(&mut self, out: &mut Vec<Output>) {
        self.discard_standing(out);
        out.push(Output::History(HistoryChange::Drop));
        notice(out, "MASTER <-> REPLICA sync: Flushing old data");
        notice(out, "MASTER <-> REPLICA sync: Loading DB in memory");
    }

    pub(super) fn transfer_bytes(&mut self, now: i64, out: &mut Vec<Output>) {
        let State::Transfer(transfer) = &mut self.state else { return };
        let (bytes, is_whole) = match &transfer.end {
            End::Unknown => return,
            End::After(length) => {
                let left = length - transfer.read;
                let bytes = self.stream.take(usize::try_from(left).unwrap_or(usize::MAX));
                transfer.read += bytes.len() as u64;
                (bytes, transfer.read == *length)
            }
            // Nothing follows the mark before this node has said that it has it: so it is what has come last. What could be a part of
            // it is kept back.
            End::Mark(mark) => {
                let waiting = self.stream.waiting();
                let is_whole = waiting.ends_with(mark);
                let bytes = self.stream.take(waiting.len().saturating_sub(ID_DIGITS));
                transfer.read += bytes.len() as u64;
                if is_whole {
                    transfer.read += self.stream.take(ID_DIGITS).len() as u64;
                }
                (bytes, is_whole)
            }
        };
        if !bytes.is_empty() {
            out.push(Output::LoadBytes(bytes));
        }
        if is_whole {
            let to = transfer.to;
            if let State::Transfer(transfer) = std::mem::replace(&mut self.state, State::Connect) {
                self.state = State::Loading(transfer);
            }
            if to == LoadTo::Disk {
                self.replace_data(out);
            }
            self.last_io_ms = now;
            out.push(Output::LoadEnds);
        }
    }

    pub(super) fn load_finished(&mut self, now: i64, db: Option<u32>, out: &mut Vec<Output>) {
        let State::Loading(transfer) = &self.state else { return };
        let (goal, is_cut_off, to) = (transfer.goal, transfer.is_cut_off, transfer.to);
        let with_mark = matches!(transfer.end, End::Mark(_));
        if to == LoadTo::Beside {
            self.discard_standing(out);
            out.push(Output::History(HistoryChange::Drop));
            notice(out, "MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
            notice(out, "MASTER <-> REPLICA sync: Discarding old DB in background");
        }
        match goal {
            Some((id, offset)) => {
                self.standing = Some(Standing { id, offset, db: db.unwrap_or_default() });
                self.applied = offset;
                out.push(Output::History(HistoryChange::Adopt { id, offset }));
            }
            None => {
                // Where the stream begins is anybody's guess: it can be followed, and not continued.
                self.standing = Some(Standing { id: ReplId::NONE, offset: Offset(0), db: db.unwrap_or_default() });
                self.applied = Offset(0);
                out.push(Output::History(HistoryChange::AdoptUnnamed));
            }
        }
        notice(out, "MASTER <-> REPLICA sync: Finished with success");
        self.last_io_ms = now;
        self.stream_begins(out);
        if with_mark && !is_cut_off {
            self.ack(out);
        }
        if is_cut_off {
            self.lost(now, out);
        }
    }

    pub(super) fn load_failed(&mut self, now: i64, reason: &str, out: &mut Vec<Output>) {
        let to = match &self.state {
            State::Loading(transfer) => transfer.to,
            State::Transfer(transfer) if transfer.has_begun() => transfer.to,
            _ => return,
        };
        let from = if to == LoadTo::Disk { "from disk" } else { "from socket" };
        warning(out, format!("Failed trying to load the MASTER synchronization DB {from}: {reason}"));
        if to == LoadTo::Beside {
            notice(out, "MASTER <-> REPLICA sync: Discarding temporary DB in background");
        }
        self.retry(now, out);
    }
}
