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
    /// What of it is on its disk, as far as it has said.
    pub on_disk: Option<Offset>,
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
                on_disk: replica.acked_on_disk,
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

    /// How many replicas there are, and a line of the log for each that lacks something of what is before this place.
    pub fn lagging(&self, place: Offset, now: i64) -> (usize, Vec<String>) {
        let shown = self.replicas.iter().filter_map(|(_, replica)| Some((replica, replica.state_name()?)));
        let behind = shown.clone().filter(|(replica, _)| replica.acked < place);
        let line = |(replica, state): (&Replica, &str)| {
            let (bytes, lag_s) = (place.since(replica.acked), replica.lag_s(now));
            format!("Lagging replica {} reported offset {bytes} behind master, lag={lag_s}, state={state}.", replica.name())
        };
        (shown.count(), behind.map(line).collect())
    }

    fn online(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().map(|(_, replica)| replica).filter(|replica| replica.is_online())
    }
}
