//! What was to be reached, and whether it is.

use super::table::{Table, figure};

/// One figure to reach.
#[derive(Clone, Debug)]
pub struct Target {
    what: String,
    bound: Bound,
    measured: f64,
}

/// On which side of the bound a figure has to lie.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Target {
    /// `what` was measured and has this bound.
    pub fn new(what: impl Into<String>, bound: Bound, measured: f64) -> Self {
        Self { what: what.into(), bound, measured }
    }

    /// By how much the figure falls short, as a share of the bound; negative when it is met with room.
    fn shortfall(&self) -> f64 {
        match self.bound {
            Bound::AtLeast(bound) => (bound - self.measured) / bound,
            Bound::AtMost(bound) => (self.measured - bound) / bound,
        }
    }
}

/// All targets as a table.
pub fn table(targets: &[Target]) -> Table {
    let mut table = Table::new(&["target", "to reach", "measured", "met", "short by"]);
    for target in targets {
        let bound = match target.bound {
            Bound::AtLeast(bound) => format!(">= {}", figure(bound)),
            Bound::AtMost(bound) => format!("<= {}", figure(bound)),
        };
        let shortfall = target.shortfall();
        let (met, short) = match shortfall {
            unknown if unknown.is_nan() => ("not measured", String::new()),
            met if met <= 0.0 => ("yes", String::new()),
            short => ("no", format!("{:.0} %", (short * 100.0).max(1.0))),
        };
        table.row(vec![target.what.clone(), bound, figure(target.measured), met.to_owned(), short]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Bound, Target, table};

    #[test]
    fn a_target_is_met_or_falls_short() {
        let targets = [
            Target::new("throughput", Bound::AtLeast(0.75), 0.60),
            Target::new("lag", Bound::AtMost(1.0), 0.4),
            Target::new("memory", Bound::AtMost(1.05), f64::NAN),
        ];
        let text = table(&targets).to_string();
        let rows: Vec<Vec<&str>> = text.lines().skip(2).map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(rows[0][4..6], ["no", "20 %"]);
        assert_eq!(rows[1][4..6], ["yes", ""]);
        assert_eq!(rows[2][4..6], ["not measured", ""]);
    }
}
