//! A full sync by merge that a test brings itself, as an agent would: so it is known what happens between which of its steps.

use crate::client::Client;
use crate::reply;

/// The pieces of a snapshot, and what goes before them.
#[derive(Debug)]
pub struct Snapshot {
    /// About how many keys it has.
    pub keys: String,
    /// What it begins with.
    pub head: Vec<u8>,
    /// Its keys, in their order.
    pub pieces: Vec<Vec<u8>>,
}

impl Snapshot {
    /// All of one that is taken now, for the instance that is to have it.
    ///
    /// # Panics
    /// When the source does not give it.
    pub fn of(source: &mut Client, target: u8) -> Self {
        let begun = source.text_items(&format!("SYNCER.SNAPSHOT BEGIN {target}"));
        let mut snapshot = Self { keys: begun[1].clone(), head: Vec::new(), pieces: Vec::new() };
        loop {
            let answer = source.ok(&format!("SYNCER.SNAPSHOT READ {}", begun[0]));
            let [word, _, _, bytes] = reply::items(&answer) else { panic!("{}", reply::text(&answer)) };
            let bytes = reply::bytes(bytes).to_vec();
            match reply::text(word).as_str() {
                "HEAD" => snapshot.head = bytes,
                "KEYS" => snapshot.pieces.push(bytes),
                "END" => return snapshot,
                other => panic!("{other}"),
            }
        }
    }

    /// Begins to merge it. Returns the token of that merge.
    ///
    /// # Panics
    /// When it is refused.
    pub fn begin(&self, agent: &mut Client, source: &str) -> String {
        let begin: [&[u8]; 6] =
            [b"SYNCER.SYNC", b"BEGIN", source.as_bytes(), self.keys.as_bytes(), b"test", &self.head];
        let token = agent.args(&begin);
        assert!(!reply::is_error(&token), "{}", reply::text(&token));
        reply::text(&token)
    }
}

/// Merges pieces of a snapshot, all of them.
///
/// # Panics
/// When one is refused.
pub fn merge(agent: &mut Client, token: &str, pieces: &[Vec<u8>]) {
    pieces.iter().for_each(|piece| bring(agent, &[b"SYNCER.SYNC", b"KEYS", token.as_bytes()], piece));
}

/// Sends one piece until all of it is taken; `words` go before it.
///
/// # Panics
/// When it is refused.
pub fn bring(agent: &mut Client, words: &[&[u8]], piece: &[u8]) {
    let mut left = piece;
    while !left.is_empty() {
        let answer = agent.args(&[words, &[left]].concat());
        let used = reply::items(&answer).first().map(reply::integer);
        let used =
            used.and_then(|used| usize::try_from(used).ok()).unwrap_or_else(|| panic!("{}", reply::text(&answer)));
        left = &left[used..];
    }
}
