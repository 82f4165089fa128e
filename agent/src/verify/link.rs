//! One site as `verify` asks it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use syncer_shared::instance::InstanceId;
use syncer_shared::slot::SlotDigests;

use super::VerifyError;
use crate::config::{Endpoint, Site};
use crate::connection::{Connection, ConnectionError, within};
use crate::finder::Finder;
use crate::protocol::{PeerInfo, Refusal};
use crate::resp::{Decimal, Reply};

/// How long one answer may take: a large key, or a busy server.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a walk over the keyspace may take: it is in no hurry.
const WALK_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// How long a site may lack what another one has.
const AWAIT_MS: &[u8] = b"5000";

/// A key of one database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId {
    /// Database.
    pub db: u32,
    /// Name.
    pub name: Bytes,
}

/// What one site has of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Equal for equal keys; empty when it is absent.
    pub digest: String,
    /// Timestamp of its newest live write, 0 if all is known to be everywhere.
    pub newest: u64,
    /// Its type.
    pub kind: String,
    /// Elements, or bytes of a string.
    pub size: u64,
    /// When it expires, Unix milliseconds.
    pub expire_at_ms: Option<i64>,
}

/// Some keys of a site with their digests.
#[derive(Debug, Default)]
pub struct Listing {
    /// In no particular order, one perhaps twice.
    pub keys: Vec<(KeyId, String)>,
    /// There are more.
    pub is_cut: bool,
}

/// A connection to a site's primary.
pub struct Link {
    /// Which one.
    pub instance: InstanceId,
    connection: Connection,
    endpoint: Endpoint,
}

impl Link {
    /// Finds the primary and asks who it is.
    ///
    /// # Errors
    /// When it is not there, or another instance.
    pub async fn open(site: &Site, expected: Option<InstanceId>, timeout: Duration) -> Result<Self, VerifyError> {
        let failed = |cause: String| VerifyError::Site { whose: name(expected), cause };
        let finder = Finder::new(site.clone(), timeout);
        let endpoint = finder.find().await.map_err(|error| failed(error.to_string()))?;
        let mut connection = Connection::open(&endpoint, timeout).await.map_err(|error| failed(error.to_string()))?;
        // Any id will do: the answer says who answers.
        let question: [&[u8]; 3] = [b"SYNCER.PEER", b"63", b"INFO"];
        let reply = within(timeout, &endpoint, connection.call(&question)).await;
        let info = reply.map_err(|error| failed(error.to_string()))?;
        let info = PeerInfo::parse(&info).map_err(|refusal| failed(refusal.to_string()))?;
        match expected {
            Some(expected) if expected != info.instance => {
                Err(failed(format!("the server there is instance {}", info.instance)))
            }
            _ => Ok(Self { instance: info.instance, connection, endpoint }),
        }
    }

    /// Everything applied there.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn clock(&mut self) -> Result<Bytes, VerifyError> {
        match self.call(&[b"SYNCER.CLOCK"], CALL_TIMEOUT).await? {
            Reply::Bulk(token) | Reply::Status(token) => Ok(Bytes::copy_from_slice(&token)),
            _ => Err(self.shape("SYNCER.CLOCK")),
        }
    }

    /// Waits until it has everything of these clocks; false when it does not come to have.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn has_all_of(&mut self, clocks: &[Bytes]) -> Result<bool, VerifyError> {
        for clock in clocks {
            let reply = self.call(&[b"SYNCER.AWAIT", clock, AWAIT_MS], CALL_TIMEOUT).await?;
            if reply.integer() != Some(1) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits longer until it has everything of a clock; false when it does not come to have.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn comes_to_have(&mut self, clock: &Bytes, attempts: u32) -> Result<bool, VerifyError> {
        for _ in 0..attempts {
            if self.has_all_of(std::slice::from_ref(clock)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The digests of all slots. The server pauses `pause_ms` after each half millisecond of work.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn slots(&mut self, pause_ms: u32) -> Result<SlotDigests, VerifyError> {
        let pause = Decimal::of(u64::from(pause_ms));
        let reply = self.call(&[b"SYNCER.DIGEST", b"SLOTS", pause.as_bytes()], WALK_TIMEOUT).await?;
        let Reply::Bulk(bytes) = reply else { return Err(self.shape("SYNCER.DIGEST SLOTS")) };
        SlotDigests::decode(&bytes).map_err(|error| self.failed(error))
    }

    /// The keys of some slots (`1,5-7`), at most `limit`.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn keys(&mut self, slots: &str, limit: usize, pause_ms: u32) -> Result<Listing, VerifyError> {
        let (limit, pause) = (Decimal::of(limit as u64), Decimal::of(u64::from(pause_ms)));
        let question: [&[u8]; 5] = [b"SYNCER.DIGEST", b"KEYS", slots.as_bytes(), limit.as_bytes(), pause.as_bytes()];
        let reply = self.call(&question, WALK_TIMEOUT).await?;
        listing(&reply).ok_or_else(|| self.shape("SYNCER.DIGEST KEYS"))
    }

    /// These keys at this moment, in order.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn look(&mut self, keys: &[KeyId]) -> Result<Vec<Side>, VerifyError> {
        for KeyId { db, name } in keys {
            let db = Decimal::of(u64::from(*db));
            self.connection.send(&[b"SYNCER.DIGEST", b"KEY", db.as_bytes(), name]);
        }
        let mut sides = Vec::with_capacity(keys.len());
        for _ in keys {
            let reply = within(CALL_TIMEOUT, &self.endpoint, self.connection.reply()).await;
            let reply = self.checked(reply)?;
            sides.push(side(&reply).ok_or_else(|| self.shape("SYNCER.DIGEST KEY"))?);
        }
        Ok(sides)
    }

    async fn call(&mut self, args: &[&[u8]], timeout: Duration) -> Result<Reply, VerifyError> {
        let reply = within(timeout, &self.endpoint, self.connection.call(args)).await;
        self.checked(reply)
    }

    fn checked(&self, reply: Result<Reply, ConnectionError>) -> Result<Reply, VerifyError> {
        match reply.map_err(|error| self.failed(error))? {
            Reply::Error(text) => Err(self.failed(Refusal::from_error(&text))),
            reply => Ok(reply),
        }
    }

    fn shape(&self, command: &str) -> VerifyError {
        self.failed(format!("unexpected answer to {command}; is the module there of another version?"))
    }

    fn failed(&self, cause: impl fmt::Display) -> VerifyError {
        VerifyError::Site { whose: name(Some(self.instance)), cause: cause.to_string() }
    }
}

fn name(instance: Option<InstanceId>) -> String {
    instance.map_or_else(|| "local server".into(), |instance| format!("instance {instance}"))
}

fn listing(reply: &Reply) -> Option<Listing> {
    let (cut, rest) = reply.elements().split_first()?;
    let (keys, rest) = rest.as_chunks::<3>();
    let one = |[db, name, digest]: &[Reply; 3]| {
        let Reply::Bulk(name) = name else { return None };
        let id = KeyId { db: db.integer()?.try_into().ok()?, name: name.clone() };
        Some((id, digest.text()?.to_owned()))
    };
    let keys = keys.iter().map(one).collect::<Option<_>>()?;
    rest.is_empty().then_some(Listing { keys, is_cut: cut.integer()? != 0 })
}

fn side(reply: &Reply) -> Option<Side> {
    let [digest, newest, kind, size, expire_at] = reply.elements() else { return None };
    Some(Side {
        digest: digest.text()?.to_owned(),
        newest: newest.integer()?.try_into().ok()?,
        kind: kind.text()?.to_owned(),
        size: size.integer()?.try_into().ok()?,
        expire_at_ms: Some(expire_at.integer()?).filter(|at| *at >= 0),
    })
}
