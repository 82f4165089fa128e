//! Rights that are missing, on connections that go on without: whoever looks after the agent is told of each once.

use std::collections::BTreeSet;

use crate::protocol::{Code, Refusal};
use crate::resp::Reply;

/// Commands that were denied on one connection.
#[derive(Debug, Default)]
pub struct Denied(BTreeSet<Vec<u8>>);

impl Denied {
    /// Takes note of an answer; what to say of it, if it is news: a right that is missing, and has not been.
    pub fn look(&mut self, command: &[u8], reply: &Reply) -> Option<Refusal> {
        let Reply::Error(text) = reply else {
            self.0.remove(command);
            return None;
        };
        let refusal = Refusal::from_error(text);
        (refusal.code == Code::Denied && self.0.insert(command.to_vec())).then_some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_told_once_until_it_is_there() {
        let (mut denied, fine) = (Denied::default(), Reply::Integer(1));
        let refused = Reply::Error("NOPERM User agent has no permissions to run the 'syncer.report' command".into());
        assert_eq!(denied.look(b"SYNCER.REPORT", &fine), None);
        assert_eq!(denied.look(b"SYNCER.REPORT", &Reply::Error("LOADING".into())), None);
        assert!(denied.look(b"SYNCER.REPORT", &refused).is_some_and(|said| said.to_string().contains("docs/AGENT.md")));
        assert_eq!(denied.look(b"SYNCER.REPORT", &refused), None);
        assert!(denied.look(b"SYNCER.CLOCK", &refused).is_some());
        assert_eq!(denied.look(b"SYNCER.REPORT", &fine), None);
        assert!(denied.look(b"SYNCER.REPORT", &refused).is_some());
    }
}
