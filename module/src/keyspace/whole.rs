//! Whole values: of the types that are not merged by element (yet).

use std::sync::atomic::{AtomicU64, Ordering};

use syncer_shared::effect::ClearReason;
use syncer_shared::keyspace::Keyspace;

use super::module_type;
use super::payload::{self, Payload};
use super::server::ServerKeyspace;
use crate::capture;
use crate::redis::command::is_running;
use crate::redis::{OwnedText, call, log};

/// How many whole values no command of this server could take.
static PAYLOADS_REFUSED: AtomicU64 = AtomicU64::new(0);

/// What `DEBUG DIGEST-VALUE` says of types that take none: without a TTL, and with one (SHA-1 of `!!expire!!`).
const NO_DIGEST: [&[u8]; 2] =
    [b"0000000000000000000000000000000000000000", b"e685feffdc39ea54c116ebf8456acf9b1aae4183"];

impl ServerKeyspace<'_> {
    /// How many whole values from peers this server could not take: of types or versions that it does not know.
    #[must_use]
    pub fn payloads_refused() -> u64 {
        PAYLOADS_REFUSED.load(Ordering::Relaxed)
    }

    /// The type of a key as the server names it.
    pub fn type_name(&mut self, db: u32, name: &[u8]) -> String {
        let reply = self.call(db, name, c"TYPE", &[]);
        String::from_utf8_lossy(reply.bytes().unwrap_or_default()).into_owned()
    }

    /// The value of a key of kind `Opaque` in a form that is equal for equal values on every server.
    pub fn canonical(&mut self, db: u32, name: &[u8]) -> Vec<u8> {
        self.type_digest(db, name).unwrap_or_else(|| {
            // Without the version, which differs between servers.
            let payload = self.payload(db, name).unwrap_or_default();
            payload.get(3..).unwrap_or_default().to_vec()
        })
    }

    /// The digest that a module's type takes of its value, if it takes one. Its dump may differ for equal values: a vector
    /// set's tells in which order the elements came. (A called command is not subject to `enable-debug-command`.)
    fn type_digest(&mut self, db: u32, name: &[u8]) -> Option<Vec<u8>> {
        self.close();
        self.select(db);
        let (what, name) = (OwnedText::new(b"DIGEST-VALUE"), OwnedText::new(name));
        let reply = call(self.context, c"DEBUG", &[what.text(), name.text()]);
        let mut digest = None;
        reply.each(|one| digest = one.bytes().map(<[u8]>::to_vec));
        digest.filter(|digest| !NO_DIGEST.contains(&digest.as_slice()))
    }

    /// Replaces the whole value and keeps the TTL. Whether this server could read it; if not, the key goes.
    pub(super) fn put_payload(&mut self, db: u32, name: &[u8], payload: &[u8]) -> bool {
        let expire_at = self.expire_at(db, name);
        let refused = match payload::decode(payload) {
            Some(Payload::Dump(dump)) => self.restore(db, name, &dump),
            None => Some("it is broken".to_owned()),
        };
        match refused {
            None => {
                self.key(db, name).set_expire_at(expire_at);
                true
            }
            Some(error) => {
                self.delete(db, name, ClearReason::Deleted);
                refuse(name, &error);
                false
            }
        }
    }

    /// Returns why the server does not take it.
    fn restore(&mut self, db: u32, name: &[u8], dump: &[u8]) -> Option<String> {
        let refused = self.refuses_to_try(dump);
        if refused.is_some() { refused } else { self.call(db, name, c"RESTORE", &[b"0", dump, b"REPLACE"]).error() }
    }

    /// Who serves a client answers it with an error when it cannot read a value. But while a server serves nobody, since it loads a file or a timer
    /// runs, it takes the value for one of a broken file, and **exits**.
    fn refuses_to_try(&self, dump: &[u8]) -> Option<String> {
        if self.context.flags().is_loading() {
            return match module_type::of(dump) {
                Some(kind) if module_type::is_known(self.context, &kind) => None,
                Some(kind) => Some(format!("there is no module for values of type {kind}")),
                None => Some("it is of a type that this version of Syncer does not know".to_owned()),
            };
        }
        if is_running() {
            return None;
        }
        // What has to be written may be such a value, so it is done from an agent's command (`capture::go_on`), and nothing gets here.
        capture::saw_types();
        Some("no client is served now; the next report of the agent tries again".to_owned())
    }
}

/// Counts a whole value that cannot be written here, and says so: at the first, then ever more rarely.
fn refuse(name: &[u8], error: &str) {
    let count = PAYLOADS_REFUSED.fetch_add(1, Ordering::Relaxed) + 1;
    if count.is_power_of_two() {
        let name = String::from_utf8_lossy(name.get(..64).unwrap_or(name));
        log::warning(&format!(
            "syncer: this server cannot read a peer's value of key '{name}' ({error}): clients see no such key here. The \
             value is kept and passed on, see payloads_unknown in INFO. {count} such values since start"
        ));
    }
}
