//! Looks at keys from the command filter as if a command did.
//!
//! For a client with `CLIENT NO-TOUCH` on, Redis up to 8.2 at least asks, as soon as a key is looked up (`lookupKey` in `db.c`), which command
//! is being executed. In the filter there is none yet, and the server would crash. Within a command of our own there is one.

use std::cell::Cell;
use std::ffi::CStr;
use std::ptr::NonNull;

use super::{Context, call};

type Look = NonNull<dyn FnMut()>;

crate::redis::server_local! {
    static LOOK: Cell<Option<Look>> = const { Cell::new(None) };
}

/// Runs `look` within `command`, whose entry calls [`run`]. Whether it was run.
pub fn of(context: &Context, command: &CStr, mut look: impl FnMut()) -> bool {
    let look: NonNull<dyn FnMut() + '_> = NonNull::from(&mut look);
    // SAFETY: only the lifetime changes. The command runs before this returns, and what is left of it then is taken back: nobody runs it later.
    LOOK.set(Some(unsafe { std::mem::transmute::<NonNull<dyn FnMut() + '_>, Look>(look) }));
    let reply = call::call(context, command, &[]);
    LOOK.take().is_none() && !reply.is_error()
}

/// The entry of the command. Whether there was something to run: a client that calls it itself has nothing.
pub fn run() -> bool {
    // SAFETY: `of` is on the stack, and with it what this points to; it was taken, so nobody else runs it.
    LOOK.take().map(|mut look| unsafe { look.as_mut()() }).is_some()
}
