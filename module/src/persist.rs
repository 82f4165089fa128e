//! The shard's state in the server's files and native full syncs (DESIGN 4).
//!
//! Every RDB file has it behind the keys: `dump.rdb`, the head of an append-only file, what a primary sends to a new replica. What is
//! read is *staged*, and becomes this server's state when the dataset that it belongs to does: at the end of loading, or with the
//! first record of an append-only file behind its head. Damaged state is refused whole and the data kept: then this server knows
//! nothing of its data, and the others need a full sync of it.

use std::cell::RefCell;

use syncer_shared::record::Record;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{ReplayError, Restorer, SavedError, Shard, Start, Unheard};

use crate::redis::aux::Aux;
use crate::redis::config::SAVE_STATE;
use crate::redis::events::Load;
use crate::redis::log;
use crate::state;

/// What is between a file and the state.
struct Stage {
    /// Takes the pieces that come.
    restorer: Option<Restorer>,
    /// What is wrong with them.
    error: Option<SavedError>,
    /// The state that was read.
    staged: Option<Shard>,
    /// The state before, while a primary loads (`DEBUG RELOAD`).
    parked: Option<Shard>,
    /// The old dataset is served until the new one is complete (`repl-diskless-load swapdb`).
    swapping: bool,
    /// Records come that belong to no state here; said once.
    lost: bool,
    /// What only this server had, while it takes the state of its new primary.
    unheard: Option<Unheard>,
    /// A newcomer that the state to be read takes the place of.
    newcomer: Option<Shard>,
}

crate::redis::server_local! {
    static STAGE: RefCell<Stage> = const {
        RefCell::new(Stage {
            restorer: None,
            error: None,
            staged: None,
            parked: None,
            swapping: false,
            lost: false,
            unheard: None,
            newcomer: None,
        })
    };
}

/// The state in the server's files.
pub struct SavedState;

impl Aux for SavedState {
    fn save(sink: &mut dyn FnMut(&[u8])) {
        if SAVE_STATE.get() != 0
            && let Ok(shard) = state::shard()
        {
            shard.save(sink);
        }
    }

    fn load_begins() {
        let restorer = state::config().map(Restorer::new);
        STAGE.with_borrow_mut(|stage| (stage.restorer, stage.error, stage.staged) = (restorer, None, None));
    }

    fn load(piece: &[u8]) {
        STAGE.with_borrow_mut(|stage| {
            if let Some(Err(error)) = stage.restorer.as_mut().map(|restorer| restorer.push(piece)) {
                (stage.restorer, stage.error) = (None, Some(error));
            }
        });
    }

    fn load_ends(complete: bool) {
        STAGE.with_borrow_mut(|stage| {
            let restorer = stage.restorer.take().filter(|_| complete);
            match restorer.map(Restorer::finish) {
                Some(Ok(shard)) => stage.staged = Some(shard),
                Some(Err(error)) => stage.error = Some(error),
                None => {}
            }
            if let Some(error) = &stage.error {
                log::warning(&format!(
                    "syncer: the Active-Active state in this file is refused: {error}. The data is kept, but nothing is known of its history: the other instances will need a full sync"
                ));
            }
        });
    }
}

/// The server loads a dataset, or has ended to do so. Whether the reign that there was goes on.
pub fn loading(load: Load) -> bool {
    match load {
        Load::Swap => STAGE.with_borrow_mut(|stage| stage.swapping = true),
        Load::Begins { replication } => STAGE.with_borrow_mut(|stage| {
            stage.staged = None;
            // A replica has what its primary wrote: it may be another one that lacks some of it. What a load that broke off has taken stays.
            if replication && let Ok(shard) = state::shard() {
                stage.unheard = Some(shard.unheard());
            }
            if !stage.swapping {
                // On a replica the dataset is empty now. A primary may read back what it has just written.
                stage.parked = state::take().filter(|_| !replication);
            }
        }),
        Load::Ends { success } => return STAGE.with_borrow_mut(|stage| ends(stage, success)),
    }
    true
}

/// Names what clients wrote to a server that was replaced, and nobody else is known to have.
pub fn say_rejected(unheard: &Unheard, what_now: &str) {
    const NAMED: usize = 10;
    let keys = unheard.keys();
    let count = keys.len();
    if count > 0 || unheard.is_flushed() {
        let at_least = if unheard.is_all() { "" } else { "at least " };
        let flushed = if unheard.is_flushed() { ", and FLUSHDB or FLUSHALL was called" } else { "" };
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable();
        let more = if count > NAMED { ", ..." } else { "" };
        let names: Vec<String> =
            keys.iter().take(NAMED).map(|(db, name)| format!("{} (database {db})", name.escape_ascii())).collect();
        log::warning(&format!(
            "syncer: rejected: {at_least}{count} keys have writes of this server that no other instance is known to have{flushed}; {what_now}: {}{more}",
            names.join(", ")
        ));
    }
}

/// The state of the file that is loaded next takes the place of this one, or nothing does.
pub fn succeeds(newcomer: Shard) {
    STAGE.with_borrow_mut(|stage| stage.newcomer = Some(newcomer));
}

/// The newcomer that there still is after loading.
pub fn not_succeeded() -> Option<Shard> {
    STAGE.with_borrow_mut(|stage| stage.newcomer.take())
}

/// Before the server forks for its append-only file, which must have all of it.
fn take_over(stage: &mut Stage, staged: Option<Shard>) {
    let (Some(newcomer), Some(mut staged)) = (&mut stage.newcomer, staged) else { return };
    match staged.succeed(newcomer) {
        Ok(()) => {
            said(&staged);
            state::put(staged);
            stage.newcomer = None;
        }
        Err(error) => log::warning(&format!("syncer: the state in the file does not fit this instance: {error}")),
    }
}

fn ends(stage: &mut Stage, success: bool) -> bool {
    let (staged, parked) = (stage.staged.take().filter(|_| success), stage.parked.take());
    let swapping = std::mem::take(&mut stage.swapping);
    if stage.newcomer.is_some() {
        stage.lost = false;
        take_over(stage, staged);
        return false;
    }
    match (staged, parked) {
        (Some(staged), Some(parked)) if is_same(&staged, &parked) => {
            state::put(parked);
            return true;
        }
        (Some(staged), _) => {
            stage.lost = false;
            said(&staged);
            if let Some(unheard) = stage.unheard.take() {
                let rejected = unheard.beyond(&staged);
                say_rejected(&rejected, "its new primary does not have them either, and they are dropped here");
            }
            state::put(staged);
        }
        // What was served goes on.
        (None, _) if swapping && !success => {}
        (None, _) if swapping => drop(state::take()),
        // Records of an append-only file may have begun one.
        (None, _) => {}
    }
    false
}

/// `DEBUG RELOAD`: what was read is what there was.
fn is_same(staged: &Shard, parked: &Shard) -> bool {
    staged.replid() == parked.replid()
        && staged.backlog().end_offset() == parked.backlog().end_offset()
        && staged.clock_token() == parked.clock_token()
}

fn said(shard: &Shard) {
    let (replid, backlog) = (shard.replid(), shard.backlog());
    let (first, end) = (backlog.first_offset(), backlog.end_offset());
    log::notice(&format!("syncer: state loaded: replication ID {replid}, backlog from {first} to {end}"));
}

/// A record is about to be replayed: whether there is a state that it may belong to.
pub fn is_founded(record: &[u8]) -> bool {
    if state::has_shard() {
        return true;
    }
    STAGE.with_borrow_mut(|stage| {
        if let Some(staged) = stage.staged.take() {
            said(&staged);
            state::put(staged);
        } else if Record::is_founder(record) {
            stage.lost = false;
            let blank = ReplId::from_bytes([0; ReplId::LEN]);
            if let Some(config) = state::config() {
                state::put(Shard::new(config, blank, Start::Replica, 0));
            }
        } else if !std::mem::replace(&mut stage.lost, true) {
            log::warning(
                "syncer: records come that belong to no state here: the file or the primary's full sync had none (an append-only file needs aof-use-rdb-preamble yes). They are passed over; should this server become a primary, the other instances will need a full sync",
            );
        }
    });
    state::has_shard()
}

/// A record does not fit the state: it is of no use any more.
pub fn does_not_fit(error: &ReplayError) {
    drop(state::take());
    STAGE.with_borrow_mut(|stage| stage.lost = true);
    log::warning(&format!(
        "syncer: the state here does not fit what comes: {error}. It is dropped, the data is kept; a replica gets it again with a full sync of its primary, a primary begins anew"
    ));
}
