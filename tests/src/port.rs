//! Free loopback ports for servers that must be told their port.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::TcpListener;

/// Below the range that the kernel gives to outgoing connections, so that none of those takes a port between the
/// look here and the server's bind.
const PORTS: std::ops::Range<u64> = 10_000..32_000;

/// A port that nobody listens on at this moment, taken at random. Another process may still take it first: starters
/// of servers try again with another port then.
pub fn free() -> u16 {
    (0..1000)
        .map(|attempt: u64| PORTS.start + RandomState::new().hash_one(attempt) % (PORTS.end - PORTS.start))
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of a thousand random ports is free")
}
