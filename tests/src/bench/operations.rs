//! Transactions as load: redis-benchmark sends single commands only.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use super::cpu;
use super::paced::{connect, receive};
use super::workload::Workload;
use crate::client::encode;

/// Connections, as redis-benchmark has.
const CLIENTS: usize = 50;

/// Runs so many transactions of this workload with `pipeline` in flight per connection, from the core beside the server's, as
/// redis-benchmark runs commands: in a closed loop. Returns the transactions per second.
///
/// # Panics
/// When the server refuses one.
pub fn run(port: u16, workload: Workload, pipeline: u64, requests: u64) -> f64 {
    let load = thread::spawn(move || {
        cpu::pin_thread(cpu::OTHER_CORE);
        let mut streams: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(port)).collect();
        let mut random = fastrand::Rng::with_seed(requests);
        let (begun, mut done) = (Instant::now(), 0);
        while done < requests {
            for stream in &mut streams {
                let mut batch = Vec::new();
                let mut append = |words: &Vec<Vec<u8>>| encode(words, &mut batch);
                (0..pipeline).for_each(|_| workload.operation(&mut random).iter().for_each(&mut append));
                stream.write_all(&batch).expect("the server takes transactions");
            }
            streams.iter_mut().for_each(|stream| receive(stream, pipeline * replies(workload)));
            done += pipeline * CLIENTS as u64;
        }
        done as f64 / begun.elapsed().as_secs_f64()
    });
    load.join().expect("the load runs to its end")
}

/// Lines of the replies to one transaction whose commands answer with one line each: to MULTI and EXEC, and two to each command.
fn replies(workload: Workload) -> u64 {
    2 + 2 * workload.transaction as u64
}
