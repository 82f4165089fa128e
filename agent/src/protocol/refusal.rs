//! Error replies: what kind, and what to do.

use std::fmt;

use super::Position;

/// An error reply, or one that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// What kind.
    pub code: Code,
    /// What the server said.
    pub text: String,
}

/// The kinds of refusal that call for different reactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Other protocol versions.
    Version,
    /// An instance id is used twice, or isn't the expected one.
    Id,
    /// Not a member, and cannot become one.
    Member,
    /// One of the two was forgotten.
    Forgotten,
    /// The effects are of a reign that has ended.
    Fenced,
    /// The server is a replica.
    Role,
    /// Clocks too far apart.
    Drift,
    /// The local server has fewer databases than the peer's.
    Database,
    /// A frame was damaged on its way.
    Frame,
    /// Effects before these are missing.
    Gap,
    /// The backlog no longer has what was asked for.
    NotHeld,
    /// Somebody else moved the position to here; `None` when unreadable.
    Position(Option<Position>),
    /// A full sync goes on at the local server, or was broken off.
    Syncing,
    /// The module isn't loaded.
    NoModule,
    /// ACL or login.
    Denied,
    /// The server is starting up or busy.
    Busy,
    /// Any other error reply.
    Other,
    /// A reply of another shape than the protocol's.
    Shape,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.advice().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl Code {
    /// Whether only a person can help: retried slowly, state `refused`.
    #[must_use]
    pub const fn needs_operator(self) -> bool {
        matches!(
            self,
            Self::Version
                | Self::Id
                | Self::Member
                | Self::Forgotten
                | Self::Fenced
                | Self::Drift
                | Self::Database
                | Self::NoModule
                | Self::Denied
        )
    }

    /// What to do about it, where the server's own words don't say.
    const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Version => Some("upgrade the older of agent and module"),
            Self::Id => Some("give every server its own instance-id, and point --peer <id> at that one"),
            Self::Drift => Some("synchronize the servers' clocks (NTP)"),
            Self::NoModule => Some("load libsyncer.so there, and check that the address is the right one"),
            Self::Denied => {
                Some("check user, password and ACL; docs/AGENT.md lists the commands that the agent's user needs")
            }
            Self::Shape => Some("is the module there of another version?"),
            _ => None,
        }
    }

    fn of(text: &str) -> Self {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "SYNCERVERSION" => Self::Version,
            "SYNCERID" => Self::Id,
            "SYNCERMEMBER" => Self::Member,
            "SYNCERFORGOTTEN" => Self::Forgotten,
            "SYNCERFENCED" => Self::Fenced,
            "SYNCERROLE" | "READONLY" => Self::Role,
            "SYNCERDRIFT" => Self::Drift,
            "SYNCERDATABASE" => Self::Database,
            "SYNCERFRAME" => Self::Frame,
            "SYNCERGAP" => Self::Gap,
            "SYNCERNOTHELD" => Self::NotHeld,
            "SYNCERSYNC" => Self::Syncing,
            "SYNCERPOSITION" => Self::Position(expected_position(rest)),
            "NOAUTH" | "NOPERM" | "WRONGPASS" => Self::Denied,
            "SYNCERSNAPSHOT" | "LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" => Self::Busy,
            "ERR" if rest.to_ascii_lowercase().starts_with("unknown command") => Self::NoModule,
            _ => Self::Other,
        }
    }
}

/// From `expected <replid> <offset>`, wherever in the sentence.
fn expected_position(text: &str) -> Option<Position> {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let replid = words.find_map(|word| word.parse().ok())?;
    Some(Position { replid, offset: words.find_map(|word| word.parse().ok())? })
}

impl Refusal {
    fn advice(&self) -> Option<&'static str> {
        match self.code {
            // Nobody can tell which of the two it is.
            Code::Id if self.text.contains("came back without its state") => Some(
                "give every server its own instance-id; if its state is lost, SYNCER.FORGET it at a member, then run syncer-agent join beside it",
            ),
            code => code.advice(),
        }
    }

    /// From the text of an error reply.
    #[must_use]
    pub fn from_error(text: &str) -> Self {
        let code = Code::of(text);
        // Servers repeat the arguments of unknown commands.
        let told = if code == Code::NoModule { text.split(", with args").next() } else { None };
        Self { code, text: told.unwrap_or(text).to_owned() }
    }

    pub(super) fn shape(command: &str) -> Self {
        Self { code: Code::Shape, text: format!("unexpected answer to {command}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_refusals_apart() {
        let replid = "ab".repeat(20);
        let text = format!("SYNCERPOSITION expected {replid} 77");
        let expected = Position { replid: replid.parse().unwrap(), offset: 77 };
        assert_eq!(Refusal::from_error(&text).code, Code::Position(Some(expected)));
        assert_eq!(Refusal::from_error("SYNCERPOSITION expected ? -1").code, Code::Position(None));
        let unknown = Refusal::from_error("ERR unknown command 'SYNCER.PSYNC', with args beginning with: '1' '*'");
        assert_eq!((unknown.code, unknown.text.as_str()), (Code::NoModule, "ERR unknown command 'SYNCER.PSYNC'"));
        assert_eq!(Refusal::from_error("NOPERM User x has no permissions").code, Code::Denied);
        assert_eq!(Refusal::from_error("OOM command not allowed").code, Code::Other);
        let drift = Refusal::from_error("SYNCERDRIFT 90 s ahead").to_string();
        assert!(drift.starts_with("SYNCERDRIFT 90 s ahead; ") && drift.contains("NTP"));
    }

    #[test]
    fn what_to_do_is_said_once() {
        let id = syncer_shared::instance::InstanceId::new(1).unwrap();
        let told = Refusal::from_error(&syncer_shared::shard::HandshakeError::SameId(id).to_string()).to_string();
        assert_eq!(told.matches("own instance-id").count() + told.matches("own id").count(), 1, "{told}");
        let lost = "SYNCERID instance id 3 is known here as replication ID a, which b does not continue: another server uses this id, or it came back without its state";
        let told = Refusal::from_error(lost).to_string();
        assert!(told.contains("SYNCER.FORGET it at a member, then run syncer-agent join"), "{told}");
    }
}
