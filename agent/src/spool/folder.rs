//! Where the snapshots are, and whose.

use std::cell::Cell;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::Hasher as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;
use syncer_shared::instance::InstanceId;
use syncer_shared::token::ClockToken;
use tracing::{info, warn};

use super::{Spool, SpoolError, Writer, disk};

/// What every file of ours ends with.
const WHOLE: &str = ".snapshot";
const PART: &str = ".part";

/// The folder of an agent.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// It is below one that everybody may write to: nobody else may have made it.
    is_shared: bool,
    /// Tells apart the local servers of agents that share a folder.
    server: u32,
    may_hold: Cell<bool>,
}

impl Folder {
    /// `spool-dir` if it was said; else systemd's `STATE_DIRECTORY`; else one of this user below `/var/tmp`. Unlike `/tmp` that is no memory, and stays
    /// when the machine starts anew. `server` is the local server's address, as configured.
    #[must_use]
    pub fn new(chosen: Option<PathBuf>, environment: &dyn Fn(&str) -> Option<String>, server: &str) -> Self {
        let state = || environment("STATE_DIRECTORY")?.split(':').next().map(PathBuf::from);
        let chosen = chosen.or_else(state).filter(|path| !path.as_os_str().is_empty());
        let is_shared = chosen.is_none();
        let own = || PathBuf::from(format!("/var/tmp/syncer-agent-{}", rustix::process::geteuid().as_raw()));
        let mut hasher = SipHasher13::new();
        hasher.write(server.as_bytes());
        let server = hasher.finish() as u32;
        Self { path: chosen.unwrap_or_else(own), is_shared, server, may_hold: Cell::new(true) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there may be a file.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        self.may_hold.get()
    }

    /// The files of a local instance, for one agent at a time.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn lock(&self, local: InstanceId) -> Result<Spools<'_>, SpoolError> {
        self.make()?;
        let prefix = format!("syncer-{local}-{:08x}", self.server);
        let path = self.path.join(format!("{prefix}.lock"));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(disk("create", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Spools { folder: self, prefix, local, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(SpoolError::Taken(self.path.clone())),
            Err(TryLockError::Error(error)) => Err(disk("lock", &path)(error)),
        }
    }

    /// Sees to it that it is there, and ours.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn make(&self) -> Result<(), SpoolError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(disk("create", &self.path))?;
        if self.is_shared {
            let found = fs::symlink_metadata(&self.path).map_err(disk("read", &self.path))?;
            let is_own = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
            if !found.is_dir() || !is_own {
                return Err(SpoolError::Foreign(self.path.clone()));
            }
        }
        Ok(())
    }
}

/// The files of one local server, as long as no other agent has them.
#[derive(Debug)]
pub struct Spools<'a> {
    folder: &'a Folder,
    prefix: String,
    local: InstanceId,
    _lock: File,
}

impl Spools<'_> {
    /// Begins a new one, of this source, beside earlier ones.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub async fn create(&self, source: InstanceId, keys: u64, head: &[u8]) -> Result<Writer, SpoolError> {
        self.folder.may_hold.set(true);
        let file = |number: u64, end| self.folder.path.join(format!("{}-from-{source}-{number}{end}", self.prefix));
        let free = (1..).find(|number| !file(*number, WHOLE).exists()).unwrap_or_default();
        Writer::begin((file(free, PART), file(free, WHOLE)), self.local, keys, head).await
    }

    /// The merge of one has begun: others of its source, of which it has all, are of no use any more. One that has more stays: the source has lost that
    /// since, and the local server may fall back into its middle.
    pub fn supersede(&self, begun: &Spool) {
        for spool in self.list().into_iter().filter(|spool| begun.supersedes(spool)) {
            info!(source = %spool.head.instance, "an earlier snapshot is superseded: its file is removed");
            spool.remove();
        }
    }

    /// One that has just been written.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn open(&self, path: &Path) -> Result<Spool, SpoolError> {
        Spool::open(path, self.local)
    }

    /// All that are whole. Others are of no use to anybody: they are told and removed.
    #[must_use]
    pub fn list(&self) -> Vec<Spool> {
        let mut whole = Vec::new();
        let entries = fs::read_dir(&self.folder.path).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with("-from-")) {
                continue;
            }
            if name.ends_with(PART) {
                info!(path = %path.display(), "a snapshot that did not become whole is removed");
                let _ = fs::remove_file(&path);
            } else if name.ends_with(WHOLE) {
                match Spool::open(&path, self.local) {
                    Ok(spool) => whole.push(spool),
                    Err(error) => discard(&path, &error),
                }
            }
        }
        self.folder.may_hold.set(!whole.is_empty());
        whole
    }

    /// Removes what is durable at the local server: nothing can need it any more.
    pub fn forget(&self, durable: &ClockToken) {
        for spool in self.list().into_iter().filter(|spool| durable.covers(&spool.head.applied())) {
            info!(source = %spool.head.instance, "the snapshot is durable at the local server: its file is removed");
            spool.remove();
        }
    }
}

/// Tells and removes.
fn discard(path: &Path, error: &SpoolError) {
    warn!(%error, "a snapshot in a file is of no use: it is removed");
    let _ = fs::remove_file(path);
}
