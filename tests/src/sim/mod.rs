//! The deterministic simulation: 2 to 5 instances over the production shard, backlog and merge, and a dataset in memory.
//!
//! Everything comes from a seed. First faults, with safety checked at every step; then everything is healed and
//! convergence is demanded. What an instance shows is compared with the [`oracle`], which keeps every live dot for
//! ever and knows nothing of pruning, parked payloads or stability.

#[cfg(test)]
mod backup_cases;
#[cfg(test)]
mod cases;
pub mod chaos;
pub mod client;
#[cfg(test)]
mod dropped_cases;
pub mod follower;
pub mod instance;
#[cfg(test)]
mod join_cases;
#[cfg(test)]
mod late_cases;
pub mod link;
#[cfg(test)]
mod list_cases;
pub mod losses;
#[cfg(test)]
mod member_cases;
pub mod members;
#[cfg(test)]
mod met_cases;
#[cfg(test)]
mod number_cases;
pub mod oracle;
#[cfg(test)]
mod pair_cases;
#[cfg(test)]
mod patch_cases;
pub mod plan;
pub mod registry;
#[cfg(test)]
mod reign_cases;
#[cfg(test)]
mod rejoin_cases;
pub mod short_lived;
#[cfg(test)]
mod spool_cases;
#[cfg(test)]
mod stream_cases;
pub mod streams;
pub mod sync;
#[cfg(test)]
mod sync_cases;
#[cfg(test)]
mod sync_rule_cases;
#[cfg(test)]
mod taken_cases;
#[cfg(test)]
mod torn_cases;
#[cfg(test)]
mod ttl_cases;
#[cfg(test)]
mod whole_cases;
pub mod world;

pub use plan::Plan;
pub use world::World;

/// What went wrong, for people.
pub type Check = Result<(), String>;

/// Runs one seed. `trace` prints what happens.
///
/// # Errors
/// The invariant that does not hold.
pub fn run(seed: u64, trace: bool) -> Check {
    run_plan(&Plan::from_seed(seed), trace)
}

/// Runs one plan.
///
/// # Errors
/// The invariant that does not hold.
pub fn run_plan(plan: &Plan, trace: bool) -> Check {
    let mut world = World::new(plan, trace);
    world.chaos()?;
    world.heal()
}
