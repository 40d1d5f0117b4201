//! A connector that writes down what it is asked: counted outside the node, by a program of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Reads one JSON object with builtins alone, so that a run costs one process. The first argument is the
/// journal. A command's parameter `pause` makes it take so many seconds. A credential goes where a host would
/// keep it, into the folder that the second argument names, and never into the journal.
const PROGRAM: &str = r#"#!/bin/sh
IFS= read -r input
action=${input#*'"action":"'}; action=${action%%'"'*}
case $input in
*'"kind":"command:'*)
    id=${input#*'"command":{"id":"'}; id=${id%%'"'*}
    echo "$action $id" >> "$1"
    case $input in *'"pause":'*)
        pause=${input#*'"pause":'}; sleep "${pause%%[!0-9.]*}"
    esac
    ;;
*'"kind":"policy:'*)
    id=${input#*'"policy":{'}; id=${id#*'"id":"'}; id=${id%%'"'*}
    version=${input##*'"version":'}; version=${version%%[!0-9]*}
    echo "$action $id $version" >> "$1"
    ;;
*'"kind":"lease:'*)
    key=${input#*'"correlation_key":"'}; key=${key%%'"'*}
    value=${input##*'"value":"'}; value=${value%%'"'*}
    case $action in
    give) printf %s "$value" > "$2/$key" ;;
    take_away) : > "$2/$key" ;;
    esac
    echo "$action $key" >> "$1"
    ;;
esac
echo '{"success":true,"detail":"noted"}'
"#;

/// The journal of a connector, and the credentials that its hosts were given.
#[derive(Debug)]
pub struct Journal {
    program: PathBuf,
    book: PathBuf,
    hosts: PathBuf,
}

impl Journal {
    /// Makes the program in this folder.
    ///
    /// # Panics
    /// The folder takes no files.
    pub fn new(folder: &Path) -> Self {
        let journal = Self {
            program: folder.join("connector"),
            book: folder.join("journal"),
            hosts: folder.join("hosts"),
        };
        std::fs::create_dir(&journal.hosts).expect("a folder");
        std::fs::write(&journal.book, "").expect("a file");
        std::fs::write(&journal.program, PROGRAM).expect("a program");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&journal.program, mode).expect("a mode");
        journal
    }

    /// The table of a site's configuration that declares it, for everything.
    pub fn declaration(&self) -> String {
        format!(
            "[[connector]]\nname = 'journal'\nkinds = ['command:*', 'policy:*', 'lease:*']\n\
             program = ['{}', '{}', '{}']\n",
            self.program.display(),
            self.book.display(),
            self.hosts.display(),
        )
    }

    /// All lines, in the order in which they were written.
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.book).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often each command was run.
    pub fn runs(&self) -> BTreeMap<String, usize> {
        let mut runs = BTreeMap::new();
        for line in self.lines() {
            if let Some(id) = line.strip_prefix("run ") {
                *runs.entry(id.to_owned()).or_default() += 1;
            }
        }
        runs
    }

    /// The last thing that was asked about a policy or a lease: `apply 3`, `withdraw 3`, `give`, `take_away`.
    pub fn last(&self, of: &str) -> Option<String> {
        self.lines().into_iter().rev().find_map(|line| {
            let mut words = line.split(' ');
            let (action, id) = (words.next()?, words.next()?);
            let more = words.next().map_or_else(String::new, |version| format!(" {version}"));
            (id == of).then(|| format!("{action}{more}"))
        })
    }

    /// The credential that a host holds now; none after it was taken away.
    pub fn credential(&self, key: &str) -> Option<String> {
        std::fs::read_to_string(self.hosts.join(key)).ok().filter(|value| !value.is_empty())
    }
}
