//! Controls by mutation: a rule whose code has no switch is broken in a copy of the sources, and the test that is about it must fail (`./run controls`).
//!
//! Rules that the simulation switches off ([`syncer_shared::merge::Rules`]) have their controls beside their cases.

mod list;

pub use list::CONTROLS;

/// One rule broken, and the test that shows it.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Its name, as DESIGN.md and MERGE_RULES.md have it.
    pub rule: &'static str,
    /// What is so without it.
    pub without: &'static str,
    /// Where its code is.
    pub file: &'static str,
    /// That code: it occurs once in the file.
    pub find: &'static str,
    /// What takes its place.
    pub replace: &'static str,
    /// What must fail then, and passes else.
    pub test: Test,
}

/// A test by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// The package.
    pub package: &'static str,
    /// An integration test of it; without one its library.
    pub binary: Option<&'static str>,
    /// With its modules, as `cargo nextest list` says it.
    pub name: &'static str,
    /// Whether it needs the module and the agent, and servers.
    pub has_servers: bool,
}

impl Test {
    /// A case of the simulation.
    const fn case(name: &'static str) -> Self {
        Self { package: "syncer-tests", binary: None, name, has_servers: false }
    }

    /// A unit test of the core.
    const fn unit(name: &'static str) -> Self {
        Self { package: "syncer-shared", binary: None, name, has_servers: false }
    }

    /// A test of the core as others use it.
    const fn shared(binary: &'static str, name: &'static str) -> Self {
        Self { package: "syncer-shared", binary: Some(binary), name, has_servers: false }
    }

    /// A test with real servers.
    const fn servers(binary: &'static str, name: &'static str) -> Self {
        Self { package: "syncer-tests", binary: Some(binary), name, has_servers: true }
    }

    /// The name of its function. Those with servers are made for each kind of them: the module around.
    #[must_use]
    pub fn function(&self) -> &'static str {
        let mut names = self.name.rsplit("::");
        let last = names.next().unwrap_or(self.name);
        if self.has_servers { names.next().unwrap_or(last) } else { last }
    }
}

impl Control {
    /// The code without the rule.
    ///
    /// # Errors
    /// What is to be replaced is not there, or more than once.
    pub fn breaks(&self, text: &str) -> Result<String, String> {
        match text.matches(self.find).count() {
            1 => Ok(text.replacen(self.find, self.replace, 1)),
            count => {
                Err(format!("{} has {count} times what is to be broken of {}: {:?}", self.file, self.rule, self.find))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::artifact::workspace;

    fn text(path: &Path) -> String {
        fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The file that a test is in: that of its module, which may be a folder's.
    fn source(test: &Test) -> String {
        let package = test.package.strip_prefix("syncer-").expect("a package of ours");
        let modules: Vec<&str> = test.name.split("::").filter(|module| *module != "tests").collect();
        let modules = modules.split_last().map(|(_, modules)| modules.join("/")).unwrap_or_default();
        let candidates = match test.binary {
            Some(binary) => vec![format!("{package}/tests/{binary}.rs")],
            None => vec![format!("{package}/src/{modules}.rs"), format!("{package}/src/{modules}/mod.rs")],
        };
        let found = candidates.iter().find(|path| workspace().join(path).is_file());
        text(Path::new(found.unwrap_or_else(|| panic!("{}: no file of {candidates:?}", test.name))))
    }

    /// The rules themselves are for `./run controls`; here only that nothing has gone from under them.
    #[test]
    fn what_controls_break_and_run_is_there() {
        for control in CONTROLS {
            let broken = control.breaks(&text(Path::new(control.file))).unwrap_or_else(|error| panic!("{error}"));
            assert_ne!(broken, text(Path::new(control.file)), "{}: nothing is broken", control.rule);
            let function = format!("fn {}(", control.test.function());
            assert!(source(&control.test).contains(&function), "{}: there is no {function}", control.rule);
        }
    }
}
