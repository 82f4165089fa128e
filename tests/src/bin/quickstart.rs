//! Sites on this machine that take writes at the same time and converge: to see it work, and to play with.

use std::env;
use std::process::ExitCode;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::server::ServerKind;

const HELP: &str = "\
usage: ./run quickstart [--once] [--sites N] [--server NAME]

  --once         end after the show
  --sites N      2 to 5 sites (2)
  --server NAME  redis8, valkey9, valkey8 or mixed (mixed)";

struct Options {
    once: bool,
    kinds: Vec<ServerKind>,
}

fn main() -> ExitCode {
    match options(env::args().skip(1)) {
        Ok(options) => {
            run(&options);
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            eprintln!("{complaint}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut once, mut sites, mut server) = (false, 2, "mixed".to_owned());
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--once" => once = true,
            "--sites" => sites = value()?.parse().map_err(|_| "--sites wants a number".to_owned())?,
            "--server" => server = value()?,
            _ => return Err(format!("{arg} is no option")),
        }
    }
    if !(2..=5).contains(&sites) {
        return Err("--sites wants 2 to 5".to_owned());
    }
    let kinds = match ServerKind::from_name(&server) {
        Some(kind) => vec![kind; sites],
        None if server == "mixed" => ServerKind::mixed(sites),
        None => return Err(format!("{server} is no server")),
    };
    Ok(Options { once, kinds })
}

fn run(options: &Options) {
    // Caught from the start, so that Ctrl-C at any moment stops everything: then `cluster` is dropped as usual.
    let mut signals = Signals::new([SIGINT, SIGTERM]).expect("signals can be caught");
    println!("Starting {} sites ...", options.kinds.len());
    let cluster = Cluster::new(&options.kinds);
    for site in cluster.sites() {
        println!(
            "  site {}: {} with the module, port {}, an agent beside it",
            site.instance,
            site.server.kind(),
            site.server.port()
        );
    }
    show(&cluster);
    if options.once {
        return;
    }
    how_to_play(&cluster);
    signals.forever().next();
    println!("\nStopping everything.");
}

/// Writes everywhere at once, together and apart.
fn show(cluster: &Cluster) {
    println!("\nAll sites write at once: INCR visits, SADD guests, HSET profile");
    write_everywhere(cluster, "morning");
    print_all(cluster);

    println!("\nThe network between the sites is cut; all of them go on writing");
    cluster.cut_all();
    write_everywhere(cluster, "evening");
    for site in cluster.sites() {
        println!("  site {}: visits = {}", site.instance, site.client().text("GET visits"));
    }

    println!("\nThe network is back");
    cluster.heal();
    print_all(cluster);
}

fn write_everywhere(cluster: &Cluster, when: &str) {
    thread::scope(|scope| {
        for site in cluster.sites() {
            scope.spawn(move || {
                let mut client = site.client();
                for _ in 0..1000 {
                    client.ok("INCR visits");
                }
                client.ok(&format!("SADD guests {when}-{}", site.instance));
                client.ok(&format!(
                    "HSET profile seen-by-{} {when} last-seen {when}-at-{}",
                    site.instance, site.instance
                ));
            });
        }
    });
}

fn print_all(cluster: &Cluster) {
    cluster.converged();
    let see = |client: &mut Client| {
        let [visits, guests, last] =
            ["GET visits", "SCARD guests", "HGET profile last-seen"].map(|line| client.text(line));
        format!("visits = {visits}, {guests} guests, last seen {last}")
    };
    for site in cluster.sites() {
        println!("  site {}: {}", site.instance, see(&mut site.client()));
    }
    println!("  equal, by DEBUG DIGEST and SYNCER.DIGEST of every site");
}

fn how_to_play(cluster: &Cluster) {
    println!("\nPlay with it:");
    for site in cluster.sites() {
        println!("  redis-cli -p {}        # site {}", site.server.port(), site.instance);
    }
    println!(
        "  SET, INCR, DEL ... at one, look at another; SYNCER.HELP, SYNCER.STATUS, SYNCER.PEERS, SYNCER.KEY visits"
    );
    println!("\nCtrl-C stops everything.");
}
