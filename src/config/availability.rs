//! What this version does not have yet, and what never has an effect here: said once, at start, instead of silently.
//!
//! The two lists below are the only place that knows about missing parts; a part that arrives loses its line. They judge
//! a loaded configuration and log nothing themselves.

use super::directive::Effect;
use super::load::Loaded;
use super::table::{Config, DIRECTIVES};

/// A missing part, and how a configuration asks for it.
struct Missing {
    part: &'static str,
    asked_for_by: fn(&Loaded) -> bool,
}

/// Missing parts that a node can run without, with a warning.
const WARNED: &[Missing] = &[
    Missing { part: "Sentinel inside a data node (sentinel lines)", asked_for_by: |l| !l.declared.sentinel.is_empty() },
    Missing { part: "Logging to syslog (syslog-enabled yes)", asked_for_by: |l| l.config.syslog_enabled },
];

/// Missing parts without which the node would not be what the operator asked for.
const REFUSED: &[Missing] = &[
    Missing { part: "Cluster mode (cluster-enabled yes)", asked_for_by: |l| l.config.cluster_enabled },
    Missing { part: "TLS (tls-port)", asked_for_by: |l| l.config.tls_port > 0 },
    Missing { part: "Loading modules (loadmodule)", asked_for_by: |l| !l.declared.modules.is_empty() },
];

/// The sentence to refuse the start with, if the configuration asks for something it cannot do without.
pub fn refusal(loaded: &Loaded) -> Option<String> {
    let missing = REFUSED.iter().find(|missing| (missing.asked_for_by)(loaded))?;
    Some(not_available(missing.part))
}

/// The sentence about a missing part.
pub fn not_available(part: &str) -> String {
    format!("{part} is not available in this version of kvcore.")
}

/// The lines to log, as warnings, when the node starts.
pub fn notices(loaded: &Loaded) -> Vec<String> {
    let missing = WARNED.iter().filter(|missing| (missing.asked_for_by)(loaded));
    let mut notices: Vec<String> = missing.map(|missing| not_available(missing.part)).collect();
    notices.extend(without_effect(loaded));
    notices
}

/// A line for each directive without effect that was given another value than its default. A default asks for nothing:
/// Redis's own sample file spells out many of them.
fn without_effect(loaded: &Loaded) -> impl Iterator<Item = String> {
    let defaults = Config::default();
    let set = DIRECTIVES.iter().filter(|directive| loaded.mentioned.contains(directive.name));
    let changed = set.filter(move |directive| directive.text(&loaded.config) != directive.text(&defaults));
    changed.filter_map(|directive| match directive.spec.effect {
        Effect::Honoured => None,
        Effect::Accepted(why) => Some(format!("'{}' is accepted but has no effect: {why}.", directive.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{Sources, load};

    fn read(text: &str) -> Loaded {
        load(&Sources { input: Some(text.as_bytes()), ..Sources::default() }).expect("a good file")
    }

    #[test]
    fn defaults_ask_for_nothing_that_is_missing() {
        let loaded = read("appendonly no\ntls-port 0\nmaxmemory 1gb\nactiverehashing yes\n");
        assert_eq!(refusal(&loaded), None);
        assert!(notices(&loaded).is_empty());
    }

    #[test]
    fn missing_parts_are_named() {
        let loaded = read("io-threads 4\nsentinel monitor m 127.0.0.1 1 1");
        let expected = [
            "Sentinel inside a data node (sentinel lines) is not available in this version of kvcore.",
            "'io-threads' is accepted but has no effect: the number of threads is set by cores.",
        ];
        assert_eq!(notices(&loaded), expected);
        for text in ["cluster-enabled yes", "tls-port 6380", "loadmodule x.so"] {
            assert!(refusal(&read(text)).is_some(), "{text}");
        }
    }
}
