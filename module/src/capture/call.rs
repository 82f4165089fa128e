//! `SYNCER.CALL command ...`: runs the command as the client would, and sees what it replies.
//!
//! The filter puts it in front of commands whose arguments and events do not say what they change, and of those queued
//! in MULTI, where no filter runs. It takes nothing away from the caller's rights and adds none.

use super::looks::{After, Before};
use super::shape::{Class, Shape};
use super::stream::{Given, blocking};
use super::{Mode, ServerDataset, replication, role, stray, threads, with};
use crate::redis::passthrough::{self, As};
use crate::redis::{Args, Command, CommandResult, Context, Run, client, entry, notify};

/// For commands that run when memory is short.
pub const PLAIN: Command = command(c"syncer.call", entry::<Plain>(), c"write getkeys-api");
/// For commands that are refused when memory is short.
pub const OOM: Command = command(c"syncer.call.oom", entry::<Plain>(), c"write deny-oom getkeys-api");
/// The same for users who may not run `SYNCER.CALL`.
pub const TWIN: Command = command(c"syncer.call.as", entry::<Twin>(), c"write no-auth getkeys-api");
/// The same for users who may not run `SYNCER.CALL`.
pub const TWIN_OOM: Command = command(c"syncer.call.as.oom", entry::<Twin>(), c"write deny-oom no-auth getkeys-api");

/// For `PFCOUNT`, which is a read.
pub const READ: Command =
    Command { categories: c"read", ..command(c"syncer.call.read", entry::<ReadPlain>(), c"readonly getkeys-api") };
/// The same for users who may not run it.
pub const TWIN_READ: Command = Command {
    categories: c"read",
    ..command(c"syncer.call.as.read", entry::<ReadTwin>(), c"readonly no-auth getkeys-api")
};

const fn command(
    name: &'static std::ffi::CStr,
    entry: crate::redis::command::Entry,
    flags: &'static std::ffi::CStr,
) -> Command {
    Command {
        name,
        entry,
        flags,
        categories: c"write",
        arity: -2,
        keys: (0, 0, 0),
        summary: c"Internal: runs a command and captures what it changes.",
        usage: "command [argument ...]",
        complexity: c"That of the command.",
    }
}

struct Plain;
struct Twin;
struct ReadPlain;
struct ReadTwin;

/// Why a command was not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("ERR wrong number of arguments for 'syncer.call' command")]
    Arity,
    /// The filter wraps nothing else; and some commands (SYNC, ...) must not run without a connection.
    #[error("ERR SYNCER.CALL is internal: it runs commands that write keys, and no others")]
    NotAWrite,
    /// What the server would say by itself.
    #[error("ERR This command is not allowed from script")]
    Script,
    /// The text of a client that has not authenticated; the twin is never put in front of a default user's command.
    #[error("NOAUTH Authentication required.")]
    DefaultUser,
}

impl Run for Plain {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        Ok(run(context, args, false)?)
    }
}

impl Run for Twin {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        check_user(context)?;
        Ok(run(context, args, false)?)
    }
}

impl Run for ReadPlain {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        Ok(run(context, args, true)?)
    }
}

impl Run for ReadTwin {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        check_user(context)?;
        Ok(run(context, args, true)?)
    }
}

/// Twins are for users by name: whoever has not authenticated is the default user.
pub(super) fn check_user(context: &Context) -> Result<(), CallError> {
    let is_default = |name: crate::redis::OwnedText| name.text().as_bytes().eq_ignore_ascii_case(b"default");
    if !passthrough::is_keys_request(context) && client::current_user(context).is_none_or(is_default) {
        return Err(CallError::DefaultUser);
    }
    Ok(())
}

/// `reads`: runs what is a read, and nothing else; else what is none.
fn run(context: &Context, args: Args<'_>, reads: bool) -> Result<(), CallError> {
    if passthrough::answer_key_positions(context, args, 1) {
        return Ok(());
    }
    let said = args.from(1);
    let shorter = threads::without(said);
    let inner = shorter.as_deref().map_or(said, Args::of);
    let name = inner.bytes(0).ok_or(CallError::Arity)?;
    let class = with(|capture| capture.table.find(name).map(|spec| spec.class)).flatten();
    let (class, shape) = class.and_then(|class| Some((class, class.shape()?))).ok_or(CallError::NotAWrite)?;
    if shape == Shape::Functions && context.flags().in_script() {
        return Err(CallError::Script);
    }
    if reads != (shape == Shape::PfCount) {
        return Err(CallError::NotAWrite);
    }
    let moves_groups = shape == Shape::Stream && name.eq_ignore_ascii_case(b"xgroup");
    if moves_groups {
        blocking::before_move(context);
    }
    let before = begin(context, inner, class, shape);
    let run_as = As { user: client::current_user(context).is_some(), replicated: !reads };
    let outside = with(|capture| capture.nested.replace(context.db())).flatten();
    let given = match &before {
        Some(before) => before.run(context, inner, run_as),
        None => Given::Reply(stray::at_home(context, || passthrough::run(context, inner, run_as))),
    };
    with(|capture| capture.nested = outside);
    if threads::adds_vector(inner) && !given.is_error() && !given.is_one() && replication::needed() {
        // Redis 8.2 keeps a new vector of an element that is there to itself: its replicas and its file have the old one.
        notify::replicate(context, inner);
    }
    if let Some(before) = before {
        finish(context, inner, before, &given);
    }
    if moves_groups {
        blocking::after_move(context);
    }
    given.reply(context, inner);
    Ok(())
}

/// Looks, then stages the command. `None` when nothing is captured here.
fn begin(context: &Context, args: Args<'_>, class: Class, shape: Shape) -> Option<Before> {
    if role::mode() != Mode::Primary {
        return None;
    }
    // Outside the borrow: looking may expire a key, whose events come in.
    let before = Before::look(context, &mut ServerDataset::new(context), shape, args);
    let db = context.db();
    with(|capture| {
        capture.settle();
        // What a command on a stream has done its reply tells; events only name its key.
        let is_read = args.bytes(0).is_some_and(|name| name.eq_ignore_ascii_case(b"xreadgroup"));
        let kept = if shape == Shape::Stream && !is_read { 3 } else { args.len() };
        let staged = args.iter().take(kept).enumerate().map(|(at, arg)| if at == 0 { &[] } else { arg.as_bytes() });
        capture.unit.stage(shape, staged);
        before.tell(&mut capture.unit);
        capture.touches.staged_in_db(db);
        capture.pinned_db = Some(db).filter(|_| stray::has_bug() && matches!(class, Class::Between(_)));
    })?;
    Some(before)
}

/// Takes what the reply and a look tell.
fn finish(context: &Context, args: Args<'_>, before: Before, given: &Given) {
    let is_message = before.is_message();
    let after = After::look(context, &mut ServerDataset::new(context), before, args, given);
    let db = context.db();
    with(|capture| {
        // Replicas and whoever reads the file have the same bug, with nobody to put it right.
        let strays = capture.pinned_db.take().is_some() && capture.unit.target_db().is_some_and(|target| target != db);
        if strays && !given.is_error() && replication::needed() {
            notify::replicate_select(context);
        }
        after.tell(&mut capture.unit, db);
        if given.is_error() {
            capture.unit.close(|_, _| {});
        } else {
            if is_message {
                capture.unit.published();
            }
            capture.settle();
        }
        if !capture.unit.is_empty() {
            capture.schedule(context);
        }
    });
}
