//! The one global: this server's shard. It belongs to the main thread; elsewhere it does not exist.

use std::cell::{Cell, RefCell, RefMut};

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Shard, ShardConfig, Start};

use crate::redis::{Context, log, random_bytes, server, timer};

/// Why the state cannot be had. None of them happens in a server that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Asked for before `OnLoad` made it, or from another thread.
    #[error("ERR syncer: internal error: no state on this thread")]
    Absent,
    /// Asked for by a callback of something that holds it.
    #[error("ERR syncer: internal error: the state is in use")]
    Busy,
    /// The shard begins with the first command after loading.
    #[error("LOADING syncer: this server is still loading its dataset; try again")]
    Loading,
}

/// What this server is in its Active-Active database.
#[derive(Debug)]
struct State {
    config: ShardConfig,
    /// Made when the dataset is loaded, or when the first record comes from a primary or an append-only file.
    shard: Option<Shard>,
}

thread_local! {
    /// Leaked, so that it has no destructor and reading it is one load. Other threads see `None`.
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
    if shard.config_mut().backlog_bytes != config.backlog_bytes {
        shard.resize_backlog(config.backlog_bytes);
    }
}

/// The configuration as it is now.
#[must_use]
pub fn config() -> Option<ShardConfig> {
    state().ok().map(|state| state.config.clone())
}

/// The server is a primary and has its dataset: the shard's reign begins. What it logs of its own accord is left in
/// its records.
pub fn begin_reign(context: &Context) {
    let Ok(mut state) = state() else { return };
    let replid = ReplId::from_bytes(random_bytes());
    let now_ms = timer::now_ms();
    let State { config, shard } = &mut *state;
    match shard {
        Some(shard) => shard.begin_reign(replid, now_ms),
        None => {
            let (keys, _) = server::key_counts(context, server::databases(context));
            let start = if keys > 0 { Start::Seeded } else { Start::Empty };
            *shard = Some(Shard::new(config.clone(), replid, start, now_ms));
        }
    }
    log::notice(&format!("syncer: instance {} begins replication ID {replid} as a primary", config.instance));
}

/// The server follows a primary, or reads records from its append-only file: the shard comes from there.
pub fn follow() {
    let Ok(mut state) = state() else { return };
    let replid = ReplId::from_bytes(random_bytes());
    let shard = Shard::new(state.config.clone(), replid, Start::Replica, timer::now_ms());
    state.shard = Some(shard);
}

/// Whether there is a shard.
#[must_use]
pub fn has_shard() -> bool {
    state().is_ok_and(|state| state.shard.is_some())
}
