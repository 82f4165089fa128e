//! What `verify` found, for people and programs.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use syncer_shared::instance::InstanceId;

use super::link::{KeyId, Side};

/// What was compared and what differs.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Who was compared, the local site first.
    pub sites: Vec<InstanceId>,
    /// Who could not be asked, and why.
    pub unreachable: BTreeMap<InstanceId, String>,
    /// Keys at the local site.
    pub keys: u64,
    /// Keys that differ, as many as were asked for.
    pub differences: Vec<Difference>,
    /// There may be more of them.
    pub is_cut: bool,
    /// Keys that changed all the time, expire soon, or that a site has not got yet.
    pub undecided: u64,
    /// Slots that differ and hold too many keys to name.
    pub slots_skipped: Vec<u16>,
    /// How long it took.
    pub seconds: f64,
}

/// A key that differs.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which one.
    pub key: KeyId,
    /// What each site has.
    pub sides: Vec<(InstanceId, Side)>,
}

impl Outcome {
    /// Whether a difference was found.
    #[must_use]
    pub fn differs(&self) -> bool {
        !self.differences.is_empty() || !self.slots_skipped.is_empty()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let ids = |ids: &mut dyn Iterator<Item = &InstanceId>| ids.map(|id| id.get()).collect::<Vec<_>>();
        let side = |(id, side): &(InstanceId, Side)| {
            json!({
                "instance": id.get(),
                "type": side.kind,
                "size": side.size,
                "expire_at_ms": side.expire_at_ms,
                "digest": side.digest,
            })
        };
        let difference = |difference: &Difference| {
            json!({
                "db": difference.key.db,
                "key": escaped(&difference.key.name),
                "sides": difference.sides.iter().map(side).collect::<Vec<_>>(),
            })
        };
        json!({
            "sites": ids(&mut self.sites.iter()),
            "unreachable": self.unreachable.iter().map(|(id, cause)| json!({"instance": id.get(), "cause": cause})).collect::<Vec<_>>(),
            "keys": self.keys,
            "differences": self.differences.iter().map(difference).collect::<Vec<_>>(),
            "more": self.is_cut,
            "undecided": self.undecided,
            "slots_skipped": self.slots_skipped,
            "seconds": self.seconds,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "DIFFERS {difference}")?;
        }
        if self.is_cut {
            writeln!(f, "        and perhaps more")?;
        }
        if !self.slots_skipped.is_empty() {
            writeln!(f, "DIFFERS hash slots {:?}: too many keys to name them", self.slots_skipped)?;
        }
        for (id, cause) in &self.unreachable {
            writeln!(f, "SKIPPED instance {id}: {cause}")?;
        }
        let sites = self.sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let verdict = if self.differs() { "differ" } else { "are equal" };
        write!(f, "instances {sites} {verdict}: {} keys compared in {:.1} s", self.keys, self.seconds)?;
        match self.undecided {
            0 => Ok(()),
            keys => write!(f, ", {keys} left out that changed all the time or are still on their way"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "db {} key {}", self.key.db, escaped(&self.key.name))?;
        for (index, (id, side)) in self.sides.iter().enumerate() {
            write!(f, "{} instance {id}: {side}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digest.is_empty() {
            return f.write_str("absent");
        }
        let unit = if matches!(self.kind.as_str(), "string" | "whole") { "bytes" } else { "elements" };
        write!(f, "{} of {} {unit}", self.kind, self.size)?;
        if let Some(at) = self.expire_at_ms {
            write!(f, ", expires at {at}")?;
        }
        write!(f, ", digest {}", self.digest)
    }
}

/// Names of keys that are shown are at most so long.
const NAME_CHARACTERS: usize = 200;

/// Bytes as printable text.
fn escaped(bytes: &[u8]) -> String {
    let mut text: String =
        bytes.iter().flat_map(|byte| byte.escape_ascii()).map(char::from).take(NAME_CHARACTERS).collect();
    if bytes.len() > NAME_CHARACTERS {
        text.push_str("...");
    }
    text
}
