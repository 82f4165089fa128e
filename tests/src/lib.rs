//! The harness around real servers: everything that integration tests, the quickstart and the benchmarks start,
//! stop, cut off, kill and compare. Every process it starts listens on loopback only, lives in its own temporary
//! folder and dies with the value that stands for it.

pub mod agent;
pub mod artifact;
pub mod bench;
pub mod certificate;
pub mod chaos;
pub mod client;
pub mod cluster;
pub mod controls;
pub mod dataset;
pub mod examples;
pub mod figures;
pub mod load;
pub mod members;
pub mod nodes;
pub mod port;
pub mod prefix;
pub mod process;
pub mod proxy;
pub mod reply;
pub mod rounds;
pub mod sentinel;
pub mod server;
pub mod sim;
pub mod snapshot;
pub mod stream;
pub mod torture;
pub mod verify;
pub mod wait;

mod kinds;
