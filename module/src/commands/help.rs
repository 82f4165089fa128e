//! `SYNCER.HELP`.

use super::COMMANDS;
use crate::redis::{Answer, Args, Command, CommandResult, Context, Run, entry};

/// `SYNCER.HELP`.
pub const COMMAND: Command = Command {
    name: c"syncer.help",
    entry: entry::<Help>(),
    flags: c"readonly fast allow-loading allow-stale",
    categories: c"read fast",
    arity: 1,
    keys: (0, 0, 0),
    summary: c"Lists the commands of Syncer.",
    usage: "",
    complexity: c"O(1)",
};

struct Help;

impl Run for Help {
    fn run(context: &Context, _: Args<'_>) -> CommandResult {
        let lines = COMMANDS.iter().flat_map(|command| {
            let name = command.name.to_string_lossy().to_ascii_uppercase();
            let head = format!("{name} {}", command.usage);
            [head.trim_end().to_owned(), format!("    {}", command.summary.to_string_lossy())]
        });
        context.reply().answer(&Answer::Array(lines.map(Answer::Text).collect()));
        Ok(())
    }
}
