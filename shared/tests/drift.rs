//! A clock that is far ahead is refused: it would decide every conflict for as long as it is ahead (DESIGN 2, the drift guard).

mod sites;

use sites::{Site, met, pull, try_pull};
use syncer_shared::shard::ApplyError;

const LIMIT_MS: u64 = 1_000;

/// `a` writes when its clock is so far ahead of that of `b`.
fn written_ahead(ahead_ms: u64) -> (Site, Site) {
    let (mut a, mut b) = met();
    b.shard.config_mut().drift_ms_max = LIMIT_MS;
    // Writing takes 10 ms of the sites' time.
    a.now = b.now + ahead_ms - 10;
    a.set("from ahead");
    (a, b)
}

#[test]
fn a_clock_that_is_too_far_ahead_is_refused_and_changes_nothing() {
    let (mut a, mut b) = written_ahead(LIMIT_MS + 100);
    b.set("here");
    let (data, clock) = (b.data.clone(), b.shard.clock_token());
    match try_pull(&mut a, &mut b) {
        Err(ApplyError::Drift { instance, ahead_ms, limit_ms: LIMIT_MS }) => {
            assert_eq!(instance, a.shard.instance());
            assert!(ahead_ms > LIMIT_MS, "{ahead_ms}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((b.data.entries(), b.shard.clock_token()), (data.entries(), clock));
    assert_eq!(b.shard.counters().drift_refused, 1);
    b.now += LIMIT_MS;
    pull(&mut a, &mut b);
    assert_eq!(b.string().as_deref(), Some("from ahead"), "taken once it is not so far ahead any more");
}

#[test]
fn a_clock_within_the_limit_is_taken() {
    let (mut a, mut b) = written_ahead(LIMIT_MS - 100);
    pull(&mut a, &mut b);
    assert_eq!(b.string().as_deref(), Some("from ahead"));
    assert_eq!(b.shard.counters().drift_refused, 0);
}
