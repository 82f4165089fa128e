//! `./run controls [RULE ...]` breaks one rule after the other in a copy of the sources; the test that is about it must fail then
//! ([`syncer_tests::controls`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use syncer_tests::artifact::workspace;
use syncer_tests::controls::{CONTROLS, Control, Test};

const USAGE: &str = "usage: controls [RULE ...]: all of them, or those of rules that are named so (L1, M12, ...)";

/// What `cargo nextest run` says when tests were run and one has failed.
const TEST_FAILED: i32 = 100;
/// Of what a failed test says.
const REASON_CHARS_MAX: usize = 160;
/// Of what went wrong with a build.
const TAIL_LINES: usize = 40;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |control: &&Control| wanted.is_empty() || wanted.iter().any(|rule| control.rule == rule);
    let controls: Vec<Control> = CONTROLS.iter().filter(is_wanted).copied().collect();
    if controls.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    match Sources::make().and_then(|copy| run(&copy, &controls)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(errors) => {
            println!("{errors} of {} controls do not hold", controls.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How many do not hold.
fn run(copy: &Sources, controls: &[Control]) -> Result<usize, String> {
    let tests: BTreeSet<Test> = controls.iter().map(|control| control.test).collect();
    println!("{} tests with all rules ...", tests.len());
    let mut of_binary: BTreeMap<(&str, Option<&str>), Vec<Test>> = BTreeMap::new();
    tests.into_iter().for_each(|test| of_binary.entry((test.package, test.binary)).or_default().push(test));
    for tests in of_binary.values() {
        let output = copy.nextest(tests)?;
        if !output.status.success() {
            return Err(format!("with all rules, nothing changed:\n{}", tail(&output)));
        }
    }
    let mut errors = 0;
    for control in controls {
        // Lines come as they are made, also into a pipe.
        let _ = std::io::stdout().flush();
        let (rule, without) = (control.rule, control.without);
        match copy.without(control)? {
            Ok(reason) => println!("{rule}: {without}: fails without the rule, as it must: {reason}"),
            Err(error) => {
                errors += 1;
                println!("{rule}: {without}: THE CONTROL DOES NOT HOLD: {error}");
            }
        }
    }
    Ok(errors)
}

/// A copy of the sources that may be changed, with a target folder of its own.
struct Sources {
    folder: PathBuf,
    target: PathBuf,
}

impl Sources {
    /// Makes it, or brings it up to date: files that are the same are left alone, so that they are not built again.
    fn make() -> Result<Self, String> {
        let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let folder = workspace().join(folder).join("controls");
        let copy = Self { folder: folder.join("src"), target: folder.join("target") };
        let names = sources()?;
        for name in &names {
            let bytes = fs::read(workspace().join(name)).map_err(|error| format!("{}: {error}", name.display()))?;
            let to = copy.folder.join(name);
            if fs::read(&to).ok().as_ref() != Some(&bytes) {
                write(&to, &bytes)?;
            }
        }
        copy.remove_others(&copy.folder, &names)?;
        Ok(copy)
    }

    /// What is no source any more.
    fn remove_others(&self, folder: &Path, names: &BTreeSet<PathBuf>) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            // Links are never followed.
            if entry.file_type().map_err(failed)?.is_dir() {
                self.remove_others(&path, names)?;
            } else if !path.strip_prefix(&self.folder).is_ok_and(|name| names.contains(name)) {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Runs tests of one binary, or tells of a build that fails.
    fn nextest(&self, tests: &[Test]) -> Result<Output, String> {
        let Some(Test { package, binary, has_servers, .. }) = tests.first() else { return Err("no test".into()) };
        let mut command = self.cargo();
        if *has_servers {
            let built =
                run_command(self.cargo().args(["build", "--locked", "-p", "syncer-module", "-p", "syncer-agent"]))?;
            if !built.status.success() {
                return Ok(built);
            }
            let programs = [("SYNCER_MODULE", "libsyncer.so"), ("SYNCER_AGENT", "syncer-agent")];
            command.envs(programs.map(|(variable, file)| (variable, self.target.join("debug").join(file))));
            command.env("SYNCER_SERVERS", workspace().join(".cache/servers"));
        }
        let names: Vec<String> = tests.iter().map(|test| format!("test(={})", test.name)).collect();
        command.args(["nextest", "run", "--locked", "--package", package, "-E", &names.join(" | ")]);
        match binary {
            Some(binary) => command.args(["--test", binary]),
            None => command.arg("--lib"),
        };
        run_command(&mut command)
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        // Small steps from one build to the next, and nobody debugs them.
        cargo.env("CARGO_TARGET_DIR", &self.target).env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo.env("RUST_BACKTRACE", "0").env("NO_COLOR", "1").current_dir(&self.folder);
        cargo
    }

    /// Why the test fails without the rule, or why that shows nothing.
    fn without(&self, control: &Control) -> Result<Result<String, String>, String> {
        let path = self.folder.join(control.file);
        let whole = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let broken = match control.breaks(&whole) {
            Ok(broken) => broken,
            Err(error) => return Ok(Err(error)),
        };
        write(&path, broken.as_bytes())?;
        let output = self.nextest(&[control.test]);
        write(&path, whole.as_bytes())?;
        let output = output?;
        Ok(match output.status.code() {
            Some(TEST_FAILED) => Ok(reason(&output)),
            Some(0) => Err(format!("{} passes without the rule", control.test.name)),
            code => Err(format!("no test has failed, but cargo ends with {code:?}:\n{}", tail(&output))),
        })
    }
}

fn run_command(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| format!("{command:?} does not start: {error}"))
}

/// The files that git knows, or would if they were added, as far as they are there.
fn sources() -> Result<BTreeSet<PathBuf>, String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(workspace());
    let output = git.output().map_err(|error| format!("git does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let names = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    let names = names.split_terminator('\0').map(PathBuf::from);
    Ok(names.filter(|name| workspace().join(name).is_file()).collect())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn tail(output: &Output) -> String {
    let text = text(output);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

/// What the failed test says: behind the line of its panic, or as its error.
fn reason(output: &Output) -> String {
    let text = text(output);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.find_map(|line| line.strip_prefix("Error: ").or(line.contains(" panicked at ").then_some("")));
    let reason = match first {
        Some("") => {
            let said = lines.next().unwrap_or_default();
            let values = lines.take_while(|line| line.starts_with("left: ") || line.starts_with("right: "));
            std::iter::once(said).chain(values).collect::<Vec<_>>().join(", ")
        }
        Some(error) => error.into(),
        None => "no reason is given".into(),
    };
    // Errors are told as Rust tells strings: one line of theirs is enough.
    let reason = reason.split("\\n").next().unwrap_or_default();
    reason.chars().take(REASON_CHARS_MAX).collect()
}
