//! `CLIENT NO-TOUCH ON`: Redis crashes where a module looks up a key for such a client before the command runs. What the filter looks at, it looks at otherwise then.

use syncer_tests::client::Client;
use syncer_tests::nodes::Pair;
use syncer_tests::server::{Server, ServerOptions};
use syncer_tests::{artifact, on_each_kind};

/// Writes that are looked at before they run, of strings that change in part and of commands that may block.
fn write(client: &mut Client) {
    for line in [
        "SET text value",
        "SETRANGE text 0 V",
        "APPEND text s",
        "SETBIT text 100 1",
        "BITFIELD text SET u8 0 65 INCRBY u8 8 1",
        "BITOP NOT text text",
        "BITOP NOT text text",
        "PFADD visitors a b",
        "RPUSH list a b c d",
        "BLPOP list 1",
        "BLMOVE list other LEFT RIGHT 1",
        "BLMPOP 1 1 list LEFT",
        "ZADD scores 1 a 2 b 3 c",
        "BZPOPMIN scores 1",
        "BZMPOP 1 1 scores MAX",
        "XGROUP CREATE stream group $ MKSTREAM",
        "XADD stream 1-1 f v",
        "XREADGROUP GROUP group me COUNT 1 BLOCK 1000 STREAMS stream >",
        // It waits in vain.
        "XREADGROUP GROUP group me COUNT 1 BLOCK 10 STREAMS stream >",
        "BLPOP nothing 0.01",
        "XACK stream group 1-1",
    ] {
        let answer = client.text(line);
        assert!(!answer.contains("ERR") && !answer.contains("WRONGTYPE"), "{line}: {answer}");
    }
}

fn check(pair: &Pair) {
    pair.agree();
    for instance in [&pair.one, &pair.two] {
        let mut client = instance.client();
        assert_eq!(client.text("GETRANGE text 0 5"), "Ablues");
        assert_eq!(client.text("GETBIT text 100"), "1");
        assert_eq!(client.text("LRANGE list 0 -1"), "[d]");
        assert_eq!(client.text("LRANGE other 0 -1"), "[b]");
        assert_eq!(client.text("ZRANGE scores 0 -1"), "[b]");
        assert_eq!(client.text("XPENDING stream group"), "[0, (nil), (nil), (nil)]");
    }
}

on_each_kind! {
    fn what_such_a_client_writes_is_captured(kind) {
        let pair = Pair::start(kind, 1, &[]);
        let mut client = pair.one.client();
        client.ok("CLIENT NO-TOUCH ON");
        write(&mut client);
        check(&pair);
    }

    /// The filter does not see it run.
    fn also_where_it_was_queued(kind) {
        let pair = Pair::start(kind, 1, &[]);
        let mut client = pair.one.client();
        client.ok("MULTI");
        client.text("CLIENT NO-TOUCH ON");
        client.text("EXEC");
        write(&mut client);
        check(&pair);
    }

    fn also_where_it_was_said_before_the_module_came(kind) {
        let server = Server::start(kind, ServerOptions::stock());
        let mut client = server.client();
        client.ok("CLIENT NO-TOUCH ON");
        server.client().ok(&format!("MODULE LOAD {} instance-id 1", artifact::module().display()));
        write(&mut client);
        assert_eq!(client.text("GETRANGE text 0 5"), "Ablues");
    }

    fn also_where_it_was_said_to_a_replica(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        let mut client = pair.one.nodes[1].client();
        client.ok("CLIENT NO-TOUCH ON");
        pair.one.promote(1);
        write(&mut client);
        pair.restart_agents();
        check(&pair);
    }
}
