//! Generated conflicts on real servers (docs/TESTING.md): random commands of every type at 2 to 4 sites of mixed kinds, with
//! cuts; when all is healed, everything must be equal. `./run torture --seed N` replays one.
//!
//! | file | what is in it |
//! |---|---|
//! | `plan` | what a seed means |
//! | `setup` | the servers of a plan, their replicas |
//! | `command`, `commands.txt` | which commands are drawn |
//! | `fault` | what happens to servers meanwhile |
//! | `history` | what was done, for the message of a failure |
//! | `rest` | what must be so when all is over |
//! | `site` | connections of a site, how commands are run there |
//! | `waiter` | clients that wait for elements |
//! | `world` | doing it |

mod command;
mod fault;
mod history;
mod plan;
mod rest;
mod setup;
mod site;
mod waiter;
mod world;

pub use plan::Plan;

/// Runs a seed; returns how many commands were run.
///
/// # Errors
/// How the sites differ, with what was done to the keys that do.
///
/// # Panics
/// When a server, an agent or the proxy ends, or sites don't hear of each other in time.
pub fn run(seed: u64) -> Result<usize, String> {
    world::run(&Plan::from_seed(seed), seed)
}
