//! Lists: elements with fixed positions (DESIGN 2.3, rules L1 to L10).
//!
//! | file | what is in it |
//! |---|---|
//! | `position` | the identity of an element, and the order |
//! | `wire` | positions in effects |
//! | `chunk`, `ids`, `runs` | ids stored compactly, in list order |
//! | `list` | what is known of one list: its ids, and the dots that they do not imply |
//! | `draft` | what local commands did, by native index |

mod chunk;
pub mod draft;
mod ids;
#[expect(clippy::module_inception, reason = "the noun of the module")]
mod list;
pub mod position;
mod runs;
pub mod wire;

pub use draft::{Drafts, Edit};
pub use list::{List, Spot};
pub(crate) use list::{gather, in_order};
pub use position::{At, End, Name, Reign, RunName, Side};
pub use wire::{AtRange, Ranges, RunRef, Values};
