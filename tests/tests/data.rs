//! Data at its limits: long and binary names, large and empty values, extreme numbers.

use syncer_tests::client::Client;
use syncer_tests::{on_all_kinds, reply};

/// Checks a reply that may be too large to print.
fn answers(client: &mut Client, command: &[&[u8]], expected: &[u8]) {
    let answer = client.args(command);
    assert!(reply::bytes(&answer) == expected, "{} bytes instead of {}", reply::bytes(&answer).len(), expected.len());
}

on_all_kinds! {
    fn long_and_binary_names_and_values(cluster: 2) {
        let long = vec![b'n'; 64 * 1024];
        let every_byte: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let names: [&[u8]; 5] = [b"", b"\0", b"a\0b\r\n", &every_byte, &long];
        let mut client = cluster.client(1);
        for name in names {
            for value in names {
                client.args::<&[u8]>(&[b"HSET", name, value, value]);
                client.args::<&[u8]>(&[b"SADD", &[b"set:", name].concat(), value]);
                client.args::<&[u8]>(&[b"ZADD", &[b"zset:", name].concat(), b"1.5", value]);
                client.args::<&[u8]>(&[b"SET", &[b"string:", name].concat(), value]);
            }
        }
        cluster.converged();
        let mut other = cluster.client(2);
        for name in names {
            for value in names {
                answers(&mut other, &[b"HGET", name, value], value);
                assert_eq!(other.args::<&[u8]>(&[b"SISMEMBER", &[b"set:", name].concat(), value]), redis::Value::Int(1));
                answers(&mut other, &[b"ZSCORE", &[b"zset:", name].concat(), value], b"1.5");
            }
            answers(&mut other, &[b"GET", &[b"string:", name].concat()], &long);
        }
    }

    fn large_values(cluster: 2) {
        let large = vec![b'\0'; 64 << 20];
        let mut client = cluster.client(1);
        client.args::<&[u8]>(&[b"SET", b"large", large.as_slice()]);
        client.args::<&[u8]>(&[b"HSET", b"hash", b"f", &large[..20 << 20]]);
        client.ok("SET small v");
        cluster.converged();
        let mut other = cluster.client(2);
        answers(&mut other, &[b"GET", b"large"], &large);
        assert_eq!(other.text("HSTRLEN hash f"), (20 << 20).to_string());
        other.ok("DEL large hash");
        cluster.converged();
        assert_eq!(client.text("DBSIZE"), "1");
    }

    fn many_elements(cluster: 2) {
        let mut client = cluster.client(1);
        let elements: Vec<String> = (0..50_000).map(|element| format!("element:{element}")).collect();
        for chunk in elements.chunks(1_000) {
            client.ok(&format!("SADD set {}", chunk.join(" ")));
            client.ok(&format!("HSET hash {} v", chunk.join(" v ")));
            client.ok(&format!("ZADD zset 1 {}", chunk.join(" 1 ")));
        }
        client.ok("SUNIONSTORE all set hash:none");
        client.ok("COPY hash copied");
        client.ok("ZREMRANGEBYRANK zset 0 24999");
        cluster.converged();
        let mut other = cluster.client(2);
        assert_eq!(reply::text(&other.multi(&["SCARD all", "HLEN copied", "ZCARD zset"])), "[50000, 50000, 25000]");
    }

    fn extreme_numbers(cluster: 2) {
        let mut client = cluster.client(1);
        client.ok("ZADD z +inf up -inf down 1.7976931348623157e308 max 5e-324 tiny -0 zero");
        client.ok("SET max 9223372036854775807");
        client.ok("SET min -9223372036854775808");
        client.ok("SET float 3.0e3");
        client.ok("INCRBYFLOAT float 1.1e-7");
        client.ok("HINCRBYFLOAT h f 1e17");
        cluster.converged();
        let mut other = cluster.client(2);
        assert_eq!(other.text("INCR max"), "-ERR increment or decrement would overflow");
        assert!(other.text("ZINCRBY z -inf up").contains("not a number"));
        other.ok("ZINCRBY z 1 up");
        other.ok("DECRBY max 1");
        other.ok("INCR min");
        cluster.converged();
        assert_eq!(client.text("MGET max min"), "[9223372036854775806, -9223372036854775807]");
        assert_eq!(client.text("ZSCORE z up"), "inf");
    }

    fn empty_values(cluster: 2) {
        let mut client = cluster.client(1);
        client.ok(r#"SET "" """#);
        client.ok(r#"HSET h "" """#);
        client.ok(r#"SADD s """#);
        client.ok(r#"ZADD z 0 """#);
        client.ok(r#"SETRANGE absent 0 """#);
        client.ok(r#"APPEND appended """#);
        cluster.converged();
        let mut other = cluster.client(2);
        assert_eq!(other.text(r#"EXISTS "" h s z appended absent"#), "5");
        other.ok(r#"SREM s """#);
        other.ok(r#"HDEL h """#);
        other.ok(r#"ZREM z """#);
        cluster.converged();
        assert_eq!(client.text(r#"EXISTS h s z"#), "0");
    }
}
