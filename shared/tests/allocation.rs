//! No decoder allocates more than the bytes justify, whatever they claim. A binary of its own, since it counts what is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use syncer_shared::context::StreamContext;
use syncer_shared::group::{self, Frame};
use syncer_shared::hyperloglog::HyperLogLog;
use syncer_shared::instance::InstanceId;
use syncer_shared::record::Record;
use syncer_shared::report;
use syncer_shared::shard::{Restorer, ShardConfig};
use syncer_shared::slot::SlotDigests;
use syncer_shared::snapshot::{SnapshotHead, SnapshotKey};
use syncer_shared::token::ClockToken;
use syncer_shared::wire::{Reader, writer};

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts the bytes that a thread asks for, freed or not.
struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn restorer() -> Restorer {
    Restorer::new(ShardConfig::new(InstanceId::new(1).expect("in range")))
}

fn allocated(body: impl FnOnce()) -> usize {
    let before = ALLOCATED.get();
    body();
    ALLOCATED.get() - before
}

/// A decoder, and what it may allocate: a constant (tables of a fixed size), and so much for each byte of input.
struct Decoder {
    name: &'static str,
    constant: usize,
    per_byte: usize,
    decode: fn(&[u8]),
}

/// A map's node, a vector that doubled, and their elements are behind few bytes of input.
const PER_BYTE: usize = 256;

const DECODERS: [Decoder; 11] = [
    Decoder { name: "frame", constant: 4096, per_byte: PER_BYTE, decode: |bytes| _ = Frame::parse(bytes) },
    Decoder { name: "effects", constant: 4096, per_byte: PER_BYTE, decode: |bytes| _ = group::check(bytes) },
    Decoder { name: "record", constant: 4096, per_byte: PER_BYTE, decode: |bytes| drop(Record::parse(bytes)) },
    Decoder {
        name: "clock",
        constant: 4096,
        per_byte: PER_BYTE,
        decode: |bytes| drop(ClockToken::decode(&mut Reader::new(bytes))),
    },
    Decoder { name: "report", constant: 4096, per_byte: PER_BYTE, decode: |bytes| drop(report::decode(bytes)) },
    Decoder {
        name: "context",
        constant: 4096,
        per_byte: PER_BYTE,
        decode: |bytes| _ = StreamContext::new().apply_change(bytes),
    },
    Decoder { name: "head", constant: 4096, per_byte: PER_BYTE, decode: |bytes| drop(SnapshotHead::decode(bytes)) },
    Decoder {
        name: "key",
        constant: 64 << 10,
        per_byte: PER_BYTE,
        decode: |bytes| drop(SnapshotKey::decode(&mut Reader::new(bytes))),
    },
    // A shard is there from the start.
    Decoder {
        name: "saved state",
        constant: 64 << 10,
        per_byte: PER_BYTE,
        decode: |bytes| drop(restorer().push(bytes)),
    },
    // 16384 slots and registers, always.
    Decoder { name: "slots", constant: 1 << 20, per_byte: 0, decode: |bytes| drop(SlotDigests::decode(bytes)) },
    Decoder { name: "registers", constant: 64 << 10, per_byte: 0, decode: |bytes| drop(HyperLogLog::parse(bytes)) },
];

/// The released bytes, with a number put into each place: small, large, and as large as one can be.
fn inputs() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/wire-v1");
    let files = fs::read_dir(folder).expect("the fixtures are there").flatten().map(|entry| entry.path());
    let hex = files.filter(|path| path.extension().is_some_and(|ending| ending == "hex"));
    let texts = hex.map(|path| fs::read_to_string(path).expect("a fixture can be read"));
    let golden: Vec<Vec<u8>> = texts.map(|text| bytes_of(&text)).collect();
    assert!(golden.len() > 10, "{} fixtures", golden.len());
    let numbers = [100, 4096, 1 << 20, 1 << 28, (1 << 30) - 1, 1 << 40, u64::MAX].map(|number| {
        let mut bytes = Vec::new();
        writer::varint(&mut bytes, number);
        bytes
    });
    let mut inputs = golden.clone();
    for bytes in &golden {
        for at in 0..bytes.len().min(200) {
            inputs.extend(numbers.iter().map(|number| [&bytes[..at], number, &bytes[at + 1..]].concat()));
        }
    }
    inputs.extend((0..=255).flat_map(|first| numbers.iter().map(move |number| [&[first], &number[..]].concat())));
    inputs.extend((0..=255).flat_map(|first| numbers.iter().map(move |number| [&[first, 1], &number[..]].concat())));
    inputs
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let lines = hex.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: Vec<u8> = lines.flat_map(str::bytes).filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn what_is_claimed_allocates_nothing() {
    let inputs = inputs();
    for Decoder { name, constant, per_byte, decode } in DECODERS {
        let cost = |bytes: &Vec<u8>| allocated(|| decode(bytes)).saturating_sub(per_byte * bytes.len());
        let worst = inputs.iter().max_by_key(|bytes| cost(bytes)).expect("there are inputs");
        assert!(cost(worst) <= constant, "{name} allocates {} bytes for {worst:02x?}", allocated(|| decode(worst)));
    }
    // The measure is one: what is really there is counted.
    assert!(allocated(|| drop(vec![0_u8; 1 << 20])) >= 1 << 20);
}

/// A parked value of many megabytes: with each piece it had been copied as far as it was there.
#[test]
fn a_large_item_of_a_saved_state_is_not_copied_with_each_piece() {
    const BYTES: usize = 16 << 20;
    // A stretch of a backlog that was not announced: refused as soon as it is there, and not before.
    let mut state = vec![17];
    writer::prefixed(&mut state, &vec![7; BYTES]);
    let mut restorer = restorer();
    let (most, last) = state.split_at(BYTES);
    let cost = allocated(|| most.chunks(16 << 10).for_each(|piece| restorer.push(piece).expect("it is not there yet")));
    assert!(cost < 8 * BYTES, "{cost} bytes are allocated for an item of {BYTES}");
    assert!(restorer.push(last).is_err());
}
