//! From a local command to effects (DESIGN 3).

mod log;

use crate::redis::Command;

/// The internal commands of capture.
pub const COMMANDS: &[Command] = &[log::COMMAND];
