//! The coordinator: a thread of its own for what is the whole node's and not a shard's. It loads the data set at the start,
//! writes snapshots, and keeps the append-only directory.
//!
//! It may wait for a disk as long as that takes. The cores send it what their shards' cuts bring, and never wait for it: a core
//! whose piece finds the queue full goes on serving clients, and with its cut later.

pub mod aof;
mod body;
pub mod contract;
pub mod loading;
pub mod snapshot;
pub mod status;

use crate::core::shared::Node;
use crate::observe::log;
use crate::peers::contract::ToPeers;
use crate::persistence::disk::FileLayer;
use aof::Aof;
use contract::{Order, ToCores};
use crossbeam_channel::Receiver;
use loading::{LoadError, Loaded};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub struct Coordinator {
    pub node: Arc<Node>,
    pub orders: Receiver<Order>,
    pub to_cores: ToCores,
    /// Once there was anything to append.
    pub aof: Option<Aof>,
}

impl Coordinator {
    /// Loads the data set, then carries out orders until the node ends. An error, a sentence for the user, ends the node.
    /// `loaded` is called in between.
    pub fn run(mut self, disk: &mut impl FileLayer, loaded: impl FnOnce()) -> Result<(), String> {
        let started = self.start(disk);
        if started.is_err() {
            self.node.shutdown.request();
            self.to_cores.wake_all();
        }
        match started {
            Ok(()) => loaded(),
            Err(LoadError::NodeEnds) => return Ok(()),
            Err(LoadError::Fatal(message)) => return Err(message),
        }
        while let Ok(order) = self.orders.recv() {
            match order {
                Order::Snapshot(snapshot) => self.save(disk, *snapshot),
                Order::Reload(reload) => self.reload(reload),
                Order::LoadForReplica(load) => self.load_for_replica(load),
                Order::ReloadAppendOnly(asker) => self.reload_append_only(disk, asker),
                Order::OpenSegments { core, turning_on, why } => self.open_segments(disk, core, turning_on, why),
                Order::CallOffShutdown => self.node.shutdown.call_off(&self.to_cores),
                Order::Exit => break,
            }
        }
        Ok(())
    }

    /// What comes before the first order.
    fn start(&mut self, disk: &mut impl FileLayer) -> Result<(), LoadError> {
        let Loaded { manifest, next_operation, stored } = self.load(disk)?;
        self.node.persistence.next_operation.store(next_operation.0, Ordering::Relaxed);
        if self.node.current_config().appendonly {
            self.begin_appending(disk, manifest).map_err(LoadError::Fatal)?;
        }
        if self.node.replication.is_replica() {
            self.node.replication.tell(ToPeers::Started { stored });
        }
        self.node.persistence.open();
        log::notice("Ready to accept connections");
        Ok(())
    }
}
