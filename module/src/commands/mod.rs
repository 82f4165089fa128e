//! The `SYNCER.*` commands for users and agents.

use crate::redis::Command;

/// Every command of this folder.
pub const COMMANDS: &[Command] = &[];
