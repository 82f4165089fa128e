//! The `syncer` section of `INFO`, and the counters that `SYNCER.STATUS` shows too.

use std::time::Instant;

use syncer_shared::shard::Status;

use crate::commands::{
    progress::{self, Phase},
    readers, told,
};
use crate::keyspace::ServerKeyspace;
use crate::redis::info::{Section, Source};
use crate::redis::panics;
use crate::{capture, durable, state};

/// Fills the section.
pub struct Syncer;

impl Source for Syncer {
    fn fill(section: &mut Section) {
        let Ok(figures) = state::shard().map(|shard| shard.status()) else { return };
        section.number(c"instance_id", u64::from(figures.instance.get()));
        section.text(c"role", if figures.is_primary { "primary" } else { "replica" });
        section.text(c"replid", &figures.replid.to_string());
        section.text(c"durable_by", durable::by().name());
        let silence = told::silence(Instant::now()).map_or("-1".into(), |silence| silence.as_millis().to_string());
        section.text(c"agent_silent_ms", &silence);
        section.number(c"members", figures.members.len() as u64);
        for (name, value) in counters(&figures) {
            section.named(name, value);
        }
        section.text(c"captured_whole_by_type", &captured_by_type());
    }
}

/// `list=3,vectorset=1`: what was captured whole.
#[must_use]
pub fn captured_by_type() -> String {
    let counts = capture::counters().captured_whole;
    counts.iter().map(|(kind, count)| format!("{kind}={count}")).collect::<Vec<_>>().join(",")
}

/// Name and value of every counter and gauge.
#[must_use]
pub fn counters(figures: &Status) -> Vec<(&'static str, u64)> {
    let (shard, capture) = (&figures.counters, capture::counters());
    let sync = progress::figures();
    vec![
        ("effects_captured", shard.effects_captured),
        ("effects_applied", shard.effects_applied),
        ("groups_applied", shard.groups_applied),
        ("duplicates", shard.duplicates),
        ("captured_whole", capture.captured_whole.values().sum()),
        ("lists_rewritten", shard.lists_rewritten),
        ("writes_coalesced", capture.coalesced),
        ("touches", capture.touches),
        ("conflicts", shard.conflicts),
        ("reasserted", shard.reasserted),
        ("batches_refused", shard.refused),
        ("drift_refused", shard.drift_refused),
        ("payloads_refused", ServerKeyspace::payloads_refused()),
        ("payloads_unknown", figures.unknown as u64),
        ("metadata_keys", figures.metadata_keys as u64),
        ("waiting_groups", figures.waiting_groups as u64),
        ("metadata_bytes", figures.metadata_bytes as u64),
        ("metadata_pruned", shard.pruned),
        ("set_aside_keys", figures.aside as u64),
        ("backlog_first_offset", figures.backlog_first),
        ("backlog_end_offset", figures.backlog_end),
        ("backlog_bytes", figures.backlog_end - figures.backlog_first),
        ("backlog_size", figures.backlog_capacity),
        ("durable_behind_ms", figures.durable_behind_ms),
        ("readers", readers::count() as u64),
        ("sync_full_in", shard.sync_full_in),
        ("sync_full_running", u64::from(progress::is_running())),
        ("sync_full_copying", u64::from(sync.is_some_and(|sync| sync.phase == Phase::Copying))),
        ("sync_full_keys", sync.map_or(0, |sync| sync.keys)),
        ("sync_full_keys_total", sync.map_or(0, |sync| sync.keys_total)),
        ("sync_full_bytes", sync.map_or(0, |sync| sync.bytes)),
        ("sync_full_out", shard.sync_full_out),
        ("sync_partial_ok", shard.sync_partial_ok),
        ("sync_partial_err", shard.sync_partial_err),
        ("writes_lost", capture.lost),
        ("panics", panics()),
    ]
}
