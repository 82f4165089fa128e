//! The one global: this server's shard. It belongs to whoever holds the server's lock.

use std::cell::{Cell, RefCell, RefMut};

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Shard, ShardConfig, Start};

use crate::keyspace::with_keyspace;
use crate::redis::server::Info;
use crate::redis::{Context, log, random_bytes, server, timer};

/// Why the state cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Asked for before `OnLoad` made it.
    #[error("ERR syncer: internal error: no state yet")]
    Absent,
    /// Asked for by a callback of something that holds it.
    #[error("ERR syncer: internal error: the state is in use")]
    Busy,
    /// The dataset is being loaded, or a replica has none from its primary yet.
    #[error(
        "LOADING syncer: no state here yet: the dataset is being loaded, or this replica waits for a full sync of its primary"
    )]
    Loading,
}

/// What this server is in its Active-Active database.
#[derive(Debug)]
struct State {
    config: ShardConfig,
    /// None while the dataset is loaded, and on a replica whose primary has sent none.
    shard: Option<Shard>,
}

crate::redis::server_local! {
    /// Leaked, so that reading it is one load.
    static STATE: Cell<Option<&'static RefCell<State>>> = const { Cell::new(None) };
}

/// Makes the state. Once, at load.
pub fn init(instance: InstanceId) {
    let state = State { config: ShardConfig::new(instance), shard: None };
    STATE.set(Some(Box::leak(Box::new(RefCell::new(state)))));
}

fn state() -> Result<RefMut<'static, State>, StateError> {
    STATE.get().ok_or(StateError::Absent)?.try_borrow_mut().map_err(|_| StateError::Busy)
}

/// The shard, for the time that the returned value lives. Do not call back into the server's commands meanwhile,
/// but through [`crate::keyspace`].
///
/// # Errors
/// [`StateError`].
pub fn shard() -> Result<RefMut<'static, Shard>, StateError> {
    RefMut::filter_map(state()?, |state| state.shard.as_mut()).map_err(|_| StateError::Loading)
}

/// Changes the configuration, and tells the shard.
pub fn configure(change: impl FnOnce(&mut ShardConfig)) {
    let Ok(mut state) = state() else { return };
    change(&mut state.config);
    let State { config, shard: Some(shard) } = &mut *state else { return };
    shard.config_mut().drift_ms_max = config.drift_ms_max;
    shard.config_mut().past_replids_max = config.past_replids_max;
    if shard.config_mut().backlog_bytes != config.backlog_bytes {
        shard.resize_backlog(config.backlog_bytes);
    }
}

/// The configuration as it is now.
#[must_use]
pub fn config() -> Option<ShardConfig> {
    state().ok().map(|state| state.config.clone())
}

/// The server is a primary and has its dataset: a reign begins (I-7: at every start and every promotion). What it logs of its own
/// accord is left in the shard's records. Whether it `has_loaded` a file just before, of which keys may be missing.
pub fn begin_reign(context: &Context, has_loaded: bool) {
    let Ok(mut state) = state() else { return };
    let replid = ReplId::from_bytes(random_bytes());
    let now_ms = timer::now_ms();
    let State { config, shard } = &mut *state;
    let after = match shard {
        Some(shard) if !shard.is_blank() => {
            let before = (shard.replid(), shard.backlog().end_offset());
            // What its first group says of all reigns could be large.
            with_keyspace(context, |keyspace| shard.take_in_tail(keyspace));
            shard.begin_reign(replid, now_ms);
            if has_loaded {
                expire_dropped(context, shard, now_ms);
            }
            format!("after {} at offset {}", before.0, before.1)
        }
        _ => {
            let (keys, _) = server::key_counts(context, server::databases(context));
            let start = if keys > 0 { Start::Seeded } else { Start::Empty };
            *shard = Some(Shard::new(config.clone(), replid, start, now_ms));
            match start {
                Start::Seeded => format!("with {keys} keys that no backlog has: the other instances need a full sync"),
                _ => "from nothing".into(),
            }
        }
    };
    log::notice(&format!("syncer: instance {} begins replication ID {replid} as a primary, {after}", config.instance));
}

fn expire_dropped(context: &Context, shard: &mut Shard, now_ms: u64) {
    let persistence = Info::section(context, c"persistence");
    if persistence.number(c"rdb_last_load_keys_expired").is_some_and(|keys| keys > 0) {
        with_keyspace(context, |keyspace| shard.expire_dropped(keyspace, now_ms));
    }
}

/// The server has loaded its own file again, and its reign goes on (`DEBUG RELOAD`).
pub fn reloaded(context: &Context) {
    if let Ok(mut shard) = shard() {
        expire_dropped(context, &mut shard, timer::now_ms());
    }
}

/// Takes the shard away.
pub fn take() -> Option<Shard> {
    state().ok()?.shard.take()
}

/// Puts a shard in the place of the one that was there.
pub fn put(mut shard: Shard) {
    let Ok(mut state) = state() else { return };
    // The settings may have changed since it was made.
    shard.config_mut().drift_ms_max = state.config.drift_ms_max;
    shard.config_mut().past_replids_max = state.config.past_replids_max;
    shard.resize_backlog(state.config.backlog_bytes);
    state.shard = Some(shard);
}

/// Whether there is a shard.
#[must_use]
pub fn has_shard() -> bool {
    state().is_ok_and(|state| state.shard.is_some())
}
