//! How long each reader of the backlog may stay away before what it lacks is evicted, and it needs a full sync.

use std::cell::Cell;
use std::time::{Duration, Instant};

use syncer_shared::backlog::Backlog;
use syncer_shared::instance::InstanceId;

use super::readers;

/// The write rate is an average over about so long.
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Default)]
struct Rate {
    bytes_per_second: f64,
    measured: Option<(Instant, u64)>,
}

crate::redis::server_local! {
    static RATE: Cell<Rate> = const { Cell::new(Rate { bytes_per_second: 0.0, measured: None }) };
}

/// How much is left for one reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    /// Where it reads on.
    pub offset: u64,
    /// Whether it is connected.
    pub is_reading: bool,
    /// Bytes that may still be written before something that it lacks goes; `None` when something has gone.
    pub bytes: Option<u64>,
}

/// Measures the rate; several times a second.
pub fn beat(end_offset: u64, now: Instant) {
    let Rate { bytes_per_second, measured } = RATE.get();
    let next = match measured {
        Some((at, offset)) if now > at => {
            let seconds = now.duration_since(at).as_secs_f64();
            let rate = end_offset.saturating_sub(offset) as f64 / seconds;
            bytes_per_second + (rate - bytes_per_second) * (seconds / WINDOW.as_secs_f64()).min(1.0)
        }
        _ => bytes_per_second,
    };
    RATE.set(Rate { bytes_per_second: next, measured: Some((now, end_offset)) });
}

/// Bytes a second that are added to the backlog.
pub fn bytes_per_second() -> u64 {
    RATE.get().bytes_per_second as u64
}

/// How much is left for an instance; `None` when it has never read here.
pub fn of(instance: InstanceId, backlog: &Backlog) -> Option<Headroom> {
    let (offset, is_reading) = readers::place_of(instance)?;
    let behind = backlog.end_offset().saturating_sub(offset);
    let held = offset >= backlog.first_offset();
    Some(Headroom { offset, is_reading, bytes: held.then(|| backlog.capacity().saturating_sub(behind)) })
}

/// How long so many bytes last at the present rate; `None` when nothing is written.
pub fn seconds(bytes: u64) -> Option<u64> {
    bytes.checked_div(bytes_per_second())
}
