//! Reports: the clocks that members tell each other (DESIGN 2.2 rules 1 to 3).

use crate::instance::InstanceId;
use crate::token::ClockToken;
use crate::wire::{Reader, WireError, limits, writer};

/// The clocks of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// Who reports.
    pub instance: InstanceId,
    /// What every replica of it that may be promoted has: counts for S (rule 1).
    pub durable: ClockToken,
    /// What its primary has applied: `SYNCER.WAIT` counts this.
    pub applied: ClockToken,
}

/// Format version.
const VERSION: u8 = 1;

/// Appends the binary form of a report: what a shard knows of each member, by rising instance id (docs/PROTOCOL.md 5).
pub fn encode(members: &[MemberReport], out: &mut Vec<u8>) {
    let mut members: Vec<&MemberReport> = members.iter().collect();
    members.sort_unstable_by_key(|member| member.instance);
    out.push(VERSION);
    writer::varint(out, members.len() as u64);
    for MemberReport { instance, durable, applied } in members {
        writer::instance(out, *instance);
        durable.encode(out);
        applied.encode(out);
    }
}

/// Reads a report.
///
/// # Errors
/// See [`WireError`].
pub fn decode(bytes: &[u8]) -> Result<Vec<MemberReport>, WireError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8("report version")?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let count = reader.limited(limits::REPORT_MEMBERS_MAX as u64, "members of a report")?;
    let mut members: Vec<MemberReport> = Vec::new();
    for _ in 0..count {
        let instance = reader.instance("reporting instance")?;
        if members.last().is_some_and(|last| last.instance >= instance) {
            return Err(WireError::Invalid { what: "order of members" });
        }
        let durable = ClockToken::decode(&mut reader)?;
        let applied = ClockToken::decode(&mut reader)?;
        members.push(MemberReport { instance, durable, applied });
    }
    reader.finish()?;
    Ok(members)
}
