//! `./run quickstart` as people use it: it shows that its sites converge, stays up to be played with, and leaves nothing behind.

use std::path::Path;

use syncer_tests::client::Client;
use syncer_tests::process::Process;
use syncer_tests::{on_each_kind, wait};
use tempfile::TempDir;

/// The ports of the sites, as it names them.
fn ports(said: &str) -> Vec<u16> {
    let places = said.split("redis-cli -p ").skip(1);
    places.map(|rest| rest.split(' ').next().and_then(|port| port.parse().ok()).expect("a port")).collect()
}

on_each_kind! {
    fn it_stays_up_until_ctrl_c_which_stops_all_that_it_started(kind) {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let program = Path::new(env!("CARGO_BIN_EXE_quickstart"));
        let args = ["--server", kind.folder()];
        let mut quickstart = Process::start("quickstart", program, &args, &folder.path().join("said"));
        wait::eventually("it is ready to be played with", || quickstart.output().contains("Ctrl-C stops everything"));
        let said = quickstart.output();
        assert_eq!(said.matches("visits = 4000, 4 guests").count(), 2, "both sites wrote 2,000, also in a cut: {said}");
        let ports = ports(&said);
        let mut sites: Vec<Client> = ports.iter().map(|port| Client::connect(*port).expect("the site is up")).collect();
        let [one, two] = sites.as_mut_slice() else { panic!("two sites: {said}") };
        assert!(two.text("INFO server").contains(kind.version()));
        one.ok("SET played here");
        wait::eventually("the other site has it", || two.text("GET played") == "here");
        two.ok("SET played there");
        wait::eventually("and the other way", || one.text("GET played") == "there");
        let started = quickstart.children();
        assert!(started.len() >= 5, "two servers, two agents, a proxy: {started:?}");
        let status = quickstart.interrupt(wait::PATIENCE);
        assert!(status.success(), "{status}");
        let lives = |pid: &&u32| Path::new(&format!("/proc/{pid}")).exists();
        assert_eq!(started.iter().filter(lives).count(), 0, "something lives on");
        assert!(ports.iter().all(|port| Client::connect(*port).is_err()));
    }
}
