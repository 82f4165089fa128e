//! Patterns as `PSUBSCRIBE` takes them: `*`, `?`, `[abc]`, `[^a-z]`, `\` before a character that stands for itself.

/// Whether the text is as the pattern says. At most `pattern.len() * text.len()` steps, whatever the pattern.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    // Behind the last `*`, and the place in the text where what follows it was tried.
    let mut star: Option<(usize, usize)> = None;
    while pos < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, pos));
        } else if let Some(next) = one(pattern, at, text[pos]) {
            (at, pos) = (next, pos + 1);
        } else if let Some((behind, tried)) = star {
            star = Some((behind, tried + 1));
            (at, pos) = (behind, tried + 1);
        } else {
            return false;
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Whether the piece of the pattern at `at` takes the byte; then where the next piece begins.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' => match pattern.get(at + 1) {
            Some(&escaped) => (escaped == byte).then_some(at + 2),
            None => (byte == b'\\').then_some(at + 1),
        },
        literal => (literal == byte).then_some(at + 1),
    }
}

/// `[...]`, from behind the bracket. One that is not closed ends with the pattern.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        let end = match (pattern.get(at), pattern.get(at + 1), pattern.get(at + 2)) {
            (None, ..) => break,
            (Some(b']'), ..) => {
                at += 1;
                break;
            }
            (Some(b'\\'), Some(&escaped), _) => {
                found |= escaped == byte;
                at + 2
            }
            (Some(&from), Some(b'-'), Some(&to)) => {
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                at + 3
            }
            (Some(&literal), ..) => {
                found |= literal == byte;
                at + 1
            }
        };
        at = end;
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_those_of_the_servers() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "news"),
            ("news.*", "news."),
            ("news.*", "news.a.b"),
            ("*.a*b", "x.a.b.ab"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("h\\*llo", "h*llo"),
            ("h[\\]]llo", "h]llo"),
            ("[a", "a"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("?", ""),
            ("news.*", "new"),
            ("h[ae]llo", "hillo"),
            ("h[^e]llo", "hello"),
            ("h\\*llo", "hello"),
            ("*a", "ab"),
            ("a*b*c", "acb"),
            ("[^a", "a"),
        ] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = b"a*".repeat(50);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &b"a".repeat(10_000)));
    }
}
