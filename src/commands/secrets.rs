//! Which arguments are secret: neither the slow log nor monitors show them.

use super::registry::Registered;
use kvshard::Args;
use kvshard::command::ArgsBuf;

const SHOWN_INSTEAD: &[u8] = b"(redacted)";

/// The arguments as they may be shown, if any of them is secret.
pub fn redacted(command: &Registered, args: Args<'_>) -> Option<ArgsBuf> {
    let secret: Box<dyn Fn(usize) -> bool> = match command.spec.name {
        "auth" => Box::new(|at| at >= 1),
        "acl|setuser" | "acl|deluser" => Box::new(|at| at >= 2),
        "hello" => {
            let auth = (2..args.len()).find(|&at| args.is(at, "auth"))?;
            Box::new(move |at| at == auth + 1 || at == auth + 2)
        }
        "migrate" => {
            let (auth, secrets) = (6..args.len()).find_map(|at| {
                let secrets = if args.is(at, "auth") { Some(1) } else { args.is(at, "auth2").then_some(2) };
                secrets.map(|secrets| (at, secrets))
            })?;
            Box::new(move |at| at > auth && at <= auth + secrets)
        }
        "config|set" => Box::new(move |at| at >= 3 && at % 2 == 1 && is_sensitive(args.at(at - 1))),
        _ => return None,
    };
    let mut shown = ArgsBuf::default();
    args.iter().enumerate().for_each(|(at, arg)| shown.push(if secret(at) { SHOWN_INSTEAD } else { arg }));
    Some(shown)
}

fn is_sensitive(directive: &[u8]) -> bool {
    ["requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"]
        .iter()
        .any(|name| name.as_bytes().eq_ignore_ascii_case(directive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::registry::Registry;

    #[test]
    fn passwords_are_not_shown() {
        let registry = Registry::new();
        let shown = |words: &[&str]| {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            let args = ArgsBuf::from_slices(&words);
            let command = registry.find(args.args()).expect("exists");
            let shown = redacted(command, args.args()).unwrap_or(args);
            shown.args().iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&["auth", "a", "b"]), "auth (redacted) (redacted)");
        assert_eq!(shown(&["HELLO", "3", "setname", "x", "AUTH", "u", "p"]), "HELLO 3 setname x AUTH (redacted) (redacted)");
        assert_eq!(shown(&["hello", "3", "auth"]), "hello 3 auth");
        assert_eq!(shown(&["get", "auth"]), "get auth");
    }
}
