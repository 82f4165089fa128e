//! From a local command to effects (DESIGN 3, CAPTURE.md).
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the four entries from the server: a command, an event, the end of a unit, a server event |
//! | `name`, `shape`, `table`, `catalogue` | which command is this, and what is to be done with it |
//! | `event`, `unit`, `item`, `arguments` | what happened in one execution unit |
//! | `effects/`, `seals`, `group`, `dataset` | what that means as effects |
//! | `finals` | strings that are looked at when the unit has ended |
//! | `patch` | strings that are changed in part |
//! | `wrap`, `stray`, `stream/`, `call`, `looks` | commands that need a look before or their reply: `SYNCER.CALL` |
//! | `coalesce` | large values that are written again and again |
//! | `published` | messages, and which of them travel |
//! | `touch` | adds that change nothing, but mean an add |
//! | `role`, `replication`, `heartbeat`, `log`, `aof` | when to capture, who must hear of it, what runs by the clock, replicas, the append-only file |

pub mod aof;
mod arguments;
mod call;
mod catalogue;
mod coalesce;
mod dataset;
mod effects;
mod event;
mod finals;
mod group;
mod heartbeat;
mod item;
mod log;
mod looks;
mod name;
mod no_touch;
mod patch;
pub mod published;
mod refuse;
pub mod replication;
pub mod role;
mod room;
mod seals;
mod shape;
mod stray;
mod stream;
mod table;
mod threads;
mod touch;
mod unit;
mod wrap;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

pub use dataset::ServerDataset;
pub use heartbeat::{go_on, saw_types};
pub use published::{set_channels as set_published, set_functions};
pub use role::Mode;
pub use stream::blocking;
pub use touch::flush as flush_touches;

use syncer_shared::effect::{ClearReason, Effect, FlushScope, TtlNote};
use syncer_shared::keyspace::Keyspace;

use crate::keyspace::{applying, field_ttls};
use crate::redis::filter::Call;
use crate::redis::{Command, Context, ServerEvent, client, detached, log as server_log, notify, server, timer};
use crate::{durable, state};
use coalesce::Coalescing;
use effects::Sink as _;
use event::Event;
use group::Group;
use shape::{Class, Shape};
use table::Table;
use touch::Touches;
use unit::Unit;

/// The internal commands of capture.
pub const COMMANDS: &[Command] = &[
    log::COMMAND,
    call::PLAIN,
    call::OOM,
    call::TWIN,
    call::TWIN_OOM,
    call::READ,
    call::TWIN_READ,
    refuse::COMMAND,
    refuse::TWIN,
    no_touch::COMMAND,
];

/// Counters for `INFO`.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Keys captured whole for want of a better way, by type as `TYPE` names it: where a specialised one may pay.
    pub captured_whole: BTreeMap<String, u64>,
    /// Adds that changed nothing, logged all the same.
    pub touches: u64,
    /// Units whose one large value was not captured at once.
    pub coalesced: u64,
    /// Units whose effects could not be logged. Anything above 0 is a bug to report.
    pub lost: u64,
}

/// What capture remembers between its entries.
struct Capture {
    table: Table,
    unit: Unit,
    group: Group,
    touches: Touches,
    coalescing: Coalescing,
    /// Whether the server will call [`on_unit_end`].
    job: bool,
    /// Clients that may be between MULTI and EXEC.
    multi: std::collections::HashSet<u64>,
    /// The client whose script or transaction runs, for commands that come from no connection.
    outer: u64,
    /// Whether a script may be running.
    scripting: bool,
    /// The database in which `SYNCER.CALL` runs a command: what that calls in turn, one of another module, comes from no connection.
    nested: Option<u32>,
    /// Valkey 8.1: the database to go back to after an event of COPY or MOVE (CAPTURE 6).
    pinned_db: Option<u32>,
    /// With that bug, every event leaves the running client in the event's database, also those that our own looks
    /// make: the client of the first command of the unit, whose database they must be made in.
    home: Option<u64>,
    counters: Counters,
}

crate::redis::server_local! {
    /// Leaked, so that reading it is one load.
    static CAPTURE: Cell<Option<&'static RefCell<Capture>>> = const { Cell::new(None) };
    /// Whether a key may have a TTL, so that a write must look for it (T2). Kept by events, rechecked by the heartbeat.
    static VOLATILE: Cell<bool> = const { Cell::new(true) };
}

/// Logs what waits to be logged, since somebody is to hear of everything that clients have written.
pub fn flush(context: &Context) {
    touch::flush(context);
    blocking::before_move(context);
    coalesce::flush(context);
}

/// Starts capturing; once, at load. Until the role is known nothing is captured.
pub fn init(context: &Context) {
    let capture = Capture {
        table: catalogue::read(context),
        unit: Unit::default(),
        group: Group::default(),
        touches: Touches::default(),
        coalescing: Coalescing::default(),
        job: false,
        multi: std::collections::HashSet::new(),
        outer: 0,
        scripting: false,
        nested: None,
        pinned_db: None,
        home: None,
        counters: Counters::default(),
    };
    let (keys, _) = server::key_counts(context, server::databases(context));
    field_ttls::init(catalogue::read_one(context, b"hpexpireat").is_some(), keys > 0);
    CAPTURE.set(Some(Box::leak(Box::new(RefCell::new(capture)))));
    no_touch::init(context);
    stray::init(wrap::has_copy_bug(context));
    heartbeat::start(context);
}

/// Runs `body` with the capture state; `None` before load, or when it is in use.
fn with<R>(body: impl FnOnce(&mut Capture) -> R) -> Option<R> {
    let mut capture = CAPTURE.get()?.try_borrow_mut().ok()?;
    Some(body(&mut capture))
}

/// Counters since load.
#[must_use]
pub fn counters() -> Counters {
    with(|capture| capture.counters.clone()).unwrap_or_default()
}

/// Entry: the command filter. For reads it must cost next to nothing.
#[inline]
pub fn on_command(call: &mut Call) {
    if role::mode() != Mode::Primary && !role::try_begin_before_command(call) {
        return;
    }
    with(|capture| capture.command(call));
}

/// Entry: a keyspace event. Only collects: the state is not final yet (CAPTURE 2).
#[inline]
pub fn on_event(context: &Context, name: &[u8], key: &[u8]) {
    let event = Event::parse(name);
    if matches!(event, Event::Expire | Event::Replaced | Event::Other) {
        VOLATILE.set(true);
    }
    if matches!(event, Event::HTtl | Event::HExpired | Event::Replaced | Event::Other) {
        field_ttls::saw();
    }
    match event {
        Event::Stream => crate::keyspace::stream::saw_write(),
        Event::Del => field_ttls::forget_key(context.db(), key),
        _ => {}
    }
    if applying() || role::mode() != Mode::Primary {
        return stray::event(context, event);
    }
    if with(|capture| capture.event(context, event, key)).is_none() {
        server_log::warning("syncer: bug: a keyspace event while capture was busy; a write was not logged");
    }
}

/// A key has got a TTL by our own doing, or may have: no event tells.
pub fn saw_ttl() {
    VOLATILE.set(true);
}

/// Entry: the post-notification job. The state of the unit is final now.
pub fn on_unit_end(context: &Context) {
    with(|capture| capture.unit_end(context));
}

/// Entry: a server event.
pub fn on_server_event(context: &Context, event: ServerEvent) {
    match event {
        ServerEvent::Role { primary } => role::changed(context, primary),
        ServerEvent::Loading(load) => {
            // DEBUG RELOAD empties the dataset before it loads it: no flush that anybody asked for (CAPTURE 11).
            with(|capture| capture.unit.clear());
            // No events tell of the TTLs in a file.
            saw_ttl();
            field_ttls::lose_sight();
            heartbeat::saw_types();
            role::loading(load);
        }
        ServerEvent::Forked => {
            replication::assume();
            durable::forked();
            aof::look(context);
        }
        ServerEvent::Modules => {
            heartbeat::saw_types();
            with(|capture| capture.table = catalogue::read(context));
        }
        ServerEvent::Gone(client) => {
            with(|capture| capture.gone(client));
            crate::commands::forget(client);
        }
        ServerEvent::Flush(FlushScope::All) if applying() || role::mode() != Mode::Primary => field_ttls::forget_all(),
        ServerEvent::Flush(_) | ServerEvent::Swap(..) if applying() || role::mode() != Mode::Primary => {}
        ServerEvent::Flush(scope) => drop(with(|capture| {
            if scope == FlushScope::All {
                field_ttls::forget_all();
            }
            capture.unit.flush(scope);
            capture.schedule(context);
        })),
        ServerEvent::Swap(a, b) => drop(with(|capture| {
            capture.unit.swap(a, b);
            capture.schedule(context);
        })),
    }
}

impl Capture {
    #[inline]
    fn command(&mut self, call: &mut Call) {
        let Some(name) = call.bytes(0) else { return };
        let Some(spec) = self.table.find(name).copied().or_else(|| self.learn(call)) else { return };
        if self.unit.is_open() {
            self.settle();
        }
        if stray::has_bug() && self.unit.is_empty() {
            self.home = Some(self.client(call));
        }
        if refuse::refuses() && spec.writes && spec.takes(call.len()) {
            return self.refuse(call);
        }
        match spec.class {
            Class::Read | Class::Events => {}
            Class::Between(_) if stray::has_bug() || self.in_multi(call) => drop(self.wrap(call, spec)),
            Class::Between(_) => {}
            Class::Publish(_) if published::wants(call.bytes(1)) => drop(self.wrap(call, spec)),
            Class::Publish(_) => {}
            Class::Functions => self.wrap_functions(call, spec),
            // A script may have selected another database: what a string was before is asked where that is known.
            Class::Stage(shape) if self.in_multi(call) || (shape.is_patch() && self.in_script()) => {
                self.wrap_or_stage(call, spec, shape)
            }
            Class::StagePlain(shape) if self.in_multi(call) || shape::has_flags(call.bytes(2)) => {
                self.wrap_or_stage(call, spec, shape);
            }
            // It runs later, without the filter: its events and looks tell what it did.
            Class::StageOnly(_) if self.in_multi(call) => {}
            Class::Stage(shape) | Class::StagePlain(shape) | Class::StageOnly(shape) => self.stage(call, shape),
            Class::Call(_) => drop(self.wrap(call, spec)),
            Class::Block(shape) => self.wrap_if_unblocked(call, spec, shape),
            Class::Multi => drop(self.multi.insert(self.client(call))),
            Class::EndMulti => {
                self.outer = self.client(call);
                self.multi.remove(&self.outer);
                // What was queued may be a script.
                self.scripting = true;
                self.touches.forget_db();
            }
            Class::Script => {
                self.outer = self.client(call);
                self.scripting = true;
            }
            Class::Select => self.touches.forget_db(),
            Class::Client => no_touch::saw(call),
        }
    }

    /// A name that the server did not have when its table was read: `rename-command`, or it does not exist.
    #[cold]
    fn learn(&mut self, call: &Call) -> Option<table::Spec> {
        let name = call.bytes(0)?;
        let command = catalogue::read_one(detached()?, name)?;
        Some(self.table.insert(name, &command))
    }

    /// The client that the command comes from; nobody if it is called by one that `SYNCER.CALL` runs.
    fn client(&self, call: &Call) -> u64 {
        if self.nested.is_some() { client::NOBODY } else { call.client() }
    }

    fn staged_by(&mut self, client: u64) {
        match self.nested {
            Some(db) => self.touches.staged_in_db(db),
            None => self.touches.staged_by_client(client),
        }
    }

    fn in_multi(&self, call: &Call) -> bool {
        !self.multi.is_empty() && self.multi.contains(&self.client(call))
    }

    fn in_script(&mut self) -> bool {
        self.scripting = self.scripting && detached().is_some_and(|context| context.flags().in_script());
        self.scripting
    }

    /// The connection that the command comes from, also through a script, whose own client may have the id of another
    /// one (Valkey 9).
    fn caller(&mut self, call: &Call) -> u64 {
        if self.in_script() { self.outer } else { self.client(call) }
    }

    fn stage(&mut self, call: &Call, shape: Shape) {
        if shape.is_patch() {
            return self.stage_patch(call, shape);
        }
        self.stage_args(call, shape);
    }

    /// A change of a string in part: what it is before is looked at. Where it cannot be, events say what to do.
    fn stage_patch(&mut self, call: &Call, shape: Shape) {
        if self.in_multi(call) || self.in_script() {
            return;
        }
        self.staged_by(self.client(call));
        let (Some(context), Some(key), Some(db)) = (detached(), call.bytes(1), self.touches.db(self.outer)) else {
            return;
        };
        let look = || crate::keyspace::with_keyspace(context, |keyspace| patch::look(keyspace, db, key));
        let Some(told) = no_touch::look(context, look) else { return };
        self.stage_args(call, shape);
        self.unit.tell(&told);
    }

    fn stage_args(&mut self, call: &Call, shape: Shape) {
        let args = (0..call.len()).map(|index| if index == 0 { &[] } else { call.bytes(index).unwrap_or_default() });
        self.unit.stage(shape, args);
        if touch::may_touch(shape) {
            let client = self.caller(call);
            self.staged_by(client);
        }
    }

    /// Forgets a staged command that did nothing, or remembers what it meant all the same.
    fn settle(&mut self) {
        let Self { unit, touches, outer, .. } = self;
        unit.close(|shape, args| touches.unconsumed(shape, args, *outer));
    }

    fn gone(&mut self, client: u64) {
        self.multi.remove(&client);
        self.settle();
        self.touches.forget_db();
    }

    fn event(&mut self, context: &Context, event: Event, key: &[u8]) {
        let db = context.db();
        let expiring = if event == Event::HExpired { field_ttls::known(db, key) } else { Vec::new() };
        if !expiring.is_empty() {
            // Those that are still there at the end of the unit have not expired.
            self.unit.expired(db, key, &expiring);
        }
        // Valkey says the same of fields that a command ends at once, which may have had no time before.
        if expiring.is_empty() || self.unit.ends_fields_of(key) {
            self.unit.event(event, db, key, timer::cached_ms());
        }
        if !self.job {
            self.schedule(context);
        }
        if let Some(db) = self.pinned_db
            && matches!(event, Event::New | Event::Replaced)
        {
            context.select(db);
        }
    }

    fn schedule(&mut self, context: &Context) {
        if !self.job {
            self.job = notify::add_job(context).is_some();
            if !self.job {
                self.unit.clear();
            }
        }
    }

    fn unit_end(&mut self, context: &Context) {
        self.job = false;
        self.unit.end();
        if self.unit.is_empty() {
            return;
        }
        if let Some(home) = self.home.take()
            && let Some(client) = client::info(home).or_else(|| client::info(self.outer))
        {
            context.select(client.db);
        }
        let mut dataset = ServerDataset::new(context);
        if self.postpones(context, &mut dataset) {
            return self.unit.clear();
        }
        effects::resolve(&self.unit, &mut dataset, VOLATILE.get(), &mut self.group);
        for (db, key) in self.group.whole.drain(..) {
            field_ttls::noted_all(db, &key);
            let kind = dataset.type_name(db, &key);
            *self.counters.captured_whole.entry(kind).or_default() += 1;
        }
        self.unit.next();
        self.commit(context, &mut dataset);
    }

    /// Logs what a client was given that waited for it.
    fn log_changes(&mut self, context: &Context, db: u32, key: &[u8], changes: &stream::Changes) {
        for effect in syncer_shared::group::effects(changes.effects.body()) {
            self.group.push(&Effect { db, key, ttl: TtlNote::None, op: effect.op }, None);
        }
        self.commit(context, &mut ServerDataset::new(context));
    }

    /// Deletes hashes all of whose fields have expired, here and at replicas: they were captured as none. `COPY` makes such on Valkey 9.1, which would
    /// stay for ever.
    fn delete_hollow(&mut self, context: &Context, dataset: &mut ServerDataset<'_>) {
        for (db, key) in self.group.hollow.drain(..) {
            dataset.delete(db, &key, ClearReason::Deleted);
            let home = context.db();
            if replication::needed() && context.select(db) {
                notify::replicate_del(context, &key);
                context.select(home);
            }
        }
    }

    /// Logs the group that was built. I-1: within the propagation unit of the write.
    fn commit(&mut self, context: &Context, dataset: &mut ServerDataset<'_>) {
        if self.group.builder.is_empty() && self.group.drafts.is_empty() {
            return;
        }
        self.delete_hollow(context, dataset);
        match state::shard() {
            Ok(mut shard) => {
                replication::drain(context, &mut shard);
                let now_ms = timer::cached_ms();
                if shard.has_changed() {
                    shard.add_changed(&mut self.group.builder, dataset);
                }
                self.coalescing.captured(self.group.builder.body(), now_ms);
                let Group { builder, before, drafts, .. } = &self.group;
                let record = if drafts.is_empty() {
                    shard.commit(builder, before, dataset, now_ms)
                } else {
                    shard.commit_edits(builder, before, drafts, dataset, now_ms)
                };
                if replication::needed() {
                    notify::replicate_log(context, record);
                }
                drop(shard);
                blocking::after_unit(context, self.group.builder.body());
            }
            Err(error) => {
                self.counters.lost += 1;
                server_log::warning(&format!("syncer: bug: a write was not logged: {error}"));
            }
        }
        self.group.clear();
    }
}
