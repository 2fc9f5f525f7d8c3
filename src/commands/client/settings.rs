//! What a client sets for its own connection: name, library, replies, protection from eviction.

use super::{ADMIN, OWN, SPEC};
use crate::commands::{Action, Call, NodeCommand};
use crate::core::connection::ReplyMode;
use kvshard::command::{Arg, ArgKind, Command};
use kvshard::{Args, Error, Reply, Spec};

const ON_OFF: &[Arg] = &[Arg::new("on", ArgKind::PureToken).token("ON"), Arg::new("off", ArgKind::PureToken).token("OFF")];

/// Whether CLIENT LIST can show the text as a field.
fn is_word(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// A connection's name; an empty one is none.
pub fn name_from(text: &[u8]) -> Result<Option<Box<[u8]>>, Error> {
    if !is_word(text) {
        return Err(Error::Text("ERR Client names cannot contain spaces, newlines or special characters."));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

fn on_or_off(args: Args<'_>) -> Result<bool, Error> {
    if args.is(2, "on") {
        Ok(true)
    } else if args.is(2, "off") {
        Ok(false)
    } else {
        Err(Error::Syntax)
    }
}

pub static GETNAME: NodeCommand = Command {
    spec: Spec { name: "client|getname", since: "2.6.9", summary: "This connection's name.", arity: 2, flags: OWN, ..SPEC },
    run: getname,
};

fn getname(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    match &c.client().name {
        Some(name) => r.bulk(name),
        None => r.null(),
    }
    Ok(Action::Done)
}

pub static SETNAME: NodeCommand = Command {
    spec: Spec {
        name: "client|setname",
        since: "2.6.9",
        summary: "Names this connection.",
        arity: 3,
        flags: OWN,
        args: &[Arg::new("connection-name", ArgKind::String)],
        ..SPEC
    },
    run: setname,
};

fn setname(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    c.client().name = name_from(c.args.at(2))?;
    r.ok();
    Ok(Action::Done)
}

pub static SETINFO: NodeCommand = Command {
    spec: Spec {
        name: "client|setinfo",
        since: "7.2.0",
        summary: "Says which library the client uses.",
        arity: 4,
        flags: OWN,
        args: &[Arg::new(
            "attr",
            ArgKind::OneOf(&[
                Arg::new("libname", ArgKind::String).token("LIB-NAME"),
                Arg::new("libver", ArgKind::String).token("LIB-VER"),
            ]),
        )],
        ..SPEC
    },
    run: setinfo,
};

fn setinfo(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let (attribute, value) = (c.args.at(2), c.args.at(3));
    let is_name = c.args.is(2, "lib-name");
    if !is_name && !c.args.is(2, "lib-ver") {
        return Err(Error::Owned(format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(attribute))));
    }
    if !is_word(value) {
        let attribute = String::from_utf8_lossy(attribute);
        return Err(Error::Owned(format!("ERR {attribute} cannot contain spaces, newlines or special characters.")));
    }
    let library = c.client().library.get_or_insert_default();
    *if is_name { &mut library.name } else { &mut library.version } = value.into();
    r.ok();
    Ok(Action::Done)
}

pub static REPLY: NodeCommand = Command {
    spec: Spec {
        name: "client|reply",
        since: "3.2.0",
        summary: "Chooses whether this connection gets replies.",
        arity: 3,
        flags: OWN,
        args: &[Arg::new(
            "on_off_skip",
            ArgKind::OneOf(&[
                Arg::new("on", ArgKind::PureToken).token("ON"),
                Arg::new("off", ArgKind::PureToken).token("OFF"),
                Arg::new("skip", ArgKind::PureToken).token("SKIP"),
            ]),
        )],
        ..SPEC
    },
    run: reply,
};

fn reply(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let mode = if c.args.is(2, "on") {
        r.ok();
        ReplyMode::On
    } else if c.args.is(2, "off") {
        ReplyMode::Off
    } else if !c.args.is(2, "skip") {
        return Err(Error::Syntax);
    } else if c.client().reply_mode == ReplyMode::Off {
        return Ok(Action::Done);
    } else if c.in_exec {
        ReplyMode::SkipNext
    } else {
        ReplyMode::Skip
    };
    c.client().set_reply_mode(mode);
    Ok(Action::Done)
}

pub static NO_EVICT: NodeCommand = Command {
    spec: Spec {
        name: "client|no-evict",
        since: "7.0.0",
        summary: "Keeps this connection open when clients use too much memory.",
        arity: 3,
        flags: ADMIN,
        args: &[Arg::new("enabled", ArgKind::OneOf(ON_OFF))],
        ..SPEC
    },
    run: no_evict,
};

fn no_evict(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    c.client().no_evict = on_or_off(c.args)?;
    r.ok();
    Ok(Action::Done)
}

pub static NO_TOUCH: NodeCommand = Command {
    spec: Spec {
        name: "client|no-touch",
        since: "7.2.0",
        summary: "Keeps this connection's commands from counting as use of keys.",
        arity: 3,
        flags: OWN,
        args: &[Arg::new("enabled", ArgKind::OneOf(ON_OFF))],
        ..SPEC
    },
    run: no_touch,
};

fn no_touch(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    c.client().no_touch = on_or_off(c.args)?;
    r.ok();
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_printable_words() {
        assert_eq!(name_from(b"a-b~").expect("valid"), Some(b"a-b~".as_slice().into()));
        assert_eq!(name_from(b"").expect("valid"), None);
        for refused in [&b"a b"[..], b"a\n", b"\x7f", b"\xc3\xa9"] {
            assert!(name_from(refused).is_err(), "{refused:?}");
        }
    }
}
