//! A link that a test can cut, hang and slow down: a small TCP forwarder in this process. (haproxy of Debian 12 has no
//! bandwidth limits.)

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes forwarded at once.
const CHUNK_BYTES: usize = 16 << 10;
/// How often a link that hangs looks whether it still does.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a link does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Passes it on at once.
    #[default]
    Whole,
    /// Closes connections, old ones and new ones.
    Cut,
    /// Keeps connections open and passes nothing on.
    Hanging,
    /// Passes so many bytes a second, each chunk late.
    Slow {
        /// The limit for each connection and direction.
        bytes_per_second: u64,
        /// How late.
        latency: Duration,
    },
}

/// A loopback port that leads to another one, as long as this lives.
#[derive(Debug)]
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    target: u16,
    mode: Mode,
    streams: Vec<TcpStream>,
    ended: bool,
}

impl Link {
    /// Leads to this loopback port.
    ///
    /// # Errors
    /// When there is no port left to listen on.
    pub fn start(target: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { state: Mutex::new(State { target, ..State::default() }) });
        let of_thread = shared.clone();
        thread::spawn(move || accept(&listener, &of_thread));
        Ok(Self { port, shared })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does, at once.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.state();
        state.mode = mode;
        if mode == Mode::Cut {
            state.close();
        }
    }

    /// Leads to another port from now on, as a proxy does after a failover: connections to the old one are closed.
    pub fn retarget(&self, target: u16) {
        let mut state = self.shared.state();
        state.target = target;
        state.close();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.ended = true;
            state.close();
        }
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        for stream in self.streams.drain(..) {
            // An error says that it is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let mut state = shared.state();
        if state.ended {
            return;
        }
        let Ok(client) = client else { continue };
        if state.mode != Mode::Cut {
            // A server that is away closes the connection.
            let _ = join(&mut state, client, shared);
        }
    }
}

fn join(state: &mut State, client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", state.target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        state.streams.push(stream.try_clone()?);
    }
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        let shared = shared.clone();
        thread::spawn(move || {
            // However it ends, both directions do.
            let _ = forward(&from, &to, &shared);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

fn forward(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        loop {
            let (mode, ended) = {
                let state = shared.state();
                (state.mode, state.ended)
            };
            match mode {
                _ if ended => return Ok(()),
                Mode::Whole => break,
                Mode::Cut => return Ok(()),
                Mode::Hanging => thread::sleep(LOOK_EVERY),
                Mode::Slow { bytes_per_second, latency } => {
                    thread::sleep(latency + Duration::from_secs_f64(count as f64 / bytes_per_second.max(1) as f64));
                    break;
                }
            }
        }
        to.write_all(chunk.get(..count).unwrap_or_default())?;
    }
}
