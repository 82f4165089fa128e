//! What happens to servers while commands run.

use fastrand::Rng;

use crate::cluster::Cluster;
use crate::reply;
use crate::server::Server;

/// A few values of this size are more than the backlog holds.
const JUNK_BYTES: usize = 400_000;

/// Something that happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It saves its data and loads it again.
    Reload,
    /// It saves its data.
    Save,
    /// It is killed and starts again.
    Crash,
    /// Its agent is killed and starts again.
    Agent,
    /// It is to be sent everything by another site.
    Resync,
    /// So much is written that others cannot go on from where they were.
    Fill,
    /// Its replica takes over, takes writes, and gives the place back.
    Failover,
}

impl Fault {
    /// The last one needs replicas.
    const ALL: [Self; 7] =
        [Self::Reload, Self::Save, Self::Crash, Self::Agent, Self::Resync, Self::Fill, Self::Failover];

    /// Any.
    pub fn draw(rng: &mut Rng, has_replicas: bool) -> Self {
        Self::ALL[rng.usize(..Self::ALL.len() - usize::from(!has_replicas))]
    }

    /// Whether what was not saved is lost by it.
    pub fn loses(self) -> bool {
        self == Self::Crash
    }

    /// One that leaves connections as they are.
    pub fn draw_mild(rng: &mut Rng) -> Self {
        [Self::Reload, Self::Resync][rng.usize(..2)]
    }
}

/// One that needs no more than a connection. What it answered.
pub fn mild(cluster: &Cluster, instance: u8, fault: Fault, rng: &mut Rng) -> String {
    let sites = cluster.sites().len() as u8;
    let mut client = cluster.client(instance);
    let line = match fault {
        Fault::Resync => format!("SYNCER.RESYNC {}", (instance - 1 + rng.u8(1..sites)) % sites + 1),
        Fault::Reload => "DEBUG RELOAD".to_owned(),
        _ => "SAVE".to_owned(),
    };
    let said = client.text(&line);
    format!("{instance}: {line} -> {said}")
}

/// The replica is the primary from now on. What the server has not told it yet is lost here.
pub fn promote(server: &Server, replica: &Server) {
    replica.client().ok("REPLICAOF NO ONE");
    server.client().ok(&format!("REPLICAOF 127.0.0.1 {}", replica.port()));
    server.follows();
}

/// Any that needs no replica. What it was, for the history.
pub fn happens(cluster: &mut Cluster, instance: u8, fault: Fault, rng: &mut Rng) -> String {
    match fault {
        Fault::Reload | Fault::Save | Fault::Resync | Fault::Failover => return mild(cluster, instance, fault, rng),
        Fault::Crash => cluster.site_mut(instance).server.restart(),
        Fault::Agent => {
            cluster.site(instance).agent.process().resume();
            cluster.site_mut(instance).agent.restart();
        }
        Fault::Fill => {
            let mut client = cluster.client(instance);
            let set = [b"SET".to_vec(), b"junk".to_vec(), vec![b'j'; JUNK_BYTES]];
            let said: Vec<String> = (0..4).map(|_| reply::text(&client.args(&set))).collect();
            return format!("{instance}: {fault:?} -> {}", said.join(" "));
        }
    }
    format!("{instance}: {fault:?}")
}
