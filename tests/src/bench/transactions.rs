//! Transactions as load: redis-benchmark sends single commands only.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use super::cpu;
use super::paced::append;
use super::workload::{KEYS, Workload};

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
                let mut batch = String::new();
                (0..pipeline).for_each(|_| transaction(&mut batch, workload, &mut random));
                stream.write_all(batch.as_bytes()).expect("the server takes transactions");
            }
            streams.iter_mut().for_each(|stream| receive(stream, pipeline * replies(workload)));
            done += pipeline * CLIENTS as u64;
        }
        done as f64 / begun.elapsed().as_secs_f64()
    });
    load.join().expect("the load runs to its end")
}

/// Appends one transaction.
fn transaction(batch: &mut String, workload: Workload, random: &mut fastrand::Rng) {
    append(batch, &["MULTI"]);
    for _ in 0..workload.transaction {
        let words: Vec<String> = workload
            .command
            .iter()
            .map(|word| word.replace("__rand_int__", &format!("{:012}", random.u64(..KEYS))))
            .collect();
        append(batch, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    append(batch, &["EXEC"]);
}

/// Lines of the replies to one transaction whose commands answer with one line each: to MULTI and EXEC, and two to each command.
fn replies(workload: Workload) -> u64 {
    2 + 2 * workload.transaction as u64
}

fn receive(stream: &mut TcpStream, lines: u64) {
    let (mut seen, mut buffer) = (0, [0; 1 << 14]);
    while seen < lines {
        let length = stream.read(&mut buffer).expect("the server replies");
        assert!(length > 0, "the server closed the connection");
        let text = &buffer[..length];
        assert!(!text.contains(&b'-'), "a transaction failed: {}", String::from_utf8_lossy(text));
        seen += text.iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts connections");
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream
}
