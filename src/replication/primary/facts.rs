//! What INFO, ROLE, WAIT and `min-replicas-to-write` ask of the replicas attached.

use super::Primary;
use super::replica::Replica;
use crate::replication::history::Offset;

/// A replica as INFO's `slave<n>` and ROLE show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaFacts {
    pub ip: String,
    pub port: u16,
    pub state: &'static str,
    /// What it has acknowledged.
    pub offset: Offset,
    pub lag_s: i64,
    /// ROLE shows only these.
    pub is_online: bool,
}

impl Primary {
    /// `connected_slaves`.
    pub fn replica_count(&self) -> usize {
        self.replicas.len()
    }

    /// In the order of their arrival; one that is about to leave is not shown.
    pub fn replicas(&self, now: i64) -> impl Iterator<Item = ReplicaFacts> {
        self.replicas.iter().filter_map(move |(_, replica)| {
            let state = replica.state_name()?;
            Some(ReplicaFacts {
                ip: replica.about.ip().to_owned(),
                port: replica.about.port,
                state,
                offset: replica.acked,
                lag_s: replica.lag_s(now),
                is_online: replica.is_online(),
            })
        })
    }

    /// How many replicas have acknowledged everything before this place, for WAIT.
    pub fn acked_by(&self, place: Offset) -> usize {
        self.online().filter(|replica| replica.acked >= place).count()
    }

    /// The same on their disks, for WAITAOF.
    pub fn on_disk_of(&self, place: Offset) -> usize {
        self.online().filter(|replica| replica.acked_on_disk.is_some_and(|on_disk| on_disk >= place)).count()
    }

    fn online(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().map(|(_, replica)| replica).filter(|replica| replica.is_online())
    }
}
