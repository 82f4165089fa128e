//! What is kept of a failure: the timeline, the logs, and how every node stood.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use super::site::ChaosSite;
use crate::client::Client;
use crate::{artifact, dataset, verify};

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
                let ask = |command: &str| {
                    let answer = client.try_cmd(command).map(|value| crate::reply::text(&value));
                    format!("# {command}\n{}\n", answer.unwrap_or_else(|error| error.to_string()))
                };
                let questions = ["SYNCER.STATUS", "SYNCER.PEERS", "SYNCER.CLOCK", "SYNCER.SYNC STATUS", "INFO"];
                questions.map(ask).concat()
            });
            write(format!("site-{instance}-node-{node}.txt"), state.unwrap_or_else(|error| error.to_string()));
        }
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
pub fn verified(site: &ChaosSite) -> String {
    verify::run(site.agent().options().command_line().split_off(1)).text
}
