//! How long one SYNCER.APPLY holds the main thread, as the server itself has seen it.

use crate::client::Client;

/// Begins anew to count.
pub fn reset(target: &mut Client) {
    target.ok("CONFIG SET latency-tracking-info-percentiles \"50 99 99.9\"");
    target.ok("CONFIG RESETSTAT");
}

/// p50, p99 and p99.9 of all calls since then, in microseconds.
pub fn microseconds(target: &mut Client) -> Option<[f64; 3]> {
    let text = target.text("INFO latencystats");
    let line = text.split("\\x0d\\x0a").find_map(|line| line.strip_prefix("latency_percentiles_usec_syncer.apply:"))?;
    let mut figures = line.split(',').map(|part| part.split_once('=').and_then(|(_, figure)| figure.parse().ok()));
    Some([figures.next()??, figures.next()??, figures.next()??])
}
