//! BITOP: strings combined bit by bit.

use super::ShardCommand;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::string::string_bytes;
use crate::keyspace::{Expiry, NewValue};
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::Object;

pub static BITOP: ShardCommand = Command {
    spec: Spec {
        name: "bitop",
        group: Group::Bitmap,
        since: "2.6.0",
        summary: "Combines strings bit by bit and stores the result.",
        complexity: "O(N) with N bytes in the longest string",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::BITMAP,
        keys: &[
            KeySpec::one(2, KeyAccess::OW.with(KeyAccess::UPDATE)),
            KeySpec::range(3, -1, 1, KeyAccess::RO.with(KeyAccess::ACCESS)),
        ],
        args: &[
            Arg::new("operation", ArgKind::String),
            Arg::new("destkey", ArgKind::Key(0)),
            Arg::new("key", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE),
        ],
        ..Spec::DEFAULT
    },
    run: bitop,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

fn bitop(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let words = [("and", Operation::And), ("or", Operation::Or), ("xor", Operation::Xor), ("not", Operation::Not)];
    let (_, operation) = words.into_iter().find(|(word, _)| a.is(1, word)).ok_or(Error::Syntax)?;
    if operation == Operation::Not && a.len() != 4 {
        return Err(Error::Text("ERR BITOP NOT must be called with a single source key."));
    }
    let mut result = Vec::new();
    let mut digits = itoa::Buffer::new();
    for (index, source) in a.from(3).iter().enumerate() {
        let bytes = match x.get(&x.key(source)) {
            None => &[],
            Some(value) => string_bytes(value, &mut digits)?,
        };
        if index == 0 {
            result.extend_from_slice(bytes);
        } else {
            combine(&mut result, bytes, operation);
        }
    }
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let (key, len) = (x.key(a.at(2)), result.len());
    if len > 0 {
        x.store(&key, NewValue::Object(Object::String(Box::new(result))), Expiry::Clear);
        x.changed(&key);
        x.event(NotifyFlags::STRING, "set", &key);
    } else if x.delete_even_expired(&key) {
        x.changed(&key);
        x.event(NotifyFlags::GENERIC, "del", &key);
    }
    r.integer(len as i64);
    Ok(())
}

/// The shorter one counts as filled up with zeros.
fn combine(result: &mut Vec<u8>, bytes: &[u8], operation: Operation) {
    if result.len() < bytes.len() {
        result.resize(bytes.len(), 0);
    }
    let (common, rest) = result.split_at_mut(bytes.len());
    let pairs = common.iter_mut().zip(bytes);
    match operation {
        Operation::And => {
            pairs.for_each(|(to, from)| *to &= from);
            rest.fill(0);
        }
        Operation::Or => pairs.for_each(|(to, from)| *to |= from),
        Operation::Xor => pairs.for_each(|(to, from)| *to ^= from),
        Operation::Not => unreachable!("NOT has one source"),
    }
}
