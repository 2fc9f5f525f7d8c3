//! Messages to subscribers and monitors on all cores.

use super::Engine;
use super::mesh::{Job, Request};
use crate::commands::registry::Registered;
use crate::core::Core;
use crate::core::connection::Stall;
use kvshard::command::ArgsBuf;
use kvshard::settings::NotifyFlags;
use kvshard::shard::Event;
use kvshard::{Args, Flags};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// Publishes the keyspace events of this core's shard.
    #[cold]
    pub(super) fn publish_events(&mut self) {
        let Some(shard) = &mut self.core.shard else { return };
        let events = shard.take_events();
        self.publish_all(events);
    }

    pub(super) fn publish_scratch_events(&mut self) {
        let events = self.core.scratch.take_events();
        if !events.is_empty() {
            self.publish_all(events);
        }
    }

    pub(super) fn publish_all(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let notify = self.core.scratch.settings.notify;
        let mut messages: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for event in events {
            if notify.any(NotifyFlags::KEYSPACE) {
                let channel = [format!("__keyspace@{}__:", event.db).as_bytes(), &event.key].concat();
                messages.push((channel, event.name.into()));
            }
            if notify.any(NotifyFlags::KEYEVENT) {
                messages.push((format!("__keyevent@{}__:{}", event.db, event.name).into_bytes(), event.key.to_vec()));
            }
        }
        let messages = Arc::new(messages);
        self.tell_subscribing_cores(move |core| {
            for (channel, message) in messages.iter() {
                core.deliver(false, channel, message);
            }
        });
    }

    fn tell_subscribing_cores(&mut self, job: impl Fn(&mut Core) + Send + Sync + 'static) {
        let job: Job = Arc::new(move |core| {
            job(core);
            Box::new(())
        });
        for core in 0..self.core.node.cores {
            if self.core.node.per_core[core].subscriptions.load(Ordering::SeqCst) == 0 {
                continue;
            }
            if core == self.core.id {
                let _nothing = job(&mut self.core);
            } else {
                self.mesh.request(core, Request::Tell(job.clone()));
            }
        }
    }

    /// Shows a command that has been run to the connections that monitor, wherever they are.
    #[cold]
    pub(super) fn feed_monitors(&mut self, index: usize, command: &'static Registered, args: Args<'_>) {
        let connection = &self.core.connections[index];
        if command.flags().any(Flags::SKIP_MONITOR | Flags::ADMIN)
            || connection.special.has(crate::core::connection::Special::LOADER)
        {
            return;
        }
        let micros = crate::observe::clock::wall_micros();
        let path = connection.peer.strip_suffix(":0").filter(|_| connection.is_unix);
        let from = path.map_or_else(|| connection.peer.to_string(), |path| format!("unix:{path}"));
        let mut line = format!("+{}.{:06} [{} {from}]", micros / 1_000_000, micros % 1_000_000, connection.db).into_bytes();
        let redacted = command.redacted(args);
        for arg in redacted.as_ref().map_or(args, ArgsBuf::args).iter() {
            line.push(b' ');
            crate::protocol::quote(arg, &mut line);
        }
        line.extend_from_slice(b"\r\n");
        let line = Arc::new(line);
        let job: Job = Arc::new(move |core: &mut Core| {
            for index in core.monitors.clone() {
                core.push_to(index, |out| out.extend_from_slice(&line));
            }
            Box::new(())
        });
        for core in 0..self.core.node.cores {
            if core == self.core.id {
                let _nothing = job(&mut self.core);
            } else {
                self.mesh.request(core, Request::Tell(job.clone()));
                let connection = &mut self.core.connections[index];
                if self.mesh.is_congested(core) && connection.stall == Stall::None {
                    connection.stall = Stall::BackPressure;
                    self.congested.push(index);
                }
            }
        }
    }
}
