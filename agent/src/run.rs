//! `syncer-agent run`: all tasks of one agent, on one thread.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};
use tracing::{info, warn};

use crate::board::Board;
use crate::config::Config;
use crate::local::LocalTask;
use crate::peer::PeerTask;
use crate::relay::{Change, Relay};
use crate::spool::Folder;
use crate::verify::verify_every;

/// Runs until `stop` is done. There is nothing to put in order then: all state is in the local module, or in files that the next agent finds.
pub async fn run(config: Config, stop: impl Future<Output = ()>) {
    let ids = || config.peers.keys().copied();
    let relay = Relay::new(ids(), config.settings.relay_after);
    let spools = Folder::new(config.spool_dir.clone(), &|name| std::env::var(name).ok(), &config.local.to_string());
    if let Err(error) = spools.make() {
        warn!(%error, "a full sync would not be possible");
    }
    let board = Rc::new(Board::new(ids(), relay, spools));
    let config = Rc::new(config);
    let tasks = LocalSet::new();
    let running = async {
        let mut all = JoinSet::new();
        all.spawn_local(LocalTask::new(config.clone(), board.clone()).run());
        all.spawn_local(relay_task(board.clone(), config.settings.relay_after));
        if let Some(every) = config.settings.verify_every {
            all.spawn_local(verify_every(every, config.clone(), board.clone()));
        }
        for (peer, site) in &config.peers {
            all.spawn_local(PeerTask::new(*peer, site.clone(), config.clone(), board.clone()).run());
        }
        stop.await;
    };
    tasks.run_until(running).await;
}

/// A local server that is silent for longer lags for reasons of its own.
const LOCAL_SILENT: Duration = Duration::from_secs(2);

/// Decides again and again who is asked for the effects of whom.
async fn relay_task(board: Rc<Board>, after: Duration) {
    let every = (after / 4).clamp(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        tokio::time::sleep(every).await;
        let now = Instant::now();
        if board.local_clock_heard().is_none_or(|heard| now.duration_since(heard) > LOCAL_SILENT) {
            board.relay.borrow_mut().forget_delays();
            continue;
        }
        let local = board.local_clock();
        let changes = board.relay.borrow_mut().decide(&local, now);
        for Change { of, via } in changes {
            match via {
                Some(via) => info!(%of, %via, "relay: effects missing, another peer is asked for them"),
                None => info!(%of, "relay: ended"),
            }
        }
        for (peer, wanted) in &board.wanted {
            let now = board.relay.borrow().wanted(*peer);
            wanted.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
    }
}
