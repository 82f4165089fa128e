//! Every codec: what is written reads back; whatever else comes is refused or means something, and never panics (I-10).

mod arbitrary;

use arbitrary::{Owned, build, effects, entry, instance, replid};
use proptest::collection::vec;
use proptest::prelude::*;
use syncer_shared::context::{Entry, StreamContext};
use syncer_shared::group::{self, Frame, GroupView};
use syncer_shared::record::Record;
use syncer_shared::report::{self, MemberReport};
use syncer_shared::timestamp::Timestamp;
use syncer_shared::token::ClockToken;
use syncer_shared::wire::{Reader, WireError, writer};

fn token() -> impl Strategy<Value = ClockToken> {
    vec(entry(), 0..6).prop_map(|entries| entries.into_iter().collect())
}

/// A frame, and what went into it.
fn frame() -> impl Strategy<Value = (Vec<u8>, Vec<Owned>)> {
    (instance(), replid(), 0..1_u64 << 62, 1..1_u64 << 62, vec(entry(), 0..4), effects()).prop_map(
        |(instance, replid, prev, delta, context, effects)| {
            let (mut frame, mut change) = (Vec::new(), Vec::new());
            StreamContext::new().encode_change(context.into_iter(), &mut change);
            let (prev, ts) = (Timestamp::from_bits(prev), Timestamp::from_bits(prev + delta));
            group::encode_frame(&mut frame, instance, &replid, prev, ts, &change, build(&effects).body());
            (frame, effects)
        },
    )
}

/// One frame again, from what was read.
fn encode_again(view: &GroupView<'_>) -> Vec<u8> {
    let mut builder = group::GroupBuilder::new();
    group::effects(view.body).for_each(|effect| builder.push(&effect));
    let mut frame = Vec::new();
    group::encode_frame(&mut frame, view.instance, &view.replid, view.prev, view.ts, view.change, builder.body());
    frame
}

proptest! {
    #[test]
    fn effects_read_back(effects in effects()) {
        let group = build(&effects);
        prop_assert_eq!(group::check(group.body()), Ok(effects.len() as u32));
        prop_assert_eq!(group.count() as usize, effects.len());
        let read: Vec<_> = group::effects(group.body()).collect();
        let written: Vec<_> = effects.iter().map(Owned::effect).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn a_cleared_builder_is_a_new_one(first in effects(), second in effects()) {
        let mut group = build(&first);
        group.clear();
        prop_assert!(group.is_empty());
        second.iter().for_each(|effect| group.push(&effect.effect()));
        let fresh = build(&second);
        prop_assert_eq!(group.body(), fresh.body());
    }

    #[test]
    fn frames_read_back((frame, effects) in frame(), rest in vec(any::<u8>(), 0..20)) {
        let input = [frame.clone(), rest.clone()].concat();
        let (view, after) = GroupView::parse(&input).expect("a valid frame");
        prop_assert_eq!(after, &rest[..]);
        prop_assert_eq!(view.frame, &frame[..]);
        prop_assert_eq!(group::effects(view.body).count(), effects.len());
        prop_assert_eq!(encode_again(&view), frame);
    }

    #[test]
    fn a_flipped_bit_is_noticed((frame, _) in frame(), at: prop::sample::Index, bit in 0..8_u8) {
        let mut broken = frame;
        let at = at.index(broken.len());
        broken[at] ^= 1 << bit;
        prop_assert!(GroupView::parse(&broken).is_err());
    }

    #[test]
    fn a_truncated_frame_is_refused((frame, _) in frame(), at: prop::sample::Index) {
        prop_assert!(Frame::parse(&frame[..at.index(frame.len())]).is_err());
    }

    /// Damage with a right checksum: a hostile or buggy sender. What is accepted has one encoding.
    #[test]
    fn a_forged_frame_is_refused_or_means_something((frame, _) in frame(), at: prop::sample::Index, byte: u8) {
        let mut forged = frame;
        let at = at.index(forged.len() - 8) + 8;
        forged[at] = byte;
        let checksum = crc32fast::hash(&forged[8..]).to_le_bytes();
        forged[4..8].copy_from_slice(&checksum);
        if let Ok((Frame::Group(view), _)) = Frame::parse(&forged) {
            prop_assert_eq!(encode_again(&view), forged);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Frame::parse(&bytes);
        let _ = group::check(&bytes);
        let _ = group::effects(&bytes).count();
        let _ = report::decode(&bytes);
        let _ = Record::parse(&bytes);
        let _ = StreamContext::new().apply_change(&bytes);
        let _ = ClockToken::decode(&mut Reader::new(&bytes));
        let _ = String::from_utf8_lossy(&bytes).parse::<ClockToken>();
    }

    #[test]
    fn numbers_have_one_encoding(unsigned: u64, signed: i64, bytes in vec(any::<u8>(), 0..12)) {
        let mut out = Vec::new();
        writer::varint(&mut out, unsigned);
        writer::signed(&mut out, signed);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.varint("n"), Ok(unsigned));
        prop_assert_eq!(reader.signed("n"), Ok(signed));
        prop_assert!(reader.is_empty());
        let mut reader = Reader::new(&bytes);
        if let Ok(number) = reader.varint("n") {
            let mut again = Vec::new();
            writer::varint(&mut again, number);
            prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.rest().len()]);
        }
    }

    #[test]
    fn tokens_read_back(token in token()) {
        let mut out = Vec::new();
        token.encode(&mut out);
        prop_assert_eq!(ClockToken::decode(&mut Reader::new(&out)), Ok(token.clone()));
        prop_assert_eq!(token.to_string().parse(), Ok(token.clone()));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        prop_assert!(token.to_string().chars().all(plain));
    }

    #[test]
    fn a_token_cut_while_pasting_is_refused(token in token(), at: prop::sample::Index) {
        let text = token.to_string();
        prop_assert!(text[..at.index(text.len())].parse::<ClockToken>().is_err());
    }

    #[test]
    fn reports_read_back(members in vec((instance(), token(), token()), 0..5)) {
        let mut members: Vec<_> = members
            .into_iter()
            .map(|(instance, durable, applied)| MemberReport { instance, durable, applied })
            .collect();
        members.sort_by_key(|member| member.instance);
        members.dedup_by_key(|member| member.instance);
        let mut out = Vec::new();
        report::encode(&members, &mut out);
        prop_assert_eq!(report::decode(&out), Ok(members));
    }

    #[test]
    fn records_read_back(
        (frame, _) in frame(), (other, _) in frame(),
        peer in instance(), replid in replid(), offset: u64, clock in token(),
        before in vec((any::<u32>(), any::<Option<Vec<u8>>>()), 0..3),
    ) {
        let mut out = Vec::new();
        Record::captured(&mut out, &before);
        out.extend_from_slice(&frame);
        match Record::parse(&out) {
            Ok(Record::Captured { before: read, frame: group }) => prop_assert_eq!((read, group), (before, &frame[..])),
            other => prop_assert!(false, "{:?}", other),
        }
        let mut out = Vec::new();
        Record::authored(&mut out);
        out.extend_from_slice(&frame);
        let is_it = matches!(Record::parse(&out), Ok(Record::Authored { frame: group }) if group == frame);
        prop_assert!(is_it);
        let mut out = Vec::new();
        Record::applied(&mut out, peer, &replid);
        out.extend_from_slice(&frame);
        out.extend_from_slice(&other);
        Record::finish_applied(&mut out, offset);
        match Record::parse(&out) {
            Ok(Record::Applied { peer: p, replid: r, offset: o, frames }) => {
                prop_assert_eq!((p, r, o, frames), (peer, replid, offset, &[frame, other].concat()[..]));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        let mut out = Vec::new();
        Record::position(&mut out, peer, &replid, offset);
        match Record::parse(&out) {
            Ok(Record::Position { peer: p, replid: r, offset: o }) => prop_assert_eq!((p, r, o), (peer, replid, offset)),
            other => prop_assert!(false, "{:?}", other),
        }
        let mut out = Vec::new();
        Record::stable(&mut out, &clock);
        let is_it = matches!(Record::parse(&out), Ok(Record::Stable { clock: c }) if c == clock);
        prop_assert!(is_it);
    }

    /// Author and receivers keep one list, group by group.
    #[test]
    fn context_lists_stay_alike(steps in vec(vec((0..6_usize, 1..1000_u64), 0..5), 1..20)) {
        let names: Vec<Entry> = (1..=6_u8).map(|i| {
            let instance = syncer_shared::instance::InstanceId::new(i).expect("in range");
            (syncer_shared::replid::ReplId::from_bytes([i; 20]), instance, Timestamp::ZERO)
        }).collect();
        let (mut author, mut receiver) = (StreamContext::new(), StreamContext::new());
        let mut now = [0_u64; 6];
        for step in steps {
            let mut changed = Vec::new();
            for (who, by) in step {
                now[who] += by;
                changed.push((names[who].0, names[who].1, Timestamp::from_bits(now[who])));
            }
            let mut change = Vec::new();
            author.encode_change(changed.into_iter(), &mut change);
            prop_assert_eq!(receiver.check_change(&change), Ok(()));
            receiver.apply_change(&change).expect("the author's change fits");
            prop_assert_eq!(author.entries(), receiver.entries());
            for (replid, _, ts) in author.entries() {
                let who = names.iter().position(|(name, ..)| name == replid).expect("known");
                prop_assert_eq!(ts.bits(), now[who]);
            }
        }
    }

    #[test]
    fn a_refused_context_change_changes_nothing(good in vec(entry(), 1..4), bytes in vec(any::<u8>(), 0..80)) {
        let (mut context, mut change) = (StreamContext::new(), Vec::new());
        context.encode_change(good.into_iter(), &mut change);
        let before = context.clone();
        if context.apply_change(&bytes).is_err() {
            prop_assert_eq!(context, before);
        }
    }
}

#[test]
fn a_quiet_context_takes_one_byte() {
    let mut change = Vec::new();
    StreamContext::new().encode_change(std::iter::empty(), &mut change);
    assert_eq!(change, StreamContext::EMPTY_CHANGE);
}

#[test]
fn counts_that_the_bytes_do_not_justify_allocate_nothing() {
    let mut claim = Vec::new();
    writer::varint(&mut claim, 4096);
    assert_eq!(ClockToken::decode(&mut Reader::new(&claim)), Err(WireError::Truncated { what: "clock" }));
    let mut claim = vec![1, 1];
    writer::varint(&mut claim, u64::MAX);
    assert!(Record::parse(&claim).is_err());
}

#[test]
fn skips_stand_for_bytes_of_backlog() {
    let mut out = Vec::new();
    group::encode_skip(&mut out, 12345);
    assert_eq!(out.len(), 17);
    let (frame, rest) = Frame::parse(&out).expect("a skip frame");
    assert!(rest.is_empty());
    assert_eq!(frame.advance(), 12345);
    assert!(GroupView::parse(&out).is_err(), "a skip is no group");
    let mut out = Vec::new();
    group::encode_skip(&mut out, 0);
    assert!(Frame::parse(&out).is_err());
}

/// Found by fuzzing: a SELECT that says nothing, before an effect without a key, gave a body two encodings.
#[test]
fn a_select_comes_only_before_a_key() {
    let (select, join, persist) = ([0, 24], [24, 17], [21, 1, b'k']);
    assert!(group::check(&[&select[..], &join].concat()).is_err());
    assert!(group::check(&select).is_err());
    assert_eq!(group::check(&[&select[..], &persist].concat()), Ok(1));
}
