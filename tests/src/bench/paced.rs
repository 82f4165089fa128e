//! Load at a fixed rate (open loop), and writing a lot as fast as one connection can.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::workload::{KEYS, VALUE};

/// How often a batch of writes goes out.
const TICK: Duration = Duration::from_micros(500);

/// Commands per batch when there is no rate.
const BATCH: u64 = 1000;

/// SETs of random keys at a rate, until stopped. A server that is slow for a while gets what it missed.
/// Returns the writes per second that were acknowledged.
pub fn set_at(port: u16, rate: u64, stop: &AtomicBool) -> f64 {
    let mut stream = connect(port);
    let per_tick = rate as f64 * TICK.as_secs_f64();
    let (begun, mut sent, mut seed) = (Instant::now(), 0u64, 1u64);
    let mut batch = String::new();
    for tick in 1u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        batch.clear();
        let due = (per_tick * f64::from(tick)) as u64;
        for _ in sent..due {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            set(&mut batch, (seed >> 33) % KEYS);
        }
        exchange(&mut stream, &batch, due - sent);
        sent = due;
        thread::sleep((begun + TICK * tick).saturating_duration_since(Instant::now()));
    }
    sent as f64 / begun.elapsed().as_secs_f64()
}

/// SETs of all keys of a range, once each, pipelined.
pub fn set_all(port: u16, keys: std::ops::Range<u64>) {
    each(port, keys, set);
}

/// One command, written into the batch by `command`, for every number of a range.
pub fn each(port: u16, numbers: std::ops::Range<u64>, command: impl Fn(&mut String, u64)) {
    let mut stream = connect(port);
    let mut batch = String::new();
    for from in numbers.clone().step_by(BATCH as usize) {
        let to = (from + BATCH).min(numbers.end);
        batch.clear();
        (from..to).for_each(|number| command(&mut batch, number));
        exchange(&mut stream, &batch, to - from);
    }
}

/// Appends one command in the servers' protocol.
pub fn append(batch: &mut String, words: &[&str]) {
    write!(batch, "*{}\r\n", words.len()).expect("writing to a String cannot fail");
    for word in words {
        write!(batch, "${}\r\n{word}\r\n", word.len()).expect("writing to a String cannot fail");
    }
}

fn set(batch: &mut String, key: u64) {
    append(batch, &["SET", &format!("key:{key:012}"), VALUE]);
}

/// A connection that sends at once.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts connections");
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream
}

/// Sends the batch and waits for as many one-line replies.
fn exchange(stream: &mut TcpStream, batch: &str, commands: u64) {
    stream.write_all(batch.as_bytes()).expect("the server takes commands");
    receive(stream, commands);
}

/// Waits for so many lines of replies.
///
/// # Panics
/// On an error reply: what was to be measured did not happen.
pub fn receive(stream: &mut TcpStream, lines: u64) {
    let (mut replies, mut buffer) = (0, [0; 1 << 14]);
    while replies < lines {
        let length = stream.read(&mut buffer).expect("the server replies");
        assert!(length > 0, "the server closed the connection");
        let text = &buffer[..length];
        assert!(!text.contains(&b'-'), "a write failed: {}", String::from_utf8_lossy(text));
        replies += text.iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
}
