//! Load that redis-benchmark cannot make: transactions, and commands that take what others have made, with the same numbers.

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

/// Runs so many operations of this workload with `pipeline` in flight per connection, from the core beside the server's, as
/// redis-benchmark runs commands: in a closed loop. Returns the operations per second.
///
/// # Panics
/// When the server refuses one.
pub fn run(port: u16, workload: Workload, pipeline: u64, requests: u64) -> f64 {
    let replies = lines(workload);
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
                stream.write_all(&batch).expect("the server takes operations");
            }
            streams.iter_mut().for_each(|stream| receive(stream, pipeline * replies));
            done += pipeline * CLIENTS as u64;
        }
        done as f64 / begun.elapsed().as_secs_f64()
    });
    load.join().expect("the load runs to its end")
}

/// Lines of the replies to one operation. In a transaction each command, which answers with one line, has two, MULTI and EXEC one each.
fn lines(workload: Workload) -> u64 {
    match workload.transaction {
        0 => workload.lines,
        commands => 2 + 2 * commands as u64,
    }
}
