//! The dataset and the state of the source take the place of nothing.

use std::cell::RefCell;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use syncer_shared::instance::InstanceId;

use super::{NativeError, is_empty, over};
use crate::capture::{flush, role};
use crate::commands::{progress, readers};
use crate::redis::timer::{self, Tick};
use crate::redis::{Context, log, rdb};
use crate::{durable, persist, state};

crate::redis::server_local! {
    static DUE: RefCell<Option<(Arc<File>, InstanceId)>> = const { RefCell::new(None) };
}

/// From a timer, so that no client's command is on the stack: the server goes on with others while it loads.
pub fn schedule(context: &Context, file: Arc<File>, source: InstanceId) {
    DUE.set(Some((file, source)));
    timer::start::<Swap>(context, 0);
}

struct Swap;

impl Tick for Swap {
    fn tick(context: &Context) {
        let Some((file, source)) = DUE.take() else { return };
        flush(context);
        let result =
            if is_empty(context) { load(context, &file, source) } else { Err(NativeError::NotEmpty.to_string()) };
        over(result.err());
    }
}

fn load(context: &Context, file: &File, source: InstanceId) -> Result<(), String> {
    let begun = Instant::now();
    let bytes = file.metadata().map(|data| data.len()).unwrap_or_default();
    log::notice(&format!("syncer: full sync from instance {source}: loading its file of {bytes} bytes"));
    let Some(before) = state::take() else { return Err(NativeError::NotEmpty.to_string()) };
    persist::succeeds(before);
    role::suspend();
    durable::restart();
    let loaded = rdb::load(context, file);
    let left = persist::not_succeeded();
    let result = match (loaded, left) {
        (Ok(()), None) => Ok(()),
        (loaded, left) => {
            // Data without its state, or nothing.
            rdb::empty();
            if let Some(before) = left {
                state::put(before);
            }
            Err(loaded.err().map_or_else(|| "there is no fitting state in it".into(), |error| error.to_string()))
        }
    };
    role::resume();
    progress::abandon();
    readers::forget_all();
    if result.is_ok() {
        let seconds = begun.elapsed().as_secs_f64();
        log::notice(&format!(
            "syncer: full sync from instance {source} is complete: {bytes} bytes, loaded in {seconds:.1} s"
        ));
    }
    result
}
