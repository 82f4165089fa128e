//! One snapshot in a file.
//!
//! `syncer-spool`, `u8` version 1, `u8` local instance, `u64` about how many keys, `u32` length and head; then pieces: `u32` length, `u64` keys so far,
//! keys; at last `u32` 0, `u64` length of the file, and `u64` SipHash-1-3 of everything before it. All little-endian. A file without its end is none.

use std::fs::{self, File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use siphasher::sip::SipHasher13;
use syncer_shared::instance::InstanceId;
use syncer_shared::snapshot::SnapshotHead;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufReader};
use tokio::task::JoinHandle;

use super::{SpoolError, disk};

const MAGIC: &[u8; 12] = b"syncer-spool";
const VERSION: u8 = 1;
/// Magic, version, instance, keys, length of the head.
const FRONT_BYTES: usize = MAGIC.len() + 1 + 1 + 8 + 4;
/// A zero, the length, the hash.
const END_BYTES: usize = 4 + 8 + 8;
const HASH_BYTES: u64 = 8;
/// A head is some hundred bytes for each reign.
const HEAD_BYTES_MAX: usize = 64 << 20;
/// So much is handed to the disk at once.
const BUFFER_BYTES: usize = 256 << 10;
/// When so much was written, the disk is told to take it.
const AHEAD_BYTES: u64 = 4 << 20;

/// A whole snapshot.
#[derive(Clone, Debug)]
pub struct Spool {
    path: PathBuf,
    /// About so many keys.
    pub keys: u64,
    /// What goes before the keys.
    pub head: SnapshotHead,
    /// Its encoding.
    pub head_bytes: Bytes,
}

impl Spool {
    /// A file that seems to be whole, for this local instance.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn open(path: &Path, local: InstanceId) -> Result<Self, SpoolError> {
        let damaged = |what| SpoolError::Damaged { path: path.to_owned(), what };
        let Ends { front, head, end, len } = match Ends::read(path) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged("it is cut off")),
            ends => ends.map_err(disk("read", path))?,
        };
        let (magic, rest) = front.split_at(MAGIC.len());
        if magic != MAGIC || rest[0] != VERSION {
            return Err(damaged("it is of another kind or release"));
        }
        if rest[1] != local.get() {
            return Err(damaged("it is for another instance"));
        }
        if end[..4] != [0; 4] || u64::from_le_bytes(*array(&end[4..12])) != len {
            return Err(damaged("it has no end"));
        }
        let decoded = SnapshotHead::decode(&head).map_err(|_| damaged("its head cannot be read"))?;
        let keys = u64::from_le_bytes(*array(&rest[2..10]));
        Ok(Self { path: path.to_owned(), keys, head: decoded, head_bytes: head.into() })
    }

    /// Reads it once: whether it is what was written.
    ///
    /// # Errors
    /// It is not.
    pub async fn verify(&self) -> Result<(), SpoolError> {
        let path = self.path.clone();
        let hashed = tokio::task::spawn_blocking(move || hash_of(&path)).await.unwrap_or_else(|e| Err(e.into()));
        let (found, said) = hashed.map_err(disk("read", &self.path))?;
        if found == said { Ok(()) } else { Err(self.damaged("its hash is another one")) }
    }

    /// From the front.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn pieces(&self) -> Result<Pieces, SpoolError> {
        let opened = async {
            let mut file = tokio::fs::File::open(&self.path).await?;
            file.seek(SeekFrom::Start((FRONT_BYTES + self.head_bytes.len()) as u64)).await?;
            Ok(file)
        };
        let file = opened.await.map_err(disk("read", &self.path))?;
        Ok(Pieces { file: BufReader::with_capacity(BUFFER_BYTES, file), path: self.path.clone() })
    }

    /// Whether it is another one of the same source that has all that `earlier` has.
    pub(super) fn supersedes(&self, earlier: &Self) -> bool {
        self.path != earlier.path
            && self.head.instance == earlier.head.instance
            && self.head.applied().covers(&earlier.head.applied())
    }

    /// Its keys are of no use any more.
    pub fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a snapshot that is of no use any more cannot be removed");
        }
    }

    fn damaged(&self, what: &'static str) -> SpoolError {
        SpoolError::Damaged { path: self.path.clone(), what }
    }
}

/// What is around the keys.
struct Ends {
    front: [u8; FRONT_BYTES],
    head: Vec<u8>,
    end: [u8; END_BYTES],
    /// Of the file.
    len: u64,
}

impl Ends {
    fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let (mut front, mut end) = ([0; FRONT_BYTES], [0; END_BYTES]);
        file.read_exact(&mut front)?;
        let head_len = u32::from_le_bytes(*array(&front[FRONT_BYTES - 4..])) as usize;
        let mut head = vec![0; head_len.min(HEAD_BYTES_MAX)];
        file.read_exact(&mut head)?;
        let len = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::End(-(END_BYTES as i64)))?;
        file.read_exact(&mut end)?;
        Ok(Self { front, head, end, len })
    }
}

/// The hash of all but the hash, and the one that is said there.
fn hash_of(path: &Path) -> io::Result<(u64, u64)> {
    let file = File::open(path)?;
    let mut left = file.metadata()?.len().saturating_sub(HASH_BYTES);
    let (mut file, mut hasher) = (io::BufReader::new(file), SipHasher13::new());
    let mut buffer = vec![0; BUFFER_BYTES];
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut buffer[..wanted])?;
        hasher.write(&buffer[..wanted]);
        left -= wanted as u64;
    }
    let mut said = [0; HASH_BYTES as usize];
    file.read_exact(&mut said)?;
    Ok((hasher.finish(), u64::from_le_bytes(said)))
}

/// The keys of a snapshot, piece by piece.
#[derive(Debug)]
pub struct Pieces {
    file: BufReader<tokio::fs::File>,
    path: PathBuf,
}

impl Pieces {
    /// Keys, and how many they are up to here; nothing after the last.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn next(&mut self) -> Result<Option<(Bytes, u64)>, SpoolError> {
        let read = async {
            let len = self.file.read_u32_le().await?;
            if len == 0 {
                return Ok(None);
            }
            let keys = self.file.read_u64_le().await?;
            let mut piece = Vec::new();
            // Grows with what is there, whatever the length says.
            (&mut self.file).take(u64::from(len)).read_to_end(&mut piece).await?;
            if piece.len() < len as usize {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Some((Bytes::from(piece), keys)))
        };
        read.await.map_err(disk("read", &self.path))
    }
}

/// A snapshot that is being written. It has its name only when it is whole; without that it is removed.
#[derive(Debug)]
pub struct Writer {
    file: tokio::fs::File,
    buffer: Vec<u8>,
    hasher: SipHasher13,
    len: u64,
    ahead: Ahead,
    part: Part,
    path: PathBuf,
}

/// Has the disk take what is written while more is still to come, so that it does not come to all of it at the end, when everything waits for that.
#[derive(Debug)]
struct Ahead {
    /// The same file.
    file: File,
    /// Up to where it was, or is being, done.
    from: u64,
    under_way: Option<JoinHandle<io::Result<()>>>,
}

impl Ahead {
    /// There are `len` bytes now.
    async fn go_on(&mut self, len: u64) -> io::Result<()> {
        if len - self.from < AHEAD_BYTES || self.under_way.as_ref().is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        self.finish().await?;
        let file = self.file.try_clone()?;
        self.from = len;
        self.under_way = Some(tokio::task::spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// What has gone wrong is told once, so it must not get lost.
    async fn finish(&mut self) -> io::Result<()> {
        match self.under_way.take() {
            Some(task) => task.await.unwrap_or_else(|error| Err(error.into())),
            None => Ok(()),
        }
    }
}

/// Removed when it is dropped.
#[derive(Debug)]
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // After `finish` it has another name.
        let _ = fs::remove_file(&self.0);
    }
}

impl Writer {
    /// Begins a file that will be `path`; until then it is `part`.
    pub(super) async fn begin(
        (part, path): (PathBuf, PathBuf),
        local: InstanceId,
        keys: u64,
        head: &[u8],
    ) -> Result<Self, SpoolError> {
        let _ = fs::remove_file(&part);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = file.map_err(disk("create", &part))?;
        let ahead = Ahead { file: file.try_clone().map_err(disk("create", &part))?, from: 0, under_way: None };
        let file = tokio::fs::File::from_std(file);
        let (buffer, hasher) = (Vec::with_capacity(BUFFER_BYTES), SipHasher13::new());
        let mut writer = Self { file, buffer, hasher, len: 0, ahead, part: Part(part), path };
        let head_len = u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes();
        writer.put(&[MAGIC, &[VERSION, local.get()], &keys.to_le_bytes(), &head_len, head]).await?;
        Ok(writer)
    }

    /// Keys; there are `keys` up to here.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn piece(&mut self, bytes: &[u8], keys: u64) -> Result<(), SpoolError> {
        match u32::try_from(bytes.len()) {
            Ok(0) => Ok(()),
            Ok(len) => {
                self.put(&[&len.to_le_bytes(), &keys.to_le_bytes(), bytes]).await?;
                self.ahead.go_on(self.len).await.map_err(disk("write", &self.path))
            }
            Err(_) => Err(SpoolError::Damaged { path: self.path.clone(), what: "a key is longer than 4 GiB" }),
        }
    }

    /// All keys are there: from now on it is on the disk, whatever happens to this machine.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn finish(mut self) -> Result<PathBuf, SpoolError> {
        let len = self.len + END_BYTES as u64;
        self.put(&[&[0; 4], &len.to_le_bytes()]).await?;
        let hash = self.hasher.finish().to_le_bytes();
        self.put(&[&hash]).await?;
        let Self { mut file, buffer, mut ahead, part, path, .. } = self;
        let finished = async {
            file.write_all(&buffer).await?;
            file.flush().await?;
            ahead.finish().await?;
            file.sync_all().await?;
            tokio::fs::rename(&part.0, &path).await?;
            let folder = path.parent().map(Path::to_owned).unwrap_or_default();
            tokio::fs::File::open(folder).await?.sync_all().await
        };
        finished.await.map_err(disk("write", &path))?;
        Ok(path)
    }

    async fn put(&mut self, parts: &[&[u8]]) -> Result<(), SpoolError> {
        for part in parts {
            self.hasher.write(part);
            self.len += part.len() as u64;
            if self.buffer.len() + part.len() > BUFFER_BYTES {
                // Returns when the disk has taken all but the last of it: a slow disk slows the source down.
                self.file.write_all(&self.buffer).await.map_err(disk("write", &self.path))?;
                self.buffer.clear();
            }
            if part.len() > BUFFER_BYTES {
                self.file.write_all(part).await.map_err(disk("write", &self.path))?;
            } else {
                self.buffer.extend_from_slice(part);
            }
        }
        Ok(())
    }
}

/// The first bytes, of which there are enough.
fn array<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().unwrap_or(&[0; N])
}
