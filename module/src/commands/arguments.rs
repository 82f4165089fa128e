//! Arguments of commands, checked one by one: a wrong one is named in the error, with what it must be.

use syncer_shared::backlog::NotHeld;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;
use syncer_shared::shard::ForgottenError;
use syncer_shared::token::{ClockToken, TokenError};
use syncer_shared::wire::WireError;

use crate::redis::{Args, Context};
use crate::state::StateError;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A number is none, or out of range.
    #[error("ERR {name} must be an integer from {min} to {max}")]
    Number {
        /// The argument.
        name: &'static str,
        /// Lowest allowed.
        min: i64,
        /// Highest allowed.
        max: i64,
    },
    /// No instance id.
    #[error("ERR {0} must be an instance id, an integer from 1 to 63")]
    Instance(&'static str),
    /// Meant for another site.
    #[error("ERR this server is instance {own}, not {named}")]
    OtherInstance {
        /// This one.
        own: InstanceId,
        /// Who was meant.
        named: InstanceId,
    },
    /// No list of instance ids.
    #[error("ERR wanted must be * or instance ids (1 to 63) joined by commas")]
    Wanted,
    /// No replication ID.
    #[error("ERR {0} must be a replication ID of 40 hex digits")]
    ReplId(&'static str),
    /// No clock token.
    #[error("ERR {0}")]
    Token(#[from] TokenError),
    /// An argument is missing.
    #[error("ERR wrong number of arguments; see SYNCER.HELP")]
    Arity,
    /// No such word.
    #[error("ERR unknown {name} '{word}'; one of: {known}")]
    Word {
        /// The argument.
        name: &'static str,
        /// What came.
        word: String,
        /// What is known.
        known: &'static str,
    },
    /// No list of slots.
    #[error("ERR slots must be hash slots (0 to 16383) or ranges of them, joined by commas: 1,5-7")]
    Slots,
    /// The command waits, which is not possible here.
    #[error("ERR {0} takes its time and cannot run inside MULTI or a script; send it alone")]
    CannotBlock(&'static str),
    /// The server lets no module read the keys of a replica that is a cluster's.
    #[error("SYNCERROLE {0} cannot read the keys of a replica in cluster mode; ask its primary")]
    ClusterReplica(&'static str),
    /// `READ` without a handshake, or after a full sync here.
    #[error("SYNCERNOTHELD nothing to read on this connection; send SYNCER.PSYNC on it first")]
    Moved,
    /// The backlog no longer has what comes next.
    #[error("SYNCERNOTHELD {0}; send SYNCER.PSYNC again")]
    NotHeld(#[from] NotHeld),
    /// What came is no snapshot.
    #[error("SYNCERFRAME {0}")]
    Frame(WireError),
    /// A snapshot of someone else.
    #[error("SYNCERID the snapshot is of instance {is}, not of {said}")]
    OtherSource {
        /// Whom the agent named.
        said: InstanceId,
        /// Whose it is.
        is: InstanceId,
    },
    /// No hash of a file.
    #[error("ERR hash must be a number of at most 16 hex digits")]
    Hash,
    /// Two agents.
    #[error("SYNCERSYNC another agent is bringing a full sync from instance {0}; try again after it")]
    Rival(InstanceId),
    /// The token is of a sync that another one has replaced.
    #[error("SYNCERSYNC that full sync has ended or was replaced; begin anew")]
    OtherSync,
    /// `COMPARE` without `COPY`.
    #[error("SYNCERSYNC this client copies no snapshot; say SYNCER.SYNC COPY first")]
    NotCopying,
    /// This instance is half of a snapshot.
    #[error("SYNCERSYNC a full sync goes on here; try again after it")]
    Syncing,
    /// `RESYNC` with whom nobody connects to.
    #[error("ERR instance {0} is no peer of this instance; see SYNCER.PEERS")]
    NoPeer(InstanceId),
    /// Somebody is out of the group.
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
    /// Data-plane commands are for primaries.
    #[error("SYNCERROLE this server is a replica; connect to its primary")]
    Replica,
    /// See there.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The arguments of one command.
#[derive(Clone, Copy)]
pub struct Arguments<'a>(pub Args<'a>);

impl<'a> Arguments<'a> {
    /// The bytes at `index`.
    pub fn bytes(self, index: usize) -> Result<&'a [u8], CommandError> {
        self.0.bytes(index).ok_or(CommandError::Arity)
    }

    /// The text at `index`; bytes that are no UTF-8 are no word that we know.
    pub fn text(self, index: usize) -> Result<&'a str, CommandError> {
        Ok(std::str::from_utf8(self.bytes(index)?).unwrap_or("\u{fffd}"))
    }

    /// The number at `index`, from 0 to `max`.
    pub fn number(self, index: usize, name: &'static str, max: i64) -> Result<u64, CommandError> {
        let value = self.0.get(index).ok_or(CommandError::Arity)?.as_integer();
        let value = value.filter(|value| (0..=max).contains(value));
        value.map(i64::cast_unsigned).ok_or(CommandError::Number { name, min: 0, max })
    }

    /// The offset, time or other unbounded number at `index`.
    pub fn offset(self, index: usize, name: &'static str) -> Result<u64, CommandError> {
        self.number(index, name, i64::MAX)
    }

    /// The instance id at `index`.
    pub fn instance(self, index: usize, name: &'static str) -> Result<InstanceId, CommandError> {
        let id = self.0.get(index).ok_or(CommandError::Arity)?.as_integer();
        id.and_then(|id| u8::try_from(id).ok()).and_then(InstanceId::new).ok_or(CommandError::Instance(name))
    }

    /// The set of instances at `index`: `*` or ids joined by commas.
    pub fn wanted(self, index: usize) -> Result<InstanceSet, CommandError> {
        let text = self.text(index)?;
        if text == "*" {
            return Ok(InstanceSet::ALL);
        }
        let id = |text: &str| text.parse().ok().and_then(InstanceId::new).ok_or(CommandError::Wanted);
        text.split(',').map(id).collect()
    }

    /// The replication ID at `index`.
    pub fn replid(self, index: usize, name: &'static str) -> Result<ReplId, CommandError> {
        self.text(index)?.parse().map_err(|_| CommandError::ReplId(name))
    }

    /// The clock token at `index`.
    pub fn token(self, index: usize) -> Result<ClockToken, CommandError> {
        Ok(self.text(index)?.parse()?)
    }
}

/// Whether the client can be made to wait.
pub fn may_block(context: &Context) -> bool {
    !context.flags().denies_blocking()
}
