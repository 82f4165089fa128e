//! Draws commands.

use fastrand::Rng;

/// Group and command; `commands.txt` says what stands in braces.
const TABLE: &str = include_str!("commands.txt");

const ELEMENTS: [&str; 5] = ["a", "b", "c", "d", "e"];
const VALUES: [&str; 8] = ["1", "10", "-3", "2.5", "x", "yy", "zzz", ""];
const FLOATS: [&str; 6] = ["0.5", "-1.25", "3", "0.1", "1e3", "-0.7"];
const SCORES: [&str; 7] = ["1", "2", "-3", "0.5", "7.25", "inf", "-inf"];

/// As they stand in a line.
const ODD: [&str; 17] = [
    "\"\\x00\\xff\\r\\n\"",
    "\"a b\"",
    "\"\"",
    "007",
    "-0",
    "1.0",
    "+1",
    "1e5",
    "0x10",
    "\" 1\"",
    "inf",
    "nan",
    "0.00000000000000001",
    "123456789012345678901234567890",
    "-9223372036854775809",
    "\"HYLL\\x00\"",
    "99999999999999999.5",
];
const LIMITS: [&str; 6] =
    ["9223372036854775807", "-9223372036854775808", "9223372036854775800", "-9223372036854775800", "4294967296", "-1"];
/// Bytes of a long value: more than a server keeps in place, than it compresses, and than the module coalesces.
const LONG: [usize; 3] = [70, 700, 20_000];

/// A command: one line; or the lines of a transaction.
#[derive(Clone, Debug)]
pub struct Command {
    /// The lines.
    pub lines: Vec<String>,
    /// By itself, in MULTI or in EVAL.
    pub way: Way,
    /// Where it runs, 0 or 1.
    pub db: u32,
}

/// How it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By itself.
    Plain,
    /// In MULTI.
    Transaction,
    /// In a script, which ends at the first error, or goes on.
    Script {
        /// Whether it ends there.
        aborts: bool,
    },
}

/// Draws commands of some groups.
pub struct Generator {
    templates: Vec<(&'static str, &'static str)>,
    groups: Vec<&'static str>,
}

impl Generator {
    /// Of these groups, besides those for keys of every type.
    pub fn new(groups: &[&'static str]) -> Self {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "));
        Self { templates: rows.collect(), groups: groups.to_vec() }
    }

    /// The next command.
    pub fn draw(&self, rng: &mut Rng) -> Command {
        let (way, count) = match rng.u8(..20) {
            0 | 1 => (Way::Transaction, rng.usize(2..=4)),
            2 => (Way::Script { aborts: rng.bool() }, rng.usize(1..=4)),
            _ => (Way::Plain, 1),
        };
        let lines = (0..count).map(|_| self.line(rng)).collect();
        Command { lines, way, db: u32::from(rng.u8(..20) == 0) }
    }

    fn line(&self, rng: &mut Rng) -> String {
        let own = self.groups[rng.usize(..self.groups.len())];
        let group = match rng.usize(..1000) {
            0..3 => "all",
            3..120 => "key",
            _ => own,
        };
        let of_group: Vec<&str> = self.templates.iter().filter(|(of, _)| *of == group).map(|(_, text)| *text).collect();
        let template = of_group[rng.usize(..of_group.len())];
        template.split(' ').map(|word| fill(word, own, rng)).collect::<Vec<_>>().join(" ")
    }
}

/// A word of a template, with something in place of what stands in braces.
fn fill(word: &str, group: &str, rng: &mut Rng) -> String {
    match word.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (name, after))) => format!("{before}{}{after}", draw(name, group, rng)),
        None => word.to_owned(),
    }
}

fn draw(name: &str, group: &str, rng: &mut Rng) -> String {
    let one_of = |words: &[&str], rng: &mut Rng| words[rng.usize(..words.len())].to_owned();
    match name {
        // One in ten: of a key that commands of every type write.
        "key" | "key2" if rng.u8(..10) == 0 => "any".to_owned(),
        "key" | "key2" => format!("{group}{}", rng.u8(1..=2)),
        "v" => match one_of(&VALUES, rng).as_str() {
            "" => "\"\"".to_owned(),
            value => value.to_owned(),
        },
        "odd" if rng.u8(..8) == 0 => char::from(rng.u8(b'a'..=b'z')).to_string().repeat(LONG[rng.usize(..LONG.len())]),
        "odd" => one_of(&ODD, rng),
        "limit" => one_of(&LIMITS, rng),
        "e" => one_of(&ELEMENTS, rng),
        "n" => rng.i32(-9..=9).to_string(),
        "x" => one_of(&FLOATS, rng),
        "score" => one_of(&SCORES, rng),
        "t" => (4_000_000_000_000 + rng.i64(0..5)).to_string(),
        "ms" => rng.u8(1..=60).to_string(),
        "i" => rng.i32(-3..=3).to_string(),
        "c" => rng.u8(1..=3).to_string(),
        "byte" => rng.u8(..12).to_string(),
        "far" => rng.u32(..200_000).to_string(),
        "bit" => rng.u8(..100).to_string(),
        "id" => format!("{}-{}", rng.u8(1..=9), rng.u8(..3)),
        "g" => format!("g{}", rng.u8(1..=2)),
        "u" => format!("u{}", rng.u8(1..=2)),
        other => panic!("no {other} can be drawn"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_commands_and_fills_every_place() {
        let generator = Generator::new(&["string", "stream", "list"]);
        let draw = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..500).flat_map(|_| generator.draw(&mut rng).lines).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|line| !line.contains('{')), "{:?}", draw(7));
    }

    #[test]
    fn every_group_of_a_plan_has_commands() {
        let generator = Generator::new(&[]);
        for seed in 0..200 {
            for group in crate::torture::Plan::from_seed(seed).groups {
                assert!(generator.templates.iter().any(|(of, _)| *of == group), "{group}");
            }
        }
    }
}
