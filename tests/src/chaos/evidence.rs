//! What is kept of a failure: the timeline, the logs, the servers' files, and how every node stood.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::site::ChaosSite;
use crate::client::Client;
use crate::server::Server;
use crate::{artifact, dataset};

/// A server's files are kept if they are no larger than this together.
const FILES_BYTES_MAX: u64 = 32 << 20;
/// Who does not say how it stands within that hangs, which says enough.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many seconds `syncer-agent verify` may take.
const VERIFY_SECONDS: &str = "30";

/// What happened when, in a file and perhaps on the screen.
#[derive(Debug)]
pub struct Timeline {
    begun: Instant,
    folder: PathBuf,
    file: Mutex<File>,
    is_loud: bool,
}

impl Timeline {
    /// Begins in a folder of its own: `target/chaos/seed-<seed>`.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn start(seed: u64, is_loud: bool) -> Self {
        let folder = artifact::workspace().join("target/chaos").join(format!("seed-{seed}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the target folder can be written");
        let file = File::create(folder.join("timeline.txt")).expect("the folder can be written");
        Self { begun: Instant::now(), folder, file: Mutex::new(file), is_loud }
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// One line.
    pub fn note(&self, text: &str) {
        let line = format!("{:8.3} {text}", self.begun.elapsed().as_secs_f64());
        if self.is_loud {
            println!("{line}");
        }
        if let Ok(mut file) = self.file.lock() {
            // The run matters more than its record.
            let _ = writeln!(file, "{line}");
        }
    }
}

/// Writes down everything there is of the sites. Returns where.
pub fn keep(sites: &[ChaosSite], timeline: &Timeline) -> PathBuf {
    let folder = &timeline.folder;
    let write = |name: String, text: String| {
        let path = folder.join(name);
        if let Err(error) = fs::write(&path, text) {
            timeline.note(&format!("cannot write {}: {error}", path.display()));
        }
    };
    for site in sites {
        let instance = site.instance;
        write(format!("site-{instance}-agent.log"), site.agent().log());
        for (node, server) in site.nodes.iter().enumerate() {
            write(format!("site-{instance}-node-{node}.log"), server.log());
            let state = Client::connect(server.port()).map(|mut client| {
                client.patience(PATIENCE);
                let ask = |command: &str| {
                    let answer = client.try_cmd(command).map(|value| crate::reply::text(&value));
                    format!("# {command}\n{}\n", answer.unwrap_or_else(|error| error.to_string()))
                };
                let questions = ["SYNCER.STATUS", "SYNCER.PEERS", "SYNCER.CLOCK", "SYNCER.SYNC STATUS", "INFO"];
                questions.map(ask).concat()
            });
            write(format!("site-{instance}-node-{node}.txt"), state.unwrap_or_else(|error| error.to_string()));
            let kept = keep_files(server, &folder.join(format!("site-{instance}-node-{node}-files")));
            timeline.note(&format!("files of site {instance}, node {node}: {kept}"));
        }
        write(format!("site-{instance}-verify.txt"), verified(site));
    }
    folder.clone()
}

/// The keys in which nodes differ, a screenful.
pub fn differences(sites: &[ChaosSite]) -> String {
    let nodes = sites.iter().flat_map(|site| site.nodes.iter().map(move |node| (site.instance, node)));
    let datasets: Vec<_> =
        nodes.map(|(instance, node)| (instance, node.port(), dataset::read(&mut node.client()))).collect();
    let Some(((instance, port, first), others)) = datasets.split_first() else { return String::new() };
    let mut text = String::new();
    for (other, other_port, dataset) in others {
        let found = dataset::differences(first, dataset);
        if !found.is_empty() {
            text.push_str(&format!("site {instance} (port {port}) and site {other} (port {other_port}):\n{found}"));
        }
    }
    text
}

/// How `syncer-agent verify` sees it, with a site's own flags.
fn verified(site: &ChaosSite) -> String {
    let flags = site.agent().options().command_line().split_off(1);
    let mut command = Command::new("timeout");
    let output = command.arg(VERIFY_SECONDS).arg(artifact::agent()).arg("verify").args(flags).output();
    output.map_or_else(
        |error| error.to_string(),
        |output| {
            let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            format!("{}{}", text.concat(), output.status)
        },
    )
}

/// Copies RDB and AOF files, as they are on the disk: a server that lives may still write to them. What became of it.
fn keep_files(server: &Server, to: &Path) -> String {
    let sizes = sizes(server.folder());
    let bytes: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    if bytes > FILES_BYTES_MAX {
        return format!("not kept, {bytes} bytes");
    }
    let copied = sizes.iter().try_for_each(|(path, _)| {
        let copy = to.join(path.strip_prefix(server.folder()).unwrap_or(path));
        copy.parent().map_or(Ok(()), fs::create_dir_all)?;
        match fs::copy(path, copy) {
            // Temporary ones go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map(drop),
        }
    });
    copied.map_or_else(|error| format!("not kept: {error}"), |()| format!("kept, {bytes} bytes"))
}

/// The files of a folder and of those in it, and how large they are. Not the log, which is kept anyway.
fn sizes(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name() != "server.log")
        .flat_map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => sizes(&entry.path()),
            Ok(about) if about.is_file() => vec![(entry.path(), about.len())],
            _ => Vec::new(),
        })
        .collect()
}
