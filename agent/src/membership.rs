//! `syncer-agent join` and `forget`: changing who belongs to the group. The modules decide; this carries their words.

use std::time::Duration;

use syncer_shared::instance::InstanceId;

use crate::config::{Config, Site};
use crate::connection::{Connection, ConnectionError, within};
use crate::finder::{Finder, NotFound};
use crate::protocol::Refusal;
use crate::resp::Reply;

/// How often a sponsor that must wait for others is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// Emptying a large dataset takes its time.
const JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Nobody is there.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The connection broke.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The server's own words.
    #[error("{whose} refused: {refusal}")]
    Refused {
        /// Which server.
        whose: String,
        /// What it said.
        refusal: Refusal,
    },
    /// No peer could be asked.
    #[error("no peer lets this instance join; the last one said: {0}")]
    NoSponsor(Box<MembershipError>),
    /// An answer of another shape.
    #[error("{0} answers what is not understood; is its module of another version?")]
    Shape(String),
}

/// What becomes of data that the joining instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinOptions {
    /// `REFUSE`, `REPLACE` or `MERGE`.
    pub data: &'static str,
    /// `MINE` or `GROUP`: who wins where both have something.
    pub wins: &'static str,
    /// How long to ask a sponsor again that is not ready.
    pub patience: Duration,
}

/// A connection to one server, with its name for messages.
struct Server {
    connection: Connection,
    name: String,
}

impl Server {
    async fn open(site: &Site, name: String, timeout: Duration) -> Result<Self, MembershipError> {
        let endpoint = Finder::new(site.clone(), timeout).find().await?;
        Ok(Self { connection: Connection::open(&endpoint, timeout).await?, name })
    }

    async fn ask(&mut self, args: &[&[u8]]) -> Result<Reply, MembershipError> {
        match self.connection.call(args).await? {
            Reply::Error(text) => {
                Err(MembershipError::Refused { whose: self.name.clone(), refusal: Refusal::from_error(&text) })
            }
            reply => Ok(reply),
        }
    }
}

/// Takes `instance` out of the group that the local server belongs to.
///
/// # Errors
/// See [`MembershipError`].
pub async fn forget(local: &Site, instance: InstanceId, timeout: Duration) -> Result<(), MembershipError> {
    let mut server = Server::open(local, "the local server".into(), timeout).await?;
    server.ask(&[b"SYNCER.FORGET", instance.to_string().as_bytes()]).await.map(drop)
}

/// Lets the local server join the group of its peers; the first of them that does is the sponsor. `syncer-agent run` then brings the data.
///
/// # Errors
/// See [`MembershipError`]. The local server is as it was, unless its own answer says otherwise.
pub async fn join(config: &Config, options: JoinOptions) -> Result<InstanceId, MembershipError> {
    let timeout = config.settings.connect_timeout;
    let mut local = Server::open(&config.local, "the local server".into(), timeout).await?;
    let how: [&[u8]; 4] = [b"DATA", options.data.as_bytes(), b"WINS", options.wins.as_bytes()];
    // Before anybody lets it join: whether it can.
    let [data, mode, wins, who] = how;
    let me = local.ask(&[b"SYNCER.JOIN", b"CHECK", data, mode, wins, who]).await?;
    let me = me.integer().ok_or_else(|| MembershipError::Shape(local.name.clone()))?.to_string();
    let mut last = None;
    for (peer, site) in &config.peers {
        match sponsor(site, *peer, &me, options.patience, timeout).await {
            Ok(clock) => {
                let endpoint = Finder::new(config.local.clone(), timeout).find().await?;
                let words: [&[u8]; 6] = [b"SYNCER.JOIN", &clock, data, mode, wins, who];
                let joining = local.connection.call(&words);
                return match within(JOIN_TIMEOUT, &endpoint, joining).await? {
                    Reply::Error(text) => {
                        Err(MembershipError::Refused { whose: local.name, refusal: Refusal::from_error(&text) })
                    }
                    _ => Ok(*peer),
                };
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| MembershipError::Shape("nobody".into()), |error| MembershipError::NoSponsor(error.into())))
}

/// Asks one peer, again while it says that it is not ready. Its clock, as a token.
async fn sponsor(
    site: &Site,
    peer: InstanceId,
    me: &str,
    patience: Duration,
    timeout: Duration,
) -> Result<bytes::Bytes, MembershipError> {
    let mut server = Server::open(site, format!("peer {peer}"), timeout).await?;
    let until = tokio::time::Instant::now() + patience;
    loop {
        match server.ask(&[b"SYNCER.SPONSOR", me.as_bytes()]).await {
            Ok(Reply::Bulk(clock) | Reply::Status(clock)) => return Ok(clock),
            Ok(_) => return Err(MembershipError::Shape(server.name)),
            Err(MembershipError::Refused { refusal, .. })
                if refusal.code == crate::protocol::Code::Busy && tokio::time::Instant::now() < until => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
