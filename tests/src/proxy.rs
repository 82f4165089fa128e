//! A real TCP proxy (haproxy) between sites: links that can be cut and healed, and links that speak TLS.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Process, arguments};
use crate::{port, wait};

/// What one link leads to, and how it is offered.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Name of the link, for [`Proxy::cut`]: letters, digits and `_`.
    pub name: String,
    /// The loopback port it leads to.
    pub target: u16,
    /// TLS towards the clients of the link, `None` for plain TCP.
    pub tls: Option<Tls>,
}

/// TLS ended by the proxy.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate and key of the proxy in one file.
    pub bundle: PathBuf,
    /// When given, clients must show a certificate signed by this CA (mTLS).
    pub client_authority: Option<PathBuf>,
}

/// One running haproxy with a loopback port per link. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    links: Vec<(String, u16)>,
    process: Process,
    // After the process: its log lies here and is shown upon a failure.
    folder: TempDir,
}

/// Ports that others took between the look and the bind, before a start gives up.
const PORT_ATTEMPTS: usize = 5;

impl Proxy {
    /// Starts haproxy with these links, all of them whole.
    ///
    /// # Panics
    /// When haproxy is missing or refuses its configuration, with what it said.
    pub fn start(links: &[LinkOptions]) -> Self {
        let mut said = String::new();
        for _ in 0..PORT_ATTEMPTS {
            match Self::try_start(links) {
                Ok(proxy) => return proxy,
                Err(output) => said = output,
            }
        }
        panic!("haproxy does not start:\n{said}");
    }

    fn try_start(options: &[LinkOptions]) -> Result<Self, String> {
        let folder = TempDir::with_prefix("syncer-proxy-").expect("a temporary folder can be made");
        let links: Vec<(String, u16)> = options.iter().map(|link| (link.name.clone(), port::free())).collect();
        let config = folder.path().join("haproxy.cfg");
        fs::write(&config, configuration(options, &links, &admin_socket(folder.path()))).expect("the folder is ours");
        let log = folder.path().join("haproxy.log");
        let args = arguments([&"-db", &"-f", &config]);
        let mut process = Process::start("haproxy", &binary(), &args, &log);
        let path = admin_socket(folder.path());
        let ask = || match process.ended() {
            Some(_) => Some(Err(process.output())),
            None => ask(&path, "show info").is_ok().then_some(Ok(())),
        };
        wait::until(wait::PATIENCE, "haproxy answers on its admin socket", ask, String::new)?;
        Ok(Self { links, folder, process })
    }

    /// The loopback port of a link.
    ///
    /// # Panics
    /// When there is no link of that name.
    pub fn port(&self, link: &str) -> u16 {
        let found = self.links.iter().find(|(name, _)| name == link);
        found.unwrap_or_else(|| panic!("no link is called {link}")).1
    }

    /// Cuts a link: its connections are closed, new ones too, until [`Proxy::heal`]. Returns when none is left.
    pub fn cut(&self, link: &str) {
        self.admin(&format!("disable server {link}/target"));
        // Again and again: a connection that haproxy is still taking in has no session yet.
        wait::eventually("the cut link has no connection left", || {
            self.kill_sessions(link);
            self.sessions(link) == 0
        });
    }

    /// Makes a cut link whole again.
    pub fn heal(&self, link: &str) {
        self.admin(&format!("enable server {link}/target"));
    }

    /// Closes the connections of a link that something has passed through already, soon after this returns; new ones pass at once.
    pub fn kill_sessions(&self, link: &str) {
        self.admin(&format!("shutdown sessions server {link}/target"));
    }

    /// Lets every link hang, connections open, nothing passing, until [`Proxy::resume`].
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets all links go on.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Connections through a link at this moment.
    pub fn sessions(&self, link: &str) -> u64 {
        // CSV of `show stat`: pxname, svname, qcur, qmax, scur, …
        let stat = self.admin("show stat");
        let rows = stat.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let row =
            rows.into_iter().find(|row| row.starts_with(&[link, "target"])).expect("the link is in the statistics");
        row[4].parse().expect("the count of sessions is a number")
    }

    fn admin(&self, command: &str) -> String {
        let path = admin_socket(self.folder.path());
        ask(&path, command).unwrap_or_else(|error| panic!("haproxy: {command}: {error}\n{}", self.process.tail()))
    }
}

fn ask(path: &Path, command: &str) -> std::io::Result<String> {
    let mut socket = UnixStream::connect(path)?;
    socket.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

fn admin_socket(folder: &Path) -> PathBuf {
    folder.join("admin.sock")
}

fn binary() -> PathBuf {
    // Debian puts it where an ordinary user's PATH does not look.
    let places = ["/usr/sbin/haproxy", "/usr/bin/haproxy", "/usr/local/sbin/haproxy"].map(PathBuf::from);
    places.into_iter().find(|path| path.is_file()).expect("haproxy is installed (./run brings it)")
}

fn configuration(options: &[LinkOptions], links: &[(String, u16)], admin: &Path) -> String {
    let mut config = format!(
        // Without `noreuseport` two proxies could take the same port, and share its connections.
        "global\n  stats socket {} mode 600 level admin\n  maxconn 2000\n  noreuseport\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  retries 0\n",
        admin.display()
    );
    for (link, (name, port)) in options.iter().zip(links) {
        let tls = link.tls.as_ref().map(tls_options).unwrap_or_default();
        write!(config, "listen {name}\n  bind 127.0.0.1:{port}{tls}\n  server target 127.0.0.1:{}\n", link.target)
            .expect("writing to a String cannot fail");
    }
    config
}

fn tls_options(tls: &Tls) -> String {
    let clients = tls.client_authority.as_ref();
    let verify = clients.map(|authority| format!(" ca-file {} verify required", authority.display()));
    format!(" ssl crt {}{}", tls.bundle.display(), verify.unwrap_or_default())
}
