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
