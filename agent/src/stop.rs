//! Ending upon SIGTERM or SIGINT, within a second whatever hangs.
//!
//! The tasks of an agent run on one thread and end wherever they wait for a server, since nothing has to be put in order. But that thread may itself be
//! held up: by a disk that stands still, or by a log that nobody reads. So the signals come to another thread, which ends the process if it is still there
//! after [`GRACE`]. What was on its way then is as after a crash: the next agent goes on.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

/// How long the tasks have to end by themselves.
pub const GRACE: Duration = Duration::from_millis(700);

const _: () = assert!(GRACE.as_millis() < 1000, "it ends within a second, and some of that is the system's");

/// The exit status when they had not.
pub const BROKEN_OFF: u8 = 3;

/// Done upon SIGTERM or SIGINT. The process does not outlive that by more than [`GRACE`].
///
/// # Errors
/// The system gives no thread, or no signals.
pub fn stopped() -> io::Result<impl Future<Output = ()>> {
    let (tell, told) = oneshot::channel();
    // From here on they end nothing by themselves.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("stop".to_owned()).spawn(move || {
        signals.forever().next();
        // Nobody listens if it has ended by itself.
        let _ = tell.send(());
        thread::sleep(GRACE);
        // No word of it in the log: that may be what hangs.
        process::exit(BROKEN_OFF.into());
    })?;
    Ok(async {
        let _ = told.await;
    })
}
