//! Groups: all effects of one transaction, script or command, with one context (DESIGN 2.1, rules G1, G2).
//!
//! The *body* is the encoded effects; a *frame* is a body with its header, self-contained, and verbatim the same
//! bytes in the backlog, in `SYNCER.READ`, `SYNCER.APPLY` and `SYNCER.LOG` (docs/PROTOCOL.md 3 and 4).

mod builder;
mod code;
mod effects;
mod frame;
mod streams;

pub use builder::GroupBuilder;
pub use effects::{Effects, check, effects};
pub use frame::{Frame, GroupView, Header, Skip, encode_frame, encode_skip};
