//! Effects as they go to the stream: encoded on the core that made them, so that merging only copies.

use kvshard::Effects;
use kvshard::effects::{EXEC, MULTI, write_command};

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

    fn write(effects: &Effects, write: impl FnOnce(&mut Option<usize>, &mut Vec<u8>)) -> Option<Encoded> {
        let first_db = effects.iter().next()?.db;
        let (mut selected, mut bytes) = (Some(first_db), Vec::with_capacity(effects.bytes_len() + MULTI.len() + EXEC.len()));
        write(&mut selected, &mut bytes);
        Some(Encoded { bytes, first_db, last_db: selected.unwrap_or(first_db) })
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn append(&mut self, next: &Encoded) {
        let mut selected = Some(self.last_db);
        next.write_to(&mut selected, &mut self.bytes);
        self.last_db = next.last_db;
    }

    pub(super) fn write_to(&self, selected: &mut Option<usize>, out: &mut Vec<u8>) {
        if *selected != Some(self.first_db) {
            write_command(out, [&b"SELECT"[..], itoa::Buffer::new().format(self.first_db).as_bytes()].into_iter());
        }
        out.extend_from_slice(&self.bytes);
        *selected = Some(self.last_db);
    }
}
