//! What the module remembers between calls from the server, as a thread-local without a thread.
//!
//! The server calls us on its main thread, and on threads of other modules that hold its lock (`RM_ThreadSafeContextLock`): what such a
//! thread writes must be captured, too. So state belongs to whoever holds that lock, not to a thread.

use std::cell::RefCell;
use std::ops::Deref;

/// A value of whoever holds the server's lock. Made by `server_local!`.
pub struct ServerLocal<T>(T);

// SAFETY: every entry from the server comes with its lock held, which passes from thread to thread like a mutex; so no two threads
// are in here at once, and each sees what the last one did. Threads that this module starts (answers, snapshots, spool files) do not
// hold it, and use nothing that is declared with `server_local!`.
unsafe impl<T> Sync for ServerLocal<T> {}

impl<T> ServerLocal<T> {
    /// For `server_local!`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// As of a thread-local.
    pub fn with<R>(&self, body: impl FnOnce(&T) -> R) -> R {
        body(&self.0)
    }
}

impl<T> Deref for ServerLocal<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// As of a thread-local.
impl<T> ServerLocal<RefCell<T>> {
    /// Reads it.
    pub fn with_borrow<R>(&self, body: impl FnOnce(&T) -> R) -> R {
        body(&self.0.borrow())
    }

    /// Changes it.
    pub fn with_borrow_mut<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        body(&mut self.0.borrow_mut())
    }

    /// Replaces it.
    pub fn set(&self, value: T) {
        drop(self.0.replace(value));
    }
}

/// Declares statics of whoever holds the server's lock, used like thread-locals. In unit tests, which have no server, they are that.
macro_rules! server_local {
    ($($(#[$meta:meta])* static $name:ident: $kind:ty = const $value:block;)+) => {
        $(
            #[cfg(not(test))]
            $(#[$meta])*
            static $name: $crate::redis::server_local::ServerLocal<$kind> =
                $crate::redis::server_local::ServerLocal::new($value);
        )+
        #[cfg(test)]
        thread_local! {
            $($(#[$meta])* static $name: $kind = const $value;)+
        }
    };
}

pub(crate) use server_local;
