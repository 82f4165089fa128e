//! Warns before a peer needs a full sync, and says what to do about it.

use std::collections::BTreeMap;

use serde_json::Value;
use tracing::{info, warn};

/// How far a reader of the local backlog is from losing its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Half of the backlog or more is left.
    #[default]
    Ample,
    /// Less than half.
    Low,
    /// Less than a tenth.
    Critical,
    /// Something that it lacks is gone.
    Lost,
}

/// Remembers what was told of each peer.
#[derive(Debug, Default)]
pub struct HeadroomWatch {
    told: BTreeMap<u64, Level>,
}

impl HeadroomWatch {
    /// Looks at an answer of `SYNCER.PEERS`; tells when a peer's headroom has become less, or ample again.
    pub fn look(&mut self, peers: &[Value]) {
        for peer in peers {
            let number = |key: &str| peer.get(key).and_then(Value::as_u64);
            let Some(instance) = number("instance").filter(|_| number("reads_offset").is_some()) else { continue };
            let level = level(number("headroom_percent"));
            let told = self.told.insert(instance, level).unwrap_or_default();
            let seconds = number("headroom_seconds");
            let connected = number("reading") == Some(1);
            match level {
                Level::Ample if told > Level::Ample => info!(peer = instance, "backlog: the peer has caught up"),
                Level::Low | Level::Critical if level > told => warn!(
                    peer = instance,
                    connected,
                    bytes_left = number("headroom_bytes"),
                    seconds_left = seconds,
                    "backlog: the peer is behind; when nothing is left it needs a full sync: see to its agent and link, or raise backlog-size"
                ),
                Level::Lost if level > told => warn!(
                    peer = instance,
                    connected, "backlog: what the peer lacks is gone, it needs a full sync; raise backlog-size"
                ),
                _ => {}
            }
        }
    }
}

fn level(percent_left: Option<u64>) -> Level {
    match percent_left {
        None => Level::Lost,
        Some(left) if left < 10 => Level::Critical,
        Some(left) if left < 50 => Level::Low,
        Some(_) => Level::Ample,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_is_left_the_worse() {
        let levels = [Some(100), Some(50), Some(49), Some(10), Some(9), Some(0), None].map(level);
        use Level::{Ample, Critical, Lost, Low};
        assert_eq!(levels, [Ample, Ample, Low, Low, Critical, Critical, Lost]);
    }
}
