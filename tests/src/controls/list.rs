//! The list. What is broken is the least that breaks the rule, and nothing else.

use super::{Control, Test};

/// All of them, in the order of the rules.
pub const CONTROLS: &[Control] = &[
    Control {
        rule: "2.1",
        without: "a group is taken that has a gap before it",
        file: "shared/src/shard/apply.rs",
        find: "if group.prev != *have {",
        replace: "if group.prev < *have {",
        test: Test::case("sim::pair_cases::a_group_is_taken_only_behind_the_one_before_it"),
    },
    Control {
        rule: "L1",
        without: "the reigns of one instance name their runs alike",
        file: "shared/src/list/position.rs",
        find: "replid.copy_from_slice(reign.replid.as_bytes());",
        replace: "replid.fill(0);",
        test: Test::case("sim::list_cases::l1_a_position_says_its_run_and_the_dot_that_made_it"),
    },
    Control {
        rule: "L2",
        without: "what is before an element and what is after it change places",
        file: "shared/src/list/position.rs",
        find: "high.fill(if (side == Side::Before) == anchor.is_empty() {",
        replace: "high.fill(if side == Side::Before {",
        test: Test::unit("list::position::tests::an_anchor_has_its_elements_around_it"),
    },
    Control {
        rule: "L2",
        without: "an element whose anchor is gone is not inserted",
        file: "shared/src/merge/list.rs",
        find: "let run = run.name(author.reign, author.now);",
        replace: "let run = run.name(author.reign, author.now);
        let is_anchor = |name: &[u8]| name.split_last().is_some_and(|(_, segments)| segments == run.anchor());
        if !run.anchor().is_empty() && !self.shown_list(key).names().any(|name| is_anchor(&name)) {
            return;
        }",
        test: Test::case("sim::list_cases::l2_an_element_comes_to_its_place_though_its_anchor_is_gone"),
    },
    Control {
        rule: "L3",
        without: "behind an anchor a later run is further from it",
        file: "shared/src/list/position.rs",
        find: "            flip(run);",
        replace: "",
        test: Test::unit("list::position::tests::later_is_nearer_to_the_anchor_on_both_sides"),
    },
    Control {
        rule: "L3",
        without: "behind an anchor a later element of a run is further from it",
        file: "shared/src/list/position.rs",
        find: "flip(name.get_mut(from..).unwrap_or_default());",
        replace: "let _ = from;",
        test: Test::unit("list::position::tests::later_is_nearer_to_the_anchor_on_both_sides"),
    },
    Control {
        rule: "L5",
        without: "an insert does not carry the path of its run",
        file: "shared/src/list/wire.rs",
        find: "Self { anchor: run.anchor(), side: run.side(), begun }",
        replace: "Self { anchor: &[], side: run.side(), begun }",
        test: Test::case("sim::list_cases::l2_an_element_comes_to_its_place_though_its_anchor_is_gone"),
    },
    Control {
        rule: "L5",
        without: "a removal names each element by itself",
        file: "shared/src/shard/edit.rs",
        find: "Some((known, _, to)) if *known == run => *to = at,",
        replace: "Some((known, _, to)) if *known == run && *to == at => *to = at,",
        test: Test::case("sim::list_cases::l5_a_command_is_one_range"),
    },
    Control {
        rule: "L9",
        without: "a full sync leaves what its source has taken out of a list",
        file: "shared/src/merge/meet.rs",
        find: "let path = path_of(*kind, element);",
        replace: "let path = path_of(*kind, element);
                if *kind == crate::effect::Kind::List && source.path(path).is_none() {
                    keep(path, at_target.clone());
                    continue;
                }",
        test: Test::case("sim::list_cases::l9_lists_meet_position_by_position"),
    },
    Control {
        rule: "L9",
        without: "a full sync takes out of a list what its source has never had",
        file: "shared/src/merge/meet.rs",
        find: "let path = path_of(*kind, element);",
        replace: "let path = path_of(*kind, element);
                if *kind == crate::effect::Kind::List && source.path(path).is_none() {
                    continue;
                }",
        test: Test::case("sim::list_cases::l9_lists_meet_position_by_position"),
    },
    Control {
        rule: "L9",
        without: "two lists that meet are not sorted by position",
        file: "shared/src/list/list.rs",
        find: "items.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));",
        replace: "",
        test: Test::case("sim::list_cases::l9_lists_meet_position_by_position"),
    },
    Control {
        rule: "L10",
        without: "who touches a list without ids first writes it anew",
        file: "shared/src/shard/edit.rs",
        find: "let list_is_new = known.is_none();",
        replace: "let list_is_new = known.is_none();
        if list_is_new && len > 0 {
            return editing.untold.push((draft.db, draft.key));
        }",
        test: Test::case("sim::pair_cases::l10_elements_without_ids_are_the_same_at_all_sites"),
    },
    Control {
        rule: "L10",
        without: "what comes from elsewhere finds no ids in a list without",
        file: "shared/src/merge/list.rs",
        find: "self.list(key, |keyspace| keyspace.list_len(key.db, key.name))",
        replace: "self.list(key, |_| 0)",
        test: Test::case("sim::pair_cases::l10_an_effect_from_elsewhere_finds_the_element_that_it_names"),
    },
    Control {
        rule: "stream ids are unique",
        without: "two instances generate one id",
        file: "shared/src/stream.rs",
        find: " + u64::from(instance) % INSTANCES)",
        replace: " + u64::from(instance) / INSTANCES)",
        test: Test::unit("stream::tests::instances_never_generate_the_same_id"),
    },
    Control {
        rule: "stream ids are unique",
        without: "two reigns of one instance generate one id",
        file: "shared/src/stream.rs",
        find: "u64::from(u16::from_le_bytes([low, high])) * INSTANCES",
        replace: "u64::from(u16::from_le_bytes([low, high])) / (1 << 16) * INSTANCES",
        test: Test::unit("stream::tests::reigns_never_generate_the_same_id"),
    },
    Control {
        rule: "stream ids are unique",
        without: "an id may be the last one once more",
        file: "shared/src/stream.rs",
        find: "let least = last.seq.checked_add(1)?;",
        replace: "let least = last.seq.checked_add(0)?;",
        test: Test::unit("stream::tests::instances_never_generate_the_same_id"),
    },
    Control {
        rule: "stream ids are unique",
        without: "the server generates them",
        file: "module/src/capture/stream/add.rs",
        find: "let made = args.bytes(at).and_then(wanted);",
        replace: "let made = args.bytes(at).and_then(wanted).filter(|_| at == usize::MAX);",
        test: Test::servers("streams", "generated_ids_differ_between_sites_and_entries_are_in_order::redis8"),
    },
    Control {
        rule: "entries below the last id",
        without: "they are left out, as servers refuse them",
        file: "module/src/keyspace/tail.rs",
        find: "self.tail.late.get_or_insert_with(|| (expiry, Late::new())).1.insert(id, fields.to_vec());",
        replace: "",
        test: Test::servers("streams", "entries_below_the_last_id_come_to_their_places::redis8"),
    },
    Control {
        rule: "entries below the last id",
        without: "the entries of a stream are in another order than their ids",
        file: "shared/src/stream.rs",
        find: "    name[1..].copy_from_slice(&id.to_bytes());
    name
}

/// The id of an entry by its name.
#[must_use]
pub fn entry_id(name: &[u8]) -> Option<StreamId> {
    match name.split_first()? {
        (&ENTRY, id) => Some(StreamId::from_bytes(id.try_into().ok()?)),",
        replace: "    name[1..].copy_from_slice(&StreamId { ms: id.seq, seq: id.ms }.to_bytes());
    name
}

/// The id of an entry by its name.
#[must_use]
pub fn entry_id(name: &[u8]) -> Option<StreamId> {
    match name.split_first()? {
        (&ENTRY, id) => Some(StreamId::from_bytes(id.try_into().ok()?)).map(|id| StreamId { ms: id.seq, seq: id.ms }),",
        test: Test::unit("stream::tests::names_are_read_back_and_sort_entries_by_id"),
    },
    Control {
        rule: "of several last ids the highest",
        without: "that of the last writer shows",
        file: "shared/src/merge/view.rs",
        find: "Payload::Id(other) => Some(id.max(*other)),",
        replace: "Payload::Id(_) => Some(id),",
        test: Test::case("sim::stream_cases::of_several_last_ids_the_highest_shows"),
    },
    Control {
        rule: "5",
        without: "who has a part of a full sync, and not what is stable at its source, takes writes",
        file: "shared/src/shard/members.rs",
        find: "return Err(WritesRefused::Behind);",
        replace: "return Ok(());",
        test: Test::case("sim::sync_rule_cases::who_has_a_part_of_a_full_sync_takes_no_writes"),
    },
    Control {
        rule: "5",
        without: "who has data of its own joins, and nobody has said what becomes of that",
        file: "shared/src/shard/join.rs",
        find: "return Err(MemberError::HasData(me));",
        replace: "return Ok(());",
        test: Test::case("sim::member_cases::the_data_of_a_newcomer_is_refused_replaced_or_merged"),
    },
    Control {
        rule: "5",
        without: "a clock that is far ahead drags the group along",
        file: "shared/src/shard/apply.rs",
        find: "if ahead_ms > self.config.drift_ms_max {",
        replace: "if ahead_ms > u64::MAX / 2 {",
        test: Test::shared("drift", "a_clock_that_is_too_far_ahead_is_refused_and_changes_nothing"),
    },
    Control {
        rule: "T4",
        without: "of several TTLs a time wins over none",
        file: "shared/src/metadata/ttl.rs",
        find: "times.reduce(|a, b| Some(a?.max(b?)))",
        replace: "times.reduce(Ord::max)",
        test: Test::shared("worked_cases", "ttls_merge"),
    },
    Control {
        rule: "T10",
        without: "of several TTLs of a field that of the last writer wins",
        file: "shared/src/merge/view.rs",
        find: "times.try_fold(UnixMs::MIN, |latest, at| Some(latest.max(at?)))",
        replace: "times.nth(meta.assigns.len()).unwrap_or_else(|| top.expire_at())",
        test: Test::case("sim::ttl_cases::t10_of_several_ttls_of_a_field_none_shows_or_the_latest"),
    },
    Control {
        rule: "M1",
        without: "a Forget removes Joins that it had not seen",
        file: "shared/src/membership.rs",
        find: "if !joins.is_empty() {",
        replace: "if joins.len() == usize::MAX {",
        test: Test::case("sim::join_cases::m13_a_forget_that_has_not_seen_a_join_leaves_it"),
    },
    Control {
        rule: "M2",
        without: "effects of who is out are refused from members, too",
        file: "shared/src/shard/members.rs",
        find: ".is_some_and(|f| f.settled);",
        replace: ".is_some();",
        test: Test::case("sim::member_cases::m2_effects_of_a_forgotten_instance_come_by_members_only"),
    },
    Control {
        rule: "M4",
        without: "a Forget stays settled when somebody joins, who may bring effects of whom it names",
        file: "shared/src/membership.rs",
        find: "self.forgotten.values_mut().for_each(|forgotten| forgotten.settled = false);",
        replace: "",
        test: Test::case("sim::member_cases::m4_who_joins_may_still_bring_effects_of_who_was_forgotten"),
    },
    Control {
        rule: "M5",
        without: "a Forget waits for who is out, too",
        file: "shared/src/shard/members.rs",
        find: ".filter(|member| *member != self.config.instance)",
        replace: ".filter(|member| *member != self.config.instance)
                    .chain(unsettled.iter().filter(|out| *out != instance))",
        test: Test::case("sim::member_cases::m5_several_are_forgotten_at_once"),
    },
    Control {
        rule: "M12",
        without: "what is written again ranks as old",
        file: "shared/src/shard/renew.rs",
        find: "group.push(&Effect { ttl, ..effect });",
        replace: "if let Op::Assign { path, value, .. } = effect.op {
                effect.op = Op::Assign { path, value, reasserted: true };
            }
            group.push(&Effect { ttl, ..effect });",
        test: Test::case("sim::rejoin_cases::m12_what_is_written_again_is_new"),
    },
    Control {
        rule: "M12",
        without: "what is written again has seen nothing, so it replaces nothing",
        file: "shared/src/shard/commit.rs",
        find: "let Self { streams, dirty, origins, clock, change, .. } = self;",
        replace: "if self.joining.is_some() {
            self.change.extend_from_slice(&crate::context::StreamContext::EMPTY_CHANGE);
            return;
        }
        let Self { streams, dirty, origins, clock, change, .. } = self;",
        test: Test::case("sim::rejoin_cases::m12_what_is_written_again_replaces_what_is_there"),
    },
    Control {
        rule: "M12",
        without: "who joins again goes on serving what it had logged before",
        file: "shared/src/shard/join.rs",
        find: "(self.hlc, self.counters) = (old.hlc, old.counters);",
        replace: "(self.hlc, self.counters) = (old.hlc, old.counters);
        self.backlog = old.backlog;",
        test: Test::case("sim::join_cases::m10_who_joins_again_writes_again_what_nobody_had"),
    },
    Control {
        rule: "M12",
        without: "what is of another type is written again without a Clear before it",
        file: "shared/src/shard/renew.rs",
        find: "if shown.is_some() {",
        replace: "if shown.is_some() && kind.is_none() {",
        test: Test::case("sim::join_cases::m12_what_is_written_again_uncovers_nothing"),
    },
    Control {
        rule: "M12",
        without: "it is written again in another order than it was written",
        file: "shared/src/shard/join.rs",
        find: "found.sort();",
        replace: "found.sort_by(|a, b| (a.1, &a.2).cmp(&(b.1, &b.2)));",
        test: Test::case("sim::rejoin_cases::m12_what_was_written_first_is_written_again_first"),
    },
    Control {
        rule: "M12",
        without: "where the group is to win, what was set aside wins",
        file: "shared/src/shard/renew.rs",
        find: "if !mine_wins && (is_other || (is_there && !is_increment)) {",
        replace: "if !mine_wins && is_other && is_there && !is_increment {",
        test: Test::case("sim::member_cases::m12_the_group_wins_if_so_wanted"),
    },
    Control {
        rule: "M12",
        without: "where the group is to win, increments are lost",
        file: "shared/src/shard/renew.rs",
        find: "if !mine_wins && (is_other || (is_there && !is_increment)) {",
        replace: "if !mine_wins && (is_other || is_there) {",
        test: Test::case("sim::member_cases::m12_the_group_wins_if_so_wanted"),
    },
    Control {
        rule: "M14",
        without: "a Forget by who is out is not applied",
        file: "shared/src/shard/commit.rs",
        find: "Op::Forget { instance } => self.membership.forget(instance, dot, seen),",
        replace: "Op::Forget { instance } => {
                if self.membership.contains(self.origins.instance(dot.origin)) {
                    self.membership.forget(instance, dot, seen);
                }
            }",
        test: Test::case("sim::member_cases::m14_who_forget_each_other_are_both_out"),
    },
    Control {
        rule: "M15",
        without: "nobody is told that it is out",
        file: "shared/src/shard/members.rs",
        find: "self.check_forgotten(reader)",
        replace: "self.check_forgotten(reader).or(Ok(()))",
        test: Test::case("sim::rejoin_cases::m15_who_is_out_gets_the_error_and_no_data"),
    },
];
