//! Conflict metadata: what is known beside the dataset, only for what is not yet known to be everywhere (I-9).

pub mod fold;
mod grace;
pub mod increments;
pub mod key;
pub mod patches;
pub mod path;
pub mod payload;
mod prune;
mod table;
pub mod ttl;

pub use fold::Class;
pub use increments::{Incremented, Increments};
pub use key::{KeyMeta, KindMeta, Paths, element, path_of};
pub use patches::{Part, Patches};
pub use path::{Assigned, Base, PathMeta, Sum, Top};
pub use payload::Payload;
pub use table::{KeyId, Table};
pub use ttl::{TtlDot, TtlMeta};
