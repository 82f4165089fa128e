//! Wall clocks that are apart (DESIGN 5): who is too far ahead is refused, loudly, and drags nobody along.

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::client::Client;
use syncer_tests::members::status;
use syncer_tests::nodes::number;
use syncer_tests::server::{Server, ServerOptions};
use syncer_tests::{on_each_kind, wait};

/// The time of the newest effect that a server has applied.
fn newest_ms(client: &mut Client) -> u64 {
    let clock = status(client, "clock");
    let times = clock.split("time_ms, ").skip(1);
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    times.filter_map(|rest| digits(rest).parse().ok()).max().unwrap_or_else(|| panic!("no time: {clock}"))
}

/// A server's wall clock.
fn now_ms(client: &mut Client) -> u64 {
    let time: Vec<u64> = client.text_items("TIME").iter().filter_map(|part| part.parse().ok()).collect();
    time[0] * 1000 + time[1] / 1000
}

on_each_kind! {
    /// Ten minutes ahead, of one that may be: nothing of it is taken until the operator says so. The other way all goes on.
    fn a_clock_that_is_ahead_is_refused_with_a_clear_error(kind) {
        let right = Server::start(kind, ServerOptions::instance(1));
        let ahead = Server::start(kind, ServerOptions::instance(2).clock_off(600));
        let agents = [(&right, 2, &ahead), (&ahead, 1, &right)]
            .map(|(local, id, peer)| Agent::start(AgentOptions::beside(local.port()).peer(id, peer.port())));
        let (mut one, mut two) = (right.client(), ahead.client());
        one.ok("SET right v");
        two.ok("SET ahead v");
        wait::eventually("the other way goes on", || two.text("GET right") == "v");
        wait::eventually("it is refused", || number(&right, "drift_refused") > 0);
        let says = "the clock of instance 2 is ";
        wait::eventually("the cause is told", || one.text("SYNCER.PEERS").contains(says));
        let peers = one.text("SYNCER.PEERS");
        assert!(peers.contains("SYNCERDRIFT") && peers.contains("limit 60000, CONFIG syncer.max-drift-ms"), "{peers}");
        wait::eventually("the agent tells it, too", || agents[0].log().contains(says));
        // It has dragged nothing along: what is written here is of now.
        one.ok("SET right w");
        assert_eq!(one.text("EXISTS ahead"), "0");
        let [newest, now] = [newest_ms(&mut one), now_ms(&mut one)];
        assert!(newest + 60_000 > now && newest < now + 60_000, "{newest} {now}: {}", status(&mut one, "clock"));
        one.ok("CONFIG SET syncer.max-drift-ms 3600000");
        wait::eventually("it is taken now", || one.text("GET ahead") == "v");
        two.ok("SET ahead w");
        wait::eventually("and what comes behind", || one.text("GET ahead") == "w");
        wait::eventually("they are equal", || one.text("SYNCER.DIGEST") == two.text("SYNCER.DIGEST"));
    }
}
