//! Connections of a site, and how commands are run there.

use super::command::{Command, Way};
use crate::client::{Client, words};
use crate::reply;
use crate::server::Server;

/// Connections of a site: one in each of two databases.
pub struct Site {
    clients: [Client; 2],
}

impl Site {
    /// To this server.
    pub fn of(server: &Server) -> Self {
        let mut clients = [server.client(), server.client()];
        clients[1].ok("SELECT 1");
        Self { clients }
    }

    /// Runs it. What it answered.
    pub fn run(&mut self, command: &Command) -> String {
        let client = &mut self.clients[usize::from(command.db == 1)];
        match command.way {
            Way::Plain => command.lines.iter().map(|line| client.text(line)).collect(),
            Way::Transaction => reply::text(&client.multi(&command.lines)),
            Way::Script { aborts } => reply::text(&client.args(&script(&command.lines, aborts))),
        }
    }
}

/// Each line is an argument that says of how many it consists, and these.
const SCRIPT: &str = "local replies, at = {}, 2
while ARGV[at] do
  local last = at + tonumber(ARGV[at])
  replies[#replies + 1] = redis[ARGV[1]](unpack(ARGV, at + 1, last))
  at = last + 1
end
return replies";

/// The call of a script that runs these lines.
fn script(lines: &[String], aborts: bool) -> Vec<Vec<u8>> {
    let call: &[u8] = if aborts { b"call" } else { b"pcall" };
    let counted = lines.iter().map(|line| words(line)).flat_map(|line| {
        let count = line.len().to_string().into_bytes();
        std::iter::once(count).chain(line)
    });
    [b"EVAL", SCRIPT.as_bytes(), b"0", call].map(<[u8]>::to_vec).into_iter().chain(counted).collect()
}
