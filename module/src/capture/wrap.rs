//! Putting `SYNCER.CALL` in front of a command (CAPTURE 8, 9).
//!
//! Four wrappers: refused when out of memory or not, as the command; and for users who may run the command but not
//! `SYNCER.CALL`, twins that need no rights of their own. A command that the server would refuse right away is left
//! alone, so that its error and, in MULTI, the EXECABORT stay stock. So is one of a default user who may not run
//! `SYNCER.CALL`: unauthenticated clients are that user, too. What is left alone is still captured, by its events.

use syncer_shared::keyspace::Keyspace;

use super::shape::{Class, Shape};
use super::stream::blocking;
use super::table::Spec;
use super::{Capture, ServerDataset, call, no_touch, published};
use crate::redis::client::{self, User};
use crate::redis::filter::Call;
use crate::redis::server;
use crate::redis::{Command, Context, OwnedText, Text, detached, timer};

/// Whether COPY and MOVE to another database leave the client there: Valkey 8.1 with any subscriber of keyspace events.
#[must_use]
pub fn has_copy_bug(context: &Context) -> bool {
    server::valkey_version(context).is_some_and(|version| version.starts_with("8."))
}

impl Capture {
    /// A command whose arguments would be staged, but runs without the filter: in MULTI, or with flags.
    #[cold]
    pub(super) fn wrap_or_stage(&mut self, call: &mut Call, spec: Spec, shape: Shape) {
        if !self.wrap(call, spec) && !matches!(spec.class, Class::StagePlain(_)) {
            self.stage(call, shape);
        }
    }

    /// Puts the wrapper in front, unless the server would refuse the command. Whether it did.
    #[cold]
    pub(super) fn wrap(&mut self, call: &mut Call, spec: Spec) -> bool {
        if !spec.takes(call.len()) {
            return false;
        }
        let caller = self.caller(call);
        let name = {
            let args = call.args();
            let names = match spec.class {
                Class::Call(Shape::PfCount) => (&call::READ, &call::TWIN_READ),
                _ if spec.deny_oom => (&call::OOM, &call::TWIN_OOM),
                _ => (&call::PLAIN, &call::TWIN),
            };
            wrapper(caller, self.outer, &args, names)
        };
        name.inspect(|name| call.prefix(name)).is_ok()
    }

    /// `FUNCTION`, if it changes libraries and they travel. Not from scripts, where the server refuses it.
    #[cold]
    pub(super) fn wrap_functions(&mut self, call: &mut Call, spec: Spec) {
        if published::wants_functions() && published::changes_functions(call.bytes(1)) {
            self.caller(call);
            if !self.scripting {
                self.wrap(call, spec);
            }
        }
    }

    /// A command that may block: inside MULTI and scripts it cannot, and with something to take it will not.
    #[cold]
    pub(super) fn wrap_if_unblocked(&mut self, call: &mut Call, spec: Spec, shape: Shape) {
        let caller = self.caller(call);
        let client = if self.scripting { None } else { client::running(caller) };
        let runs = match client {
            // Scripts and other modules.
            None => true,
            Some(info) if info.in_multi => true,
            Some(info) if shape == Shape::Stream => {
                detached().is_some_and(|context| blocking::will_not_block(context, call, info.db))
            }
            Some(info) => has_any_key(call, info.db, shape),
        };
        if runs {
            self.wrap(call, spec);
        } else if shape == Shape::Stream {
            blocking::watch(call, caller);
        }
    }
}

/// Why a command is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwrapped {
    /// The user may not run it: the server says so.
    Forbidden,
    /// It is the default user's, who may not run the wrapper; whoever has not authenticated is that user, too.
    DefaultUser,
}

/// The name of the wrapper to use.
pub(super) fn wrapper(
    client: u64,
    outer: u64,
    args: &[Text<'_>],
    (plain, twin): (&'static Command, &'static Command),
) -> Result<&'static [u8], Unwrapped> {
    // Commands of a script run as the user who called it; those of other modules have no user and all rights.
    let in_script = detached().is_some_and(|context| context.flags().in_script());
    let known = if in_script { Some(outer) } else { client::running(client).map(|_| client) };
    let Some(name) = known.and_then(client::user_name) else {
        return Ok(plain.name.to_bytes());
    };
    let user = User::find(name.text()).filter(|user| user.may_run(args)).ok_or(Unwrapped::Forbidden)?;
    let own = OwnedText::new(plain.name.to_bytes());
    let wrapped: smallvec::SmallVec<[Text<'_>; 8]> = std::iter::once(own.text()).chain(args.iter().copied()).collect();
    if user.may_run(&wrapped) {
        Ok(plain.name.to_bytes())
    } else if !name.text().as_bytes().eq_ignore_ascii_case(b"default") {
        Ok(twin.name.to_bytes())
    } else {
        Err(Unwrapped::DefaultUser)
    }
}

/// Whether one of the keys of `BZPOPMIN key ... timeout` or `BZMPOP timeout count key ...`, or the source of `BLMOVE`, exists.
fn has_any_key(call: &Call, db: u32, shape: Shape) -> bool {
    let Some(context) = detached() else { return false };
    let is_multi = call.bytes(0).is_some_and(|name| name.eq_ignore_ascii_case(b"bzmpop"));
    let count = |at| call.arg(at).and_then(Text::as_integer).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let keys = if shape == Shape::ListMove {
        1..2
    } else if is_multi {
        3..(3 + count(2)).min(call.len())
    } else {
        1..call.len().saturating_sub(1)
    };
    let mut dataset = ServerDataset::new(context);
    let now_ms = i64::try_from(timer::now_ms()).unwrap_or(i64::MAX);
    let mut is_there = |key| dataset.kind(db, key).is_some() && dataset.expire_at(db, key).is_none_or(|at| at > now_ms);
    let look = || blocking::in_database(context, db, || keys.filter_map(|at| call.bytes(at)).any(&mut is_there));
    no_touch::look(context, look).unwrap_or(false)
}
