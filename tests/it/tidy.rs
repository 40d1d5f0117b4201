//! The tree keeps its own rules: who names whom, how a file opens, how long it is, what has a page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longest file, tests inside included. House style 5: a file should read as its own manual.
const LINES_MAX: usize = 900;

const CRATES: [&str; 9] =
    ["model", "storage", "transport", "backends", "actors", "api", "hansa", "tests", "simulations"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file with this ending below a folder, sorted.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let folders = CRATES.iter().map(|name| root().join(name));
    let paths = folders.flat_map(|folder| files(&folder, "rs"));
    paths.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The names under `[dependencies]` of a crate.
fn dependencies(folder: &str) -> (String, BTreeSet<String>) {
    let manifest: toml::Table = read(format!("{folder}/Cargo.toml")).parse().unwrap();
    let name = manifest["package"]["name"].as_str().unwrap().to_owned();
    let named = manifest["dependencies"].as_table().unwrap().keys().cloned().collect();
    (name, named)
}

/// Rows of the import table: crate → (crates of ours, foreign crates that only it may name).
fn import_table() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let page = read("ARCHITECTURE.md");
    let table = page
        .split("<!-- import table: begin -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- import table: end -->").next());
    let names = |cell: &str| {
        cell.split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    table
        .expect("ARCHITECTURE.md has an import table between its marks")
        .lines()
        .filter(|line| line.starts_with("| hansa"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            (cells[1].trim().to_owned(), (names(cells[2]), names(cells[3])))
        })
        .collect()
}

#[test]
fn crates_name_whom_the_import_table_allows() {
    let table = import_table();
    assert_eq!(table.len(), CRATES.len(), "{:?}", table.keys());
    let mut wrong = Vec::new();

    for folder in CRATES {
        let (name, named) = dependencies(folder);
        let (ours, _) = table.get(&name).unwrap_or_else(|| panic!("{name} is not in the table"));
        for dependency in &named {
            let is_ours = dependency == "hansa" || dependency.starts_with("hansa-");
            if is_ours && !ours.contains(dependency) {
                wrong.push(format!("{name} may not name {dependency}"));
            }
        }
        // Who tests the seams may name what stands behind them.
        if matches!(folder, "tests" | "simulations") {
            continue;
        }
        for (owner, (_, foreign)) in &table {
            for dependency in foreign.intersection(&named) {
                if *owner != name {
                    wrong.push(format!("{name} may not name {dependency}: only {owner} may"));
                }
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn exclusive_libraries_are_the_ones_that_the_architecture_names() {
    let table = import_table();
    let owners: BTreeMap<&str, &str> = table
        .iter()
        .flat_map(|(owner, (_, foreign))| foreign.iter().map(|name| (name.as_str(), owner.as_str())))
        .collect();

    for (library, owner) in [
        ("redb", "hansa-storage"),
        ("quinn", "hansa-transport"),
        ("rcgen", "hansa-transport"),
        ("ractor", "hansa-actors"),
        ("axum", "hansa-api"),
    ] {
        assert_eq!(owners.get(library), Some(&owner), "{library}");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();

    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines}", path.display()))
        .collect();

    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn unsafe_code_stands_in_the_simulations_alone() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    assert_eq!(manifest["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));

    for folder in CRATES.into_iter().filter(|folder| *folder != "simulations") {
        let manifest: toml::Table = read(format!("{folder}/Cargo.toml")).parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{folder} keeps the lints");
    }
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let source = read("api/src/code.rs");
    let list = source.split("codes! {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
    let codes: BTreeSet<String> =
        list.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect();
    let pages: BTreeSet<String> = files(&root().join("docs/errors"), "md")
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "README")
        .collect();

    assert!(codes.len() > 30, "{codes:?}");
    assert_eq!(codes, pages);
}

#[test]
fn every_stored_table_has_a_golden_file() {
    let golden: BTreeSet<String> = files(&root().join("storage/golden"), "bin")
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let tables: BTreeSet<String> = files(&root().join("storage/src/table"), "rs")
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let names = text.lines().filter(|line| line.contains("const NAME: &'static str = \""));
            names.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();

    assert!(tables.len() > 20, "{tables:?}");
    for table in tables {
        assert!(golden.contains(&format!("{table}.v1.bin")), "{table} has no golden file");
    }
}

#[test]
fn decision_records_are_numbered_without_gaps() {
    let names: Vec<String> = files(&root().join("docs/decisions"), "md")
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .filter(|name| name.as_bytes()[0].is_ascii_digit())
        .collect();

    for (number, name) in (1..).zip(&names) {
        assert!(name.starts_with(&format!("{number:04}-")), "{name} should be number {number}");
    }
}
