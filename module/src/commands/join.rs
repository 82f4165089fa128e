//! `SYNCER.SPONSOR`, `SYNCER.JOIN`: an instance joins a group that has data.

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::JoinData;

use super::arguments::{Arguments, CommandError};
use super::{progress, readers};
use crate::capture::replication;
use crate::keyspace::with_keyspace;
use crate::redis::timer::now_ms;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry, log, random_bytes};
use crate::state;

/// `SYNCER.SPONSOR instance`.
pub const SPONSOR: Command = Command {
    name: c"syncer.sponsor",
    entry: entry::<Sponsor>(),
    flags: c"readonly may-replicate deny-script",
    categories: c"admin dangerous",
    arity: 2,
    keys: (0, 0, 0),
    summary: c"Agents: lets an instance join, and gives the clock that it will have to reach.",
    usage: "instance",
    complexity: c"O(N) with N replication IDs known",
};

/// `SYNCER.JOIN clock|CHECK [DATA REFUSE|REPLACE|MERGE] [WINS MINE|GROUP]`.
pub const JOIN: Command = Command {
    name: c"syncer.join",
    entry: entry::<Join>(),
    flags: c"readonly may-replicate deny-script",
    categories: c"admin dangerous",
    arity: -2,
    keys: (0, 0, 0),
    summary: c"Agents: empties this instance and lets it take the state of the group whose clock this is. Takes no writes until it is in.",
    usage: "clock-token|CHECK [DATA REFUSE|REPLACE|MERGE] [WINS MINE|GROUP]",
    complexity: c"O(N) with N keys here",
};

struct Sponsor;
struct Join;

impl Run for Sponsor {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let instance = Arguments(args).instance(1, "instance")?;
        crate::capture::flush(context);
        let mut shard = state::shard()?;
        let clock = shard.sponsor(instance, now_ms())?;
        replication::drain(context, &mut shard);
        log::notice(&format!("syncer: instance {instance} joins, this instance is its sponsor"));
        context.reply().text(&clock.to_string());
        Ok(())
    }
}

/// What is said behind the clock.
fn options(args: Arguments<'_>) -> Result<(JoinData, bool), CommandError> {
    let (mut data, mut mine_wins) = (JoinData::Refuse, true);
    let mut at = 2;
    while at < args.0.len() {
        let (word, value) = (args.text(at)?.to_ascii_uppercase(), args.text(at + 1)?.to_ascii_uppercase());
        match (word.as_str(), value.as_str()) {
            ("DATA", "REFUSE") => data = JoinData::Refuse,
            ("DATA", "REPLACE") => data = JoinData::Replace,
            ("DATA", "MERGE") => data = JoinData::Merge,
            ("WINS", "MINE") => mine_wins = true,
            ("WINS", "GROUP") => mine_wins = false,
            _ => {
                let known = "DATA REFUSE, DATA REPLACE, DATA MERGE, WINS MINE, WINS GROUP";
                return Err(CommandError::Word { name: "option", word: format!("{word} {value}"), known });
            }
        }
        at += 2;
    }
    Ok((data, mine_wins))
}

impl Run for Join {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        let how = options(args)?;
        crate::capture::flush(context);
        let mut shard = state::shard()?;
        if args.text(1)?.eq_ignore_ascii_case("check") {
            // Its own clock: a sponsor that has all that is here.
            let here = shard.clock_token();
            with_keyspace(context, |keyspace| shard.check_join(&here, how.0, keyspace))?;
            context.reply().integer(i64::from(shard.instance().get()));
            return Ok(());
        }
        let via = args.token(1)?;
        replication::drain(context, &mut shard);
        let anew = (ReplId::from_bytes(random_bytes()), now_ms());
        with_keyspace(context, |keyspace| shard.join(via, how, keyspace, anew))?;
        replication::drain(context, &mut shard);
        let (instance, left): (InstanceId, usize) = (shard.instance(), shard.renewals_left().unwrap_or_default());
        drop(shard);
        progress::abandon();
        readers::forget_all();
        log::warning(&format!(
            "syncer: instance {instance} joins: its dataset was emptied, {left} keys are set aside to be written again"
        ));
        context.reply().ok();
        Ok(())
    }
}
