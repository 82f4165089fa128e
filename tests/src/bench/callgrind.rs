//! Servers under valgrind: how many instructions they execute, whatever else the machine does.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::server::{Server, ServerKind, ServerOptions};
use crate::wait;

/// What the servers do by the clock (`ae.c`), also for modules: on a busy machine it happens more often for each command.
const BY_THE_CLOCK: &str = "processTimeEvents";

/// A server under `valgrind --tool=callgrind`.
#[derive(Debug)]
pub struct Counted {
    /// The server.
    pub server: Server,
    // After the server, which writes there when it ends.
    folder: TempDir,
}

impl Counted {
    /// Starts one.
    ///
    /// # Panics
    /// When valgrind is missing.
    pub fn start(kind: ServerKind, options: ServerOptions) -> Self {
        let folder = TempDir::with_prefix("syncer-callgrind-").expect("a temporary folder can be made");
        let valgrind = find("valgrind");
        let out = format!("--callgrind-out-file={}/out", folder.path().display());
        let under: Vec<OsString> = [valgrind.into_os_string(), "--tool=callgrind".into(), out.into()].into();
        let server = Server::start(kind, options.under(under));
        Self { server, folder }
    }

    /// Counts from now on.
    pub fn begin(&self) {
        self.control("--zero");
    }

    /// Instructions since [`Counted::begin`], less what was done by the clock.
    pub fn count(&self) -> f64 {
        let dump = self.dump();
        dump.total - dump.by_the_clock
    }

    /// All instructions since [`Counted::begin`]: for what is itself done by timers, and long beside all else that is.
    pub fn count_with_the_clock(&self) -> f64 {
        self.dump().total
    }

    /// Callgrind writes its figures down when asked.
    fn dump(&self) -> Dump {
        let before = self.dumps();
        self.control("--dump");
        let new = || self.dumps().into_iter().find(|path| !before.contains(path)).and_then(|path| Dump::read(&path));
        wait::until(wait::PATIENCE, "callgrind writes its figures", new, || self.server.log())
    }

    /// Copies the files that hold the last counts to `folder`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn keep(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("the folder can be made");
        for path in self.dumps() {
            let name = path.file_name().expect("a dump has a name");
            fs::copy(&path, folder.join(name)).expect("the folder can be written");
        }
    }

    fn dumps(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).expect("our own folder can be read");
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }

    fn control(&self, what: &str) {
        let pid = self.server.process().pid().to_string();
        let output = Command::new(find("callgrind_control")).args([what, &pid]).output();
        let output = output.expect("callgrind_control can be started");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("OK."),
            "callgrind_control {what} {pid}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn find(program: &str) -> PathBuf {
    let path = Path::new("/usr/bin").join(program);
    assert!(path.is_file(), "{} is missing: install valgrind", path.display());
    path
}

/// What callgrind has counted.
struct Dump {
    total: f64,
    by_the_clock: f64,
}

impl Dump {
    /// `None` until it is complete.
    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()?;
        Some(Self { total, by_the_clock: calls_of(BY_THE_CLOCK, &text) })
    }
}

/// Instructions in calls of a function, as callgrind writes them: `cfn=(7) name`, later `cfn=(7)`; a line that begins with
/// `calls=`; a line that ends with their cost.
fn calls_of(function: &str, dump: &str) -> f64 {
    let named = |line: &str| Some(line.split_once('=')?.1.split_once(' ')?.0.to_owned());
    let is_name = |line: &&str| line.contains("fn=(") && line.ends_with(&format!(" {function}"));
    let Some(id) = dump.lines().find(is_name).and_then(named) else { return 0.0 };
    let (mut callee, mut cost, mut lines) = (false, 0.0, dump.lines());
    while let Some(line) = lines.next() {
        if let Some(called) = line.strip_prefix("cfn=") {
            callee = called.split(' ').next() == Some(id.as_str());
        } else if line.starts_with("calls=") && callee {
            let inclusive = lines.next().and_then(|line| line.split(' ').next_back()?.parse::<f64>().ok());
            cost += inclusive.unwrap_or_default();
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::calls_of;

    #[test]
    fn calls_are_found_under_their_short_name_too() {
        let dump = "fn=(1) main\n+3 10\ncfn=(2) processTimeEvents\ncalls=1 0\n* 700\ncfn=(3) other\ncalls=2 0\n5 40\n\
                    fn=(2)\n+1 90\nfn=(1)\ncfn=(2)\ncalls=3 0\n-2 5\n";
        assert_eq!(calls_of("processTimeEvents", dump), 705.0);
        assert_eq!(calls_of("nosuch", dump), 0.0);
    }
}
