//! One writer: a connection after the other to the primary of its site, until told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::history::{Epoch, History, Mark};
use super::write::{WriteId, is_stock_error};
use crate::client::Client;
use crate::reply;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);
/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so many writes, whether every other site has them is asked for.
const CONFIRM_EVERY: u32 = 50;

/// What the writers of one site share with whoever does things to it.
#[derive(Debug, Default)]
pub struct Target {
    /// Where its primary is.
    pub port: AtomicU16,
    /// And its replica.
    pub replica: AtomicU16,
    /// Rises when another server becomes the primary, or the same one comes back.
    pub generation: AtomicU64,
}

/// One writer.
pub struct Writer {
    /// Instance id of its site.
    pub site: u8,
    /// Its number at the site.
    pub number: u8,
    /// How many other sites there are.
    pub others: u32,
    /// Its site.
    pub target: Arc<Target>,
    /// What it did.
    pub history: Arc<History>,
    /// When to stop.
    pub stop: Arc<AtomicBool>,
    /// From one transaction to the next.
    pub pace: Duration,
}

impl Writer {
    /// Writes over one connection after the other; `first_epoch` is the first of them. Returns the next.
    pub fn run(self, first_epoch: u32) -> u32 {
        let mut epoch = first_epoch;
        while !self.stop.load(Ordering::Relaxed) {
            // The generation first: a primary that changes in between then ends this epoch.
            let generation = self.target.generation.load(Ordering::SeqCst);
            match Client::connect(self.target.port.load(Ordering::SeqCst)) {
                Ok(mut client) => {
                    client.patience(PATIENCE);
                    let first = WriteId { site: self.site, writer: self.number, epoch, n: 0 };
                    let (round, marks) =
                        (self.history.round(), vec![Mark { at: Instant::now(), sent: 0, confirmed: 0 }]);
                    let (last, sent) = (Instant::now(), self.history.begins(first));
                    let mut record = Epoch { first, generation, sent: 0, acked: 0, confirmed: 0, last, round, marks };
                    self.write(&mut client, &mut record, &sent);
                    if record.sent > 0 {
                        self.history.ended(record);
                        epoch += 1;
                    }
                    thread::sleep(RETRY);
                }
                Err(_) => thread::sleep(RETRY),
            }
        }
        epoch
    }

    /// Until something goes wrong: then nothing more is known of what was sent last.
    fn write(&self, client: &mut Client, record: &mut Epoch, sent: &AtomicU32) {
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) && self.target.generation.load(Ordering::SeqCst) == record.generation {
            let id = WriteId { n: record.sent, ..record.first };
            // A refusal comes before anything is sent that could be half there: EXEC is all or nothing.
            let Ok(answer) = transact(client, &id) else {
                record.sent += 1;
                return;
            };
            let Some(replies) = answer else { return };
            self.tell(id, reply::items(&replies));
            record.sent += 1;
            record.acked += 1;
            record.last = Instant::now();
            sent.store(record.sent, Ordering::SeqCst);
            if record.acked.is_multiple_of(CONFIRM_EVERY) && !self.confirm(client, record) {
                return;
            }
            next += self.pace;
            let now = Instant::now();
            if let Some(pause) = next.checked_duration_since(now) {
                thread::sleep(pause);
            } else {
                // Behind: no catching up, a server that was paused has enough to do.
                next = now;
            }
        }
    }

    /// What the replies of an acknowledged transaction say.
    fn tell(&self, id: WriteId, replies: &[redis::Value]) {
        let commands = id.commands();
        let lines = commands.get(1..).unwrap_or_default();
        let writes =
            lines.iter().zip(replies).filter(|(line, reply)| !line.starts_with("SELECT") && !reply::is_error(reply));
        self.history.wrote(writes.count() as u64);
        for (line, reply) in lines.iter().zip(replies).filter(|(_, reply)| reply::is_error(reply)) {
            let error = reply::text(reply);
            if !is_stock_error(&error) {
                // Also a refusal of one command of a transaction of which others were carried out.
                self.history.is_wrong(format!("{line} of {id}: {error}"));
            }
        }
        if let Some(taken) = replies.last().filter(|_| id.deed().takes() > 0) {
            let names = reply::items(taken).iter().chain([taken]).map(reply::text);
            self.history.popped(id, names.filter_map(|name| name.parse().ok()).collect());
        }
    }

    fn confirm(&self, client: &mut Client, record: &mut Epoch) -> bool {
        let Ok(answer) = client.try_cmd(&format!("SYNCER.WAIT {} 20", self.others)) else { return false };
        if reply::text(&answer).parse::<u32>().is_ok_and(|count| count >= self.others) {
            record.confirmed = record.acked;
        }
        let Epoch { sent, confirmed, .. } = *record;
        record.marks.push(Mark { at: Instant::now(), sent, confirmed });
        true
    }
}

/// The replies of the transaction if it was carried out; an error when that is not known.
fn transact(client: &mut Client, id: &WriteId) -> Result<Option<redis::Value>, ()> {
    let mut answers = client.try_pipeline(&id.commands()).map_err(drop)?;
    // Each command is refused by itself where this server takes no writes for a while: the first one as the others.
    let first = |exec: &redis::Value| reply::items(exec).first().map(reply::text).unwrap_or_default();
    let is_refused = |exec: &redis::Value| reply::is_error(exec) || first(exec).contains("SYNCER");
    Ok(answers.pop().filter(|exec| !is_refused(exec)))
}
