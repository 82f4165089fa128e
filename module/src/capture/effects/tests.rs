use syncer_shared::effect::{Effect, Path, Value};
use syncer_shared::keyspace::{Keyspace, SetTtl};
use syncer_shared::memory::MemoryKeyspace;

use super::*;
use crate::capture::event::Event;
use crate::capture::unit::Unit;

const NOW_MS: u64 = 1_000_000;

/// Effects as text: `key op`, and the element before an increment by a float.
#[derive(Default)]
struct Told(Vec<String>);

impl Sink for Told {
    fn push(&mut self, effect: &Effect<'_>, before: Option<Option<&[u8]>>) {
        let bytes = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let path = |path: Path<'_>| match path {
            Path::Stream(name) => format!("part {}", name.escape_ascii()),
            Path::String => String::new(),
            Path::Field(name) | Path::Member(name) | Path::Scored(name) => format!(" {}", bytes(name)),
            Path::Opaque => " opaque".into(),
            Path::Element(_) => " element".into(),
        };
        let op = match effect.op {
            Op::Set { value, expire_at } => format!("set {} {expire_at:?}", bytes(value)),
            Op::Assign { path: at, value: Value::Bytes(value), .. } => format!("assign{} {}", path(at), bytes(value)),
            Op::Assign { path: at, value: Value::Score(score), .. } => format!("assign{} {score}", path(at)),
            Op::Assign { path: at, .. } => format!("assign{}", path(at)),
            Op::Increment { path: at, delta } => format!("increment{} {delta:?}", path(at)),
            Op::Remove { path: at } => format!("remove{}", path(at)),
            Op::Clear { reason } => format!("clear {reason:?}"),
            Op::Expire { at } => format!("expire {at}"),
            Op::Flush { scope } => format!("flush {scope:?}"),
            other => format!("{other:?}"),
        };
        let note = if effect.ttl == TtlNote::None { String::new() } else { format!(" [{:?}]", effect.ttl) };
        let before = before.map_or(String::new(), |b| format!(" before {:?}", b.map(bytes)));
        self.0.push(format!("{}:{} {op}{note}{before}", effect.db, bytes(effect.key)));
    }

    fn whole(&mut self, _: u32, _: &[u8]) {}

    fn hollow(&mut self, _: u32, _: &[u8]) {}

    fn list_push<'v>(&mut self, write: (u32, &[u8]), ttl: TtlNote, end: End, values: impl Iterator<Item = &'v [u8]>) {
        let values: Vec<_> = values.map(String::from_utf8_lossy).collect();
        let note = if ttl == TtlNote::None { String::new() } else { format!(" [{ttl:?}]") };
        self.0.push(format!(
            "{}:{} push {end:?} {}{note}",
            write.0,
            String::from_utf8_lossy(write.1),
            values.join(" ")
        ));
    }

    fn guess(&mut self) {}

    fn list(&mut self, write: (u32, &[u8]), ttl: TtlNote, edit: Edit<'_>) {
        let edit = match edit {
            Edit::Set(index, value) => format!("Set({index}, {})", String::from_utf8_lossy(value)),
            Edit::Insert(index, value) => format!("Insert({index}, {})", String::from_utf8_lossy(value)),
            other => format!("{other:?}"),
        };
        let note = if ttl == TtlNote::None { String::new() } else { format!(" [{ttl:?}]") };
        self.0.push(format!("{}:{} {edit}{note}", write.0, String::from_utf8_lossy(write.1)));
    }
}

struct Case {
    unit: Unit,
    data: MemoryKeyspace,
    volatile: bool,
}

impl Case {
    fn new() -> Self {
        Self { unit: Unit::default(), data: MemoryKeyspace::default(), volatile: true }
    }

    fn command(mut self, shape: Shape, line: &str) -> Self {
        self.unit.close(|_, _| {});
        self.unit.stage(shape, line.split(' ').map(str::as_bytes));
        self
    }

    fn event(mut self, event: Event, key: &str) -> Self {
        self.unit.event(event, 0, key.as_bytes(), NOW_MS);
        self
    }

    fn told(mut self, text: &str) -> Self {
        self.unit.tell(text.as_bytes());
        self
    }

    /// The dataset holds this string when the unit ends.
    fn string(mut self, key: &str, value: &str, expire_at: Option<i64>) -> Self {
        let ttl = expire_at.map_or(SetTtl::Clear, SetTtl::At);
        self.data.set_string(0, key.as_bytes(), value.as_bytes(), ttl);
        self
    }

    fn element(mut self, key: &str, path: Path<'_>, value: Value<'_>) -> Self {
        self.data.put(0, key.as_bytes(), path, value);
        self
    }

    #[track_caller]
    fn makes(mut self, effects: &[&str]) {
        let mut told = Told::default();
        resolve(&self.unit, &mut self.data, self.volatile, &mut told);
        assert_eq!(told.0, effects);
    }
}

#[test]
fn set_takes_its_ttl_from_the_dataset_once_an_event_says_that_there_is_one() {
    let set = || Case::new().command(Shape::Set, "SET k v EX 9").string("k", "v", Some(5));
    set().event(Event::New, "k").event(Event::Set, "k").event(Event::Expire, "k").makes(&["0:k set v Some(5)"]);
    set().event(Event::Set, "k").makes(&["0:k set v None"]);
}

#[test]
fn set_with_keepttl_leaves_the_ttl_alone() {
    let case = Case::new().command(Shape::Set, "SET k v KeepTTL").string("k", "v", Some(5));
    case.event(Event::Set, "k").makes(&["0:k assign v [Kept(5)]"]);
}

#[test]
fn mset_of_a_key_twice_has_both_values_in_order() {
    let case = Case::new().command(Shape::MSet, "MSET a 1 b 2 a 3");
    let case = case.event(Event::Set, "a").event(Event::Set, "b").event(Event::Set, "a");
    case.makes(&["0:a set 1 None", "0:b set 2 None", "0:a set 3 None"]);
}

#[test]
fn the_first_effect_of_a_command_says_what_became_of_the_ttl() {
    let hset = || Case::new().command(Shape::HSet, "HSET h f 1 g 2");
    hset().event(Event::New, "h").event(Event::HSet, "h").makes(&["0:h assign f 1 [Created]", "0:h assign g 2"]);
    let kept = hset().string("h", "", Some(7)).event(Event::HSet, "h");
    kept.makes(&["0:h assign f 1 [Kept(7)]", "0:h assign g 2"]);
    let mut never = hset().string("h", "", Some(7)).event(Event::HSet, "h");
    never.volatile = false;
    never.makes(&["0:h assign f 1", "0:h assign g 2"]);
}

#[test]
fn a_key_that_was_emptied_is_cleared() {
    let case = Case::new().command(Shape::HDel, "HDEL h f g").event(Event::HDel, "h").event(Event::Del, "h");
    case.makes(&["0:h clear Deleted"]);
    Case::new().command(Shape::HDel, "HDEL h f g").event(Event::HDel, "h").makes(&["0:h remove f", "0:h remove g"]);
}

#[test]
fn smove_adds_at_the_target_also_what_was_there() {
    let smove = || Case::new().command(Shape::SMove, "SMOVE s t m").event(Event::SRem, "s");
    smove().makes(&["0:s remove m", "0:t assign m"]);
    smove().event(Event::Del, "s").makes(&["0:t assign m", "0:s clear Deleted"]);
    let both = smove().event(Event::New, "t").event(Event::SAdd, "t");
    both.makes(&["0:s remove m", "0:t assign m [Created]"]);
}

#[test]
fn numbers_are_read_with_their_sign() {
    Case::new().command(Shape::IncrOne(-1), "DECR k").event(Event::Incr, "k").makes(&["0:k increment Integer(-1)"]);
    let by = Case::new().command(Shape::IncrBy(-1), "DECRBY k 5").event(Event::Incr, "k");
    by.makes(&["0:k increment Integer(-5)"]);
    let float = Case::new().command(Shape::IncrFloat, "INCRBYFLOAT k 1.5").told("2").event(Event::IncrFloat, "k");
    float.makes(&["0:k increment Float(1.5) before Some(\"2\")"]);
}

#[test]
fn patches_of_a_string_are_one_assign_of_what_it_is_now() {
    let case = Case::new().event(Event::Patched, "k").event(Event::Patched, "k").string("k", "abc", None);
    case.makes(&["0:k assign abc"]);
}

/// More than are fetched at once, some of them twice, some in another database, one of them gone.
#[test]
fn strings_of_a_transaction_are_what_each_is_at_the_end() {
    let mut case = Case::new();
    let mut expected = Vec::new();
    for n in 0..200 {
        let (key, value) = (format!("k{}", n % 150), format!("v{}", n % 150));
        if n % 7 == 0 {
            case.unit.event(Event::Set, 3, b"elsewhere", NOW_MS);
            expected.push("3:elsewhere set there None".to_owned());
        }
        case = case.event(Event::Set, &key).string(&key, &value, Some(i64::from(n % 150)));
        expected.push(format!("0:{key} set {value} Some({})", n % 150));
    }
    case.data.set_string(3, b"elsewhere", b"there", SetTtl::Clear);
    case.event(Event::Set, "gone").makes(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_key_that_was_looked_at_and_changed_otherwise_is_captured_whole_at_the_end() {
    let case = Case::new().command(Shape::Set, "SET k a").event(Event::Set, "k").event(Event::Patched, "k");
    let case = case.command(Shape::Set, "SET other v").event(Event::Set, "other");
    case.string("k", "ab", Some(3)).makes(&["0:other set v None", "0:k set ab Some(3)"]);
}

#[test]
fn unknown_events_capture_the_key_whole() {
    let case = Case::new().event(Event::New, "l").event(Event::Other, "l");
    let case = case.element("l", Path::Opaque, Value::Payload(b"x"));
    case.makes(&["0:l clear Deleted", "0:l assign opaque", "0:l Persist"]);
    Case::new().event(Event::Other, "gone").makes(&["0:gone clear Deleted"]);
}

#[test]
fn a_stage_explains_events_of_its_own_keys_only() {
    let case = Case::new().command(Shape::SAdd, "SADD s a").event(Event::Evicted, "other").event(Event::SAdd, "s");
    case.makes(&["0:other clear Evicted", "0:s assign a"]);
    let other = Case::new().command(Shape::SAdd, "SADD s a").event(Event::SAdd, "t");
    other.element("t", Path::Member(b"m"), Value::Present).makes(&["0:t clear Deleted", "0:t assign m", "0:t Persist"]);
}

/// As other modules write through the key API.
#[test]
fn a_key_that_is_made_without_another_word_is_captured_whole() {
    let mut case =
        Case::new().event(Event::New, "t").event(Event::New, "h").event(Event::HSet, "h").event(Event::New, "k");
    case.unit.end();
    let case = case.string("k", "v", None).string("t", "w", None).element("h", Path::Field(b"f"), Value::Bytes(b"1"));
    case.makes(&["0:h clear Deleted", "0:h assign f 1", "0:h Persist", "0:t set w None", "0:k set v None"]);
    let mut told = Case::new().command(Shape::SAdd, "SADD s a").event(Event::New, "s").event(Event::SAdd, "s");
    told.unit.end();
    told.makes(&["0:s assign a [Created]"]);
}

/// Evictions make a unit of their own between the filter and the command.
#[test]
fn a_stage_outlives_a_unit_that_ends_before_its_command_runs() {
    let mut case = Case::new().command(Shape::SAdd, "SADD s a").event(Event::Evicted, "other");
    case.unit.next();
    assert!(case.unit.is_empty() && case.unit.is_open());
    let mut case = case.event(Event::SAdd, "s");
    let mut told = Told::default();
    resolve(&case.unit, &mut case.data, true, &mut told);
    assert_eq!(told.0, ["0:s assign a"]);
    case.unit.next();
    assert!(case.unit.is_empty() && !case.unit.is_open());
}

#[test]
fn a_time_in_the_past_is_a_delete_and_no_expiry() {
    let expired = |shape, line| Case::new().command(shape, line).event(Event::Expired, "k");
    let ttl = |unit| Shape::Ttl(unit);
    use crate::capture::shape::TtlUnit;
    expired(ttl(TtlUnit::Relative), "EXPIRE k -1").makes(&["0:k clear Deleted"]);
    expired(ttl(TtlUnit::Seconds), "EXPIREAT k 999").makes(&["0:k clear Deleted"]);
    expired(Shape::Set, "SET k v PXAT 1").makes(&["0:k clear Deleted"]);
    expired(ttl(TtlUnit::Relative), "EXPIRE k 10").makes(&["0:k clear Expired"]);
    expired(ttl(TtlUnit::Seconds), "EXPIREAT k 1001").makes(&["0:k clear Expired"]);
}

#[test]
fn flushes_and_swaps_keep_their_place() {
    let mut case = Case::new().command(Shape::SetPlain, "SETNX a 1").event(Event::Set, "a");
    case.unit.flush(FlushScope::All);
    let mut case = case.command(Shape::SetPlain, "SETNX b 2").event(Event::Set, "b");
    case.unit.swap(0, 3);
    let case = case.string("c", "3", None);
    let expected =
        ["0:a set 1 None", "0: flush All", "0:b set 2 None", "0: flush Db(0)", "0: flush Db(3)", "0:c set 3 None"];
    case.makes(&expected);
}

#[test]
fn zadd_with_flags_assigns_what_changed() {
    let case = Case::new().command(Shape::ZAdd, "ZADD z GT 5 a 6 b").event(Event::ZAdd, "z").told("b").told("6");
    // Not the score of the end: what adds to it later in the unit is an effect of its own.
    case.element("z", Path::Scored(b"b"), Value::Score(9.0)).makes(&["0:z assign b 6"]);
    let plain = Case::new().command(Shape::ZAdd, "ZADD z 5 a inf b").event(Event::ZAdd, "z");
    plain.makes(&["0:z assign a 5", "0:z assign b inf"]);
    let incr = Case::new().command(Shape::ZAdd, "ZADD z XX INCR 2 a").told("1").event(Event::ZIncr, "z");
    incr.makes(&["0:z increment a Float(2.0) before Some(\"1\")"]);
}

#[test]
fn a_refused_command_leaves_nothing() {
    let case = Case::new().command(Shape::Set, "SET k v").command(Shape::SAdd, "SADD s a");
    assert!(case.unit.is_empty());
    case.event(Event::SAdd, "s").makes(&["0:s assign a"]);
}

fn list_case(elements: &[&str]) -> Case {
    let mut case = Case::new();
    for (index, element) in elements.iter().enumerate() {
        case.data.list_insert(0, b"l", index, element.as_bytes());
    }
    case
}

#[test]
fn lists_are_edited_as_their_commands_say() {
    let push = Case::new().command(Shape::ListPush(End::Head), "LPUSH l a b");
    push.event(Event::New, "l").event(Event::LPush, "l").makes(&["0:l push Head a b [Created]"]);
    let pop = || list_case(&["x"]).command(Shape::ListPop(End::Tail), "RPOP l 3");
    pop().event(Event::RPop, "l").makes(&["0:l Pop(Tail, Some(3))"]);
    pop().event(Event::RPop, "l").event(Event::Del, "l").makes(&["0:l clear Deleted"]);
    let trim = list_case(&["x"]).command(Shape::ListTrim, "LTRIM l -3 7");
    trim.event(Event::LTrim, "l").makes(&["0:l Trim(-3, 7)"]);
    let set = list_case(&["x"]).command(Shape::ListSet, "LSET l -1 v");
    set.event(Event::LSet, "l").makes(&["0:l Set(-1, v)"]);
}

#[test]
fn one_key_of_several_is_popped() {
    let blpop = list_case(&["x"]).command(Shape::ListPopOne(End::Head), "BLPOP no l 0");
    blpop.event(Event::LPop, "l").makes(&["0:l Pop(Head, Some(1))"]);
    let many = list_case(&["x"]).command(Shape::ListPopMany(1), "LMPOP 2 no l RIGHT COUNT 4");
    many.event(Event::RPop, "l").makes(&["0:l Pop(Tail, Some(4))"]);
    let many = list_case(&["x"]).command(Shape::ListPopMany(2), "BLMPOP 0 1 l left");
    many.event(Event::LPop, "l").makes(&["0:l Pop(Head, Some(1))"]);
}

#[test]
fn a_moved_element_goes_before_it_comes() {
    let lmove = || list_case(&["x"]).command(Shape::ListMove, "LMOVE l m LEFT RIGHT").told("e");
    let case = lmove().event(Event::New, "m").event(Event::RPush, "m").event(Event::LPop, "l");
    case.makes(&["0:l Pop(Head, Some(1))", "0:m push Tail e [Created]"]);
    let older = list_case(&["x"]).command(Shape::ListMove, "BRPOPLPUSH l l 0").told("e");
    older.event(Event::LPush, "l").event(Event::RPop, "l").makes(&["0:l Pop(Tail, Some(1))", "0:l push Head e"]);
}

#[test]
fn blocked_clients_are_served_without_a_command() {
    list_case(&["x"]).event(Event::LPop, "l").makes(&["0:l Pop(Head, None)"]);
    list_case(&["x", "y"]).event(Event::RPush, "l").makes(&["0:l push Tail y"]);
    list_case(&["x"]).event(Event::LPop, "l").event(Event::Del, "l").makes(&["0:l clear Deleted"]);
    let rotated = list_case(&["x", "y"]).event(Event::RPush, "l").event(Event::LPop, "l");
    rotated.makes(&["0:l clear Deleted", "0:l push Tail x y", "0:l Persist"]);
}
