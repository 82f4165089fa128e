//! Many cases on one cluster: each on keys of its own.

/// The command line with `prefix` before every word, or word in single quotes (as in scripts), that is one of `keys`.
pub fn on_own_keys(line: &str, prefix: &str, keys: &[&str]) -> String {
    let renamed = |word: &str| if keys.contains(&word) { format!("{prefix}{word}") } else { word.to_owned() };
    let within_quotes = |word: &str| word.split('\'').map(renamed).collect::<Vec<_>>().join("'");
    let after_marker = |word: &str| match word.split_once(':') {
        Some((marker, key)) if marker.starts_with('@') => format!("{marker}:{}", renamed(key)),
        _ => within_quotes(word),
    };
    line.split(' ').map(after_marker).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::on_own_keys;

    #[test]
    fn keys_get_the_prefix_and_nothing_else_does() {
        let keys = ["k", "k2"];
        assert_eq!(on_own_keys("RENAME k k2", "7", &keys), "RENAME 7k 7k2");
        assert_eq!(on_own_keys("EVAL redis.call('SET','k','kk') 0", "7", &keys), "EVAL redis.call('SET','7k','kk') 0");
        assert_eq!(on_own_keys("RESTORE k2 0 @DUMP:k", "7", &keys), "RESTORE 7k2 0 @DUMP:7k");
    }
}
