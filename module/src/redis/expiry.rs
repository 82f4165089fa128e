//! Looking at and writing keys without expiring them (rule T5: applying remote effects never expires).
//!
//! Redis 8 can open an expired key (`OPEN_KEY_ACCESS_EXPIRED`), Valkey cannot, and `RM_Call` expires on both.
//! But every server switches lazy expiry off while it runs a keyspace notification. So we notify ourselves with
//! an event class that no server and no user knows, and do the work in there. It costs about 0.1 us, and saves more:
//! the server does not tell a subscriber of events from inside its own handler.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Context, OwnedText};

/// Proof that lazy expiry is off. Exists inside [`without_expiry`] only.
#[derive(Clone, Copy)]
pub struct ExpiryOff(PhantomData<*mut ()>);

impl ExpiryOff {
    /// While no key has a TTL, none can expire: for looks, which send no notifications.
    #[must_use]
    pub fn as_nothing_expires() -> Self {
        Self(PhantomData)
    }
}

/// A class of keyspace events above all that servers use (17 bits in 2025). `notify-keyspace-events` cannot turn it on.
pub(in crate::redis) const PRIVATE_CLASS: c_int = 1 << 30;

/// What the notification runs.
type Body<'a> = &'a mut dyn FnMut();

crate::redis::server_local! {
    /// The body of the call in progress, as a raw pointer since it lives on the stack of `without_expiry`.
    static BODY: Cell<Option<*mut Body<'static>>> = const { Cell::new(None) };
    /// Whether a body is running: the server does not notify a subscriber from inside its own handler.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` while no key expires lazily, neither in it nor in commands that it calls. Nests.
///
/// # Panics
/// Passes on a panic of `body`.
pub fn without_expiry<R>(context: &Context, body: impl FnOnce(ExpiryOff) -> R) -> R {
    let off = ExpiryOff(PhantomData);
    if INSIDE.get() {
        return body(off);
    }
    let mut body = Some(body);
    let mut outcome: Option<Result<R, Box<dyn Any + Send>>> = None;
    let mut run = || {
        if let Some(body) = body.take() {
            outcome = Some(catch_unwind(AssertUnwindSafe(|| body(off))));
        }
    };
    notify_ourselves(context, &mut run);
    // Not told, since we are in a handler already: expiry is off as it is.
    run();
    match outcome {
        Some(Ok(result)) => result,
        Some(Err(panic)) => resume_unwind(panic),
        None => unreachable!("the body has run, here or in the notification"),
    }
}

fn notify_ourselves(context: &Context, run: &mut dyn FnMut()) {
    let mut run: Body<'_> = run;
    let name = OwnedText::new(b"syncer");
    INSIDE.set(true);
    BODY.set(Some((&raw mut run).cast()));
    // SAFETY: context and name are valid; the event's name is static. `run_body` runs within this call, or not at
    // all, and takes the pointer, so that it is not used after `run` is gone.
    unsafe {
        let event = c"syncer.without-expiry".as_ptr();
        api!(RedisModule_NotifyKeyspaceEvent)(context.raw(), PRIVATE_CLASS, event, name.text().raw());
    }
    BODY.set(None);
    INSIDE.set(false);
}

/// What the handler of keyspace events does with [`PRIVATE_CLASS`].
pub(in crate::redis) fn run_body() {
    if let Some(run) = BODY.take() {
        // SAFETY: `notify_ourselves` is on the stack below us and keeps `run` alive. It does not panic: what it
        // runs is caught there.
        unsafe { (*run)() };
    }
}
