//! Rules of style that the compiler does not check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use syncer_tests::artifact::workspace;

const FILE_LINES_MAX: usize = 500;

/// Every file of the project with this ending, relative to the workspace.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(workspace(), &mut |path| {
        if path.to_string_lossy().ends_with(ending) {
            found.push(path.strip_prefix(workspace()).expect("the walk begins there").to_owned());
        }
    });
    assert!(!found.is_empty(), "no file ends with {ending}");
    found.sort();
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).expect("the checkout can be read") {
        let path = entry.expect("the checkout can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let generated = name.starts_with("target") || (name.starts_with('.') && name != ".ci") || name == "corpus";
        match path.is_dir() {
            true if !generated => walk(&path, visit),
            true => {}
            false => visit(&path),
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Complaints about lines of code (comments aside) of every Rust file.
fn lines_where(complain: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for path in files(".rs") {
        for (number, line) in (1..).zip(text(&path).lines()) {
            let code = line.split("//").next().unwrap_or_default();
            if complain(&path, code) {
                complaints.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    complaints
}

fn none(complaints: Vec<String>, rule: &str) {
    assert!(complaints.is_empty(), "{rule}:\n{}", complaints.join("\n"));
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[test]
fn unsafe_code_and_the_raw_api_stay_in_the_modules_redis_folder() {
    let raw =
        |code: &str| ["redis_module::raw", "redis_module_sys", "RedisModule_"].iter().any(|api| code.contains(api));
    let this = Path::new(file!()).file_name();
    // The other modules are as others write them; and an allocator, which one test needs to count, is unsafe by nature.
    let places = ["module/src/redis", "tests/other_module", "tests/listener", "shared/tests/allocation.rs"];
    let inside = |path: &Path| places.iter().any(|place| path.starts_with(place));
    let outside = |path: &Path| !inside(path) && path.file_name() != this;
    none(
        lines_where(|path, code| outside(path) && (has_word(code, "unsafe") || raw(code))),
        "unsafe and the raw module API are for module/src/redis only",
    );
}

#[test]
fn the_core_forbids_unsafe_code() {
    assert!(text(Path::new("shared/src/lib.rs")).contains("#![forbid(unsafe_code)]"));
}

#[test]
fn no_file_is_too_long() {
    let too_long = |path: &PathBuf| {
        let lines = text(path).lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", path.display()))
    };
    let complaints = files(".rs").iter().filter_map(too_long).collect();
    none(complaints, "a file has at most 500 lines; split it by noun");
}

#[test]
fn file_names_are_nouns_of_the_field() {
    let vague = ["utils.rs", "util.rs", "common.rs", "types.rs", "helpers.rs", "misc.rs"];
    let complaints = files(".rs").into_iter().filter(|path| vague.iter().any(|name| path.ends_with(name)));
    none(complaints.map(|path| path.display().to_string()).collect(), "name a file after what it holds");
}

/// A test waits for a condition (`syncer_tests::wait`). Load generators of benchmarks and chaos pace themselves.
#[test]
fn tests_do_not_sleep_for_luck() {
    let paced = |path: &Path| {
        ["tests/src/wait.rs", "tests/src/bench", "tests/src/chaos"].iter().any(|place| path.starts_with(place))
    };
    let complains = |path: &Path, code: &str| path.starts_with("tests") && !paced(path) && code.contains("sleep(");
    let this = Path::new(file!()).file_name();
    none(
        lines_where(|path, code| path.file_name() != this && complains(path, code)),
        "wait for a condition with syncer_tests::wait instead",
    );
}

#[test]
fn every_test_runs() {
    let this = Path::new(file!()).file_name();
    none(
        lines_where(|path, code| path.file_name() != this && code.contains("#[ignore")),
        "a test that does not run tests nothing",
    );
}

#[test]
fn dependency_versions_stand_in_the_workspace_only() {
    let mut complaints = Vec::new();
    for member in ["shared", "module", "agent", "tests"] {
        let path = Path::new(member).join("Cargo.toml");
        let mut in_dependencies = false;
        for line in text(&path).lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
                complaints.push(format!("{}: {line}", path.display()));
            }
        }
    }
    none(complaints, "write `name.workspace = true` and the version into the workspace's Cargo.toml");
}

#[test]
fn the_servers_for_tests_are_pinned_by_version_and_hash() {
    let list = text(Path::new("tests/servers.txt"));
    let wheels: Vec<&str> = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(wheels.len(), 3);
    for wheel in wheels {
        let (name, hash) = wheel.split_once("--hash=sha256:").unwrap_or_else(|| panic!("{wheel} has no hash"));
        assert!(name.contains("=="), "{wheel} has no exact version");
        assert!(hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{wheel}: the hash is no SHA-256");
    }
}

/// What an earlier release wrote stays what it wrote: files are added, with a line in the list, and never edited.
#[test]
fn fixtures_are_never_edited() {
    let folder = workspace().join("tests/fixtures");
    let list = text(Path::new("tests/fixtures/SHA256SUMS"));
    let listed: BTreeSet<PathBuf> =
        list.lines().filter_map(|line| Some(folder.join(line.split_once("  ")?.1))).collect();
    let mut there = BTreeSet::new();
    walk(&folder, &mut |path| there.extend([path.to_owned()]));
    there.remove(&folder.join("SHA256SUMS"));
    assert_eq!(listed, there, "list and files differ: `sha256sum FILE >> SHA256SUMS` in tests/fixtures");
    let check = ["--check", "--strict", "--quiet", "SHA256SUMS"];
    let checked = Command::new("sha256sum").args(check).current_dir(&folder).output().expect("sha256sum is there");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Invariants are cited by number (DESIGN 7); a number that does not exist helps nobody.
#[test]
fn cited_invariants_exist() {
    let mut complaints = Vec::new();
    for path in files(".rs") {
        for word in text(&path).split(|c: char| !c.is_alphanumeric() && c != '-') {
            let number = word.strip_prefix("I-").and_then(|digits| digits.parse::<u32>().ok());
            if number.is_some_and(|number| !(1..=12).contains(&number)) {
                complaints.push(format!("{}: {word}", path.display()));
            }
        }
    }
    none(complaints, "the invariants are I-1 to I-12");
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut complaints = Vec::new();
    for path in files(".md") {
        let folder = workspace().join(&path).parent().map(Path::to_path_buf).unwrap_or_default();
        for target in link_targets(&text(&path)) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !elsewhere && !folder.join(file).exists() {
                complaints.push(format!("{}: {target}", path.display()));
            }
        }
    }
    none(complaints, "these links lead nowhere");
}

fn link_targets(markdown: &str) -> Vec<String> {
    markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// A function that is missing at load is a clear error then, and the end of the server later.
#[test]
fn what_the_module_calls_is_asked_for_at_load() {
    let required = Path::new("module/src/redis/required.rs");
    let names = |code: &str, before: &str| -> BTreeSet<String> {
        let found = code.split(before).skip(1);
        let name =
            |rest: &str| rest.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
        found.filter_map(name).filter(|name| name.starts_with("RedisModule_")).collect()
    };
    let called: BTreeSet<String> = files(".rs")
        .iter()
        .filter(|path| path.starts_with("module/src"))
        .flat_map(|path| ["api!(", "raw::"].map(|before| names(&text(path), before)))
        .flatten()
        .collect();
    let asked: BTreeSet<String> = names(&text(required), "\n        ");
    let differ: Vec<&String> = called.symmetric_difference(&asked).collect();
    assert!(differ.is_empty() && !called.is_empty(), "called or asked for, not both: {differ:?}");
}
