//! Benchmarks: Syncer beside the stock server and the stock primary with its replica, in one run, in interleaved
//! rounds, on the same cores.
//!
//! Absolute times say something about the machine only. What counts are CPU microseconds per operation and ratios to
//! the stock contestants of the same round.

pub mod callgrind;
pub mod catch_up;
pub mod contestant;
pub mod cpu;
pub mod footprint;
pub mod full_sync;
pub mod generator;
pub mod hot;
pub mod instructions;
pub mod lag;
pub mod machine;
pub mod memory;
pub mod neighbour;
pub mod operations;
pub mod options;
pub mod outage;
pub mod paced;
pub mod peak;
pub mod percentile;
pub mod reading;
pub mod slices;
pub mod statistics;
pub mod table;
pub mod target;
pub mod throughput;
pub mod workload;
