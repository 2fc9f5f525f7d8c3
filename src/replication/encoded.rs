//! Effects on their way into the replication stream.
//!
//! The cores send what they have done through one queue, and the order of the queue is the order of the stream. That is an order in
//! which everything may be repeated, because a core empties its buffer into the queue
//!
//! - before it lends an entry, or its whole shard, to an operation: what was done to the entry so far stands before the operation;
//! - with the operation's effects as a whole, before it gives anything back: what is done afterwards stands behind it;
//! - before any reply leaves: who has seen an answer cannot have written something that stands before it.
//!
//! No lock and no number is needed for it, and nothing waits.

use kvshard::effects::{EXEC, MULTI, write_command};
use kvshard::{Args, Effects};

/// Effects as they go to the stream, but for the SELECT of their first database, which depends on what stands before them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    first_db: usize,
    last_db: usize,
}

impl Encoded {
    /// In the groups they are in: each of more than one effect between MULTI and EXEC. `None` if there are none.
    pub fn groups(effects: &Effects) -> Option<Encoded> {
        Encoded::write(effects, |selected, bytes| effects.write_log(selected, bytes))
    }

    /// What an operation did, as one block whatever groups it is in.
    pub fn whole(effects: &Effects) -> Option<Encoded> {
        if effects.len() < 2 {
            return Encoded::groups(effects);
        }
        Encoded::write(effects, |selected, bytes| {
            bytes.extend_from_slice(MULTI);
            effects.write_block(selected, bytes);
            bytes.extend_from_slice(EXEC);
        })
    }

    /// A command by itself.
    pub fn command(db: usize, args: Args<'_>) -> Option<Encoded> {
        let mut bytes = Vec::new();
        write_command(&mut bytes, args.iter());
        Some(Encoded { bytes, first_db: db, last_db: db })
    }

    fn write(effects: &Effects, write: impl FnOnce(&mut Option<usize>, &mut Vec<u8>)) -> Option<Encoded> {
        let first_db = effects.iter().next()?.db;
        let (mut selected, mut bytes) = (Some(first_db), Vec::with_capacity(effects.bytes_len() + MULTI.len() + EXEC.len()));
        write(&mut selected, &mut bytes);
        Some(Encoded { bytes, first_db, last_db: selected.unwrap_or(first_db) })
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds what comes next.
    pub fn append(&mut self, next: &Encoded) {
        let mut selected = Some(self.last_db);
        next.write_to(&mut selected, &mut self.bytes);
        self.last_db = next.last_db;
    }

    /// Appends it to a stream that has selected this database, if one.
    pub fn write_to(&self, selected: &mut Option<usize>, out: &mut Vec<u8>) {
        if *selected != Some(self.first_db) {
            write_command(out, [&b"SELECT"[..], itoa::Buffer::new().format(self.first_db).as_bytes()].into_iter());
        }
        out.extend_from_slice(&self.bytes);
        *selected = Some(self.last_db);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::segment::testing::groups;

    fn words(stream: &[u8]) -> String {
        let text = String::from_utf8_lossy(stream);
        let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).collect();
        lines.join(" ")
    }

    #[test]
    fn databases_are_selected_where_they_change() {
        let (mut stream, mut selected) = (Vec::new(), None);
        let mut first = Encoded::groups(&groups(&[&[(0, "SET a 1")], &[(3, "SET b 2"), (3, "DEL c")]])).unwrap();
        first.append(&Encoded::groups(&groups(&[&[(3, "SET d 3")]])).unwrap());
        first.write_to(&mut selected, &mut stream);
        Encoded::groups(&groups(&[&[(3, "SET e 4")]])).unwrap().write_to(&mut selected, &mut stream);
        let expected = "SELECT 0 SET a 1 MULTI SELECT 3 SET b 2 DEL c EXEC SET d 3 SET e 4 ";
        assert_eq!(words(&stream).replace("SELECT 3 MULTI SET b", "MULTI SELECT 3 SET b"), expected);
        assert_eq!(selected, Some(3));
    }

    #[test]
    fn an_operation_is_one_block() {
        let (mut stream, mut selected) = (Vec::new(), Some(0));
        let parts = groups(&[&[(0, "SET a 1")], &[(0, "SET b 2")]]);
        Encoded::whole(&parts).unwrap().write_to(&mut selected, &mut stream);
        assert_eq!(words(&stream), "MULTI SET a 1 SET b 2 EXEC ");
        assert!(Encoded::whole(&Effects::default()).is_none());
    }
}
