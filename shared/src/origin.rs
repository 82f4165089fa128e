//! Interned replication IDs: inside one shard a reign is a small number.

use hashbrown::HashMap;

use crate::instance::InstanceId;
use crate::replid::ReplId;

/// A reign, as an index into the [`Origins`] of one shard. Means nothing outside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Origin(u16);

impl Origin {
    /// Its place in dense tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The origin at `index` of the dense tables; the caller took the index from one.
    #[must_use]
    pub const fn from_index(index: u16) -> Self {
        Self(index)
    }
}

/// Every reign that a shard has heard of. Grows only; a dot keeps its origin for ever (I-7).
#[derive(Clone, Debug, Default)]
pub struct Origins {
    names: Vec<(ReplId, InstanceId)>,
    by_name: HashMap<ReplId, Origin, foldhash::fast::RandomState>,
}

/// Why a reign was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// A peer is broken or hostile, or ids were given twice.
    #[error("replication ID {replid} belongs to instance {known}, not to {claimed}")]
    OtherInstance {
        /// The name in question.
        replid: ReplId,
        /// Whose it is here.
        known: InstanceId,
        /// Whose it is said to be.
        claimed: InstanceId,
    },
    /// More reigns than a shard keeps.
    #[error("more than {} replication IDs are known here", Origins::COUNT_MAX)]
    TooMany,
}

impl Origins {
    /// A reign begins at a start or a promotion, so thousands are years of operation.
    pub const COUNT_MAX: usize = 4096;

    /// The origin of a replication ID, new or known.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn intern(&mut self, replid: ReplId, instance: InstanceId) -> Result<Origin, OriginError> {
        if let Some(&origin) = self.by_name.get(&replid) {
            let known = self.instance(origin);
            return if known == instance {
                Ok(origin)
            } else {
                Err(OriginError::OtherInstance { replid, known, claimed: instance })
            };
        }
        if self.names.len() >= Self::COUNT_MAX {
            return Err(OriginError::TooMany);
        }
        let origin = Origin(self.names.len() as u16);
        self.names.push((replid, instance));
        self.by_name.insert(replid, origin);
        Ok(origin)
    }

    /// Whether [`Origins::intern`] would take a replication ID after `others` new ones.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn check(&self, replid: ReplId, instance: InstanceId, others: usize) -> Result<(), OriginError> {
        match self.find(&replid).map(|origin| self.instance(origin)) {
            Some(known) if known != instance => Err(OriginError::OtherInstance { replid, known, claimed: instance }),
            None if self.names.len() + others >= Self::COUNT_MAX => Err(OriginError::TooMany),
            _ => Ok(()),
        }
    }

    /// The origin of a known replication ID.
    #[must_use]
    pub fn find(&self, replid: &ReplId) -> Option<Origin> {
        self.by_name.get(replid).copied()
    }

    /// The name of an origin of this table.
    #[must_use]
    pub fn replid(&self, origin: Origin) -> ReplId {
        self.names[origin.index()].0
    }

    /// The instance whose reign it is.
    #[must_use]
    pub fn instance(&self, origin: Origin) -> InstanceId {
        self.names[origin.index()].1
    }

    /// How many reigns are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All origins with their names.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, ReplId, InstanceId)> + '_ {
        self.names.iter().enumerate().map(|(i, &(replid, instance))| (Origin(i as u16), replid, instance))
    }
}
