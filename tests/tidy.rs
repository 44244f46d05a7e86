//! The rules of the house that neither rustfmt nor clippy keeps: sizes, borders between modules,
//! `unsafe`, leftovers.
//!
//! Each rule is a function from a file to complaints, and is itself tested with a file that breaks
//! it. The rules read text, not syntax: they rely on `cargo fmt`, which `tests/run.sh` checks
//! first.

use std::fs;
use std::path::{Path, PathBuf};

const LINE_MAX: usize = 100;
const FUNCTION_MAX: usize = 70;
/// Without the tests at its end.
const FILE_MAX: usize = 500;
/// With them; also a file of tests alone.
const FILE_WITH_TESTS_MAX: usize = 700;
/// How many lines above an `unsafe` its reason may begin.
const SAFETY_REACH: usize = 8;

/// Pure code: the core, and the model of Consul.
const PURE: [&str; 2] = ["decide/", "store/memory/"];

/// What pure code may name: nothing that does I/O, reads a clock or draws numbers.
const DECIDE_CRATES: [&str; 10] = [
    "base64",
    "std",
    "core",
    "serde",
    "serde_json",
    "thiserror",
    "xxhash_rust",
    "jump_consistent_hash",
    "self",
    "super",
];
/// Parts of `std` that the core may not name, for their order or answers differ from run to run.
const DECIDE_BANNED: [&str; 8] = [
    "HashMap",
    "HashSet",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
];

/// Directory under `src` and the modules of ours it may not name.
const BORDERS: [(&str, &[&str]); 9] = [
    ("backup/", &["cli", "config", "consul", "driver", "http", "process", "store", "telemetry"]),
    ("config/", &["consul", "driver", "http", "process", "store", "cli", "telemetry"]),
    ("store/", &["cli", "config", "consul", "driver", "http", "process", "telemetry"]),
    ("consul/", &["cli", "driver", "http", "process", "telemetry"]),
    ("process/", &["cli", "consul", "driver", "http", "store", "telemetry"]),
    ("http/", &["cli", "consul", "driver", "telemetry"]),
    ("dev/", &["cli", "config", "consul", "driver", "process", "telemetry"]),
    ("driver/", &["cli"]),
    ("telemetry.rs", &["cli", "consul", "driver", "http", "process", "store"]),
];

struct File {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The path under `src/`.
    fn source(&self) -> Option<&str> {
        self.path.strip_prefix("src/")
    }

    fn is_tests(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs")
    }

    /// Numbered lines before the module of tests at the end.
    fn product(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_tests = self.is_tests();
        let mut previous = "";
        self.text
            .lines()
            .take_while(move |line| {
                let begins_tests = previous == "#[cfg(test)]" && line.ends_with('{');
                previous = line;
                !is_tests && !begins_tests
            })
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// The product's lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.product().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn complain(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// The files a rule sees: sources, scripts and documents, none that tools wrote.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("readable").map(|it| it.expect("readable").path()) {
            let relative = entry.strip_prefix(root).expect("below the root").to_owned();
            if skipped(&relative) {
                continue;
            }
            if entry.is_dir() {
                open.push(entry);
            } else if let Ok(text) = fs::read_to_string(&entry) {
                found.push(File { path: relative.display().to_string(), text });
            }
        }
    }
    assert!(found.iter().any(|it| it.path == "src/main.rs"), "the walk sees the sources");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn skipped(relative: &Path) -> bool {
    let skip = ["target", ".git", ".tools", "Cargo.lock", "proptest-regressions"];
    relative.components().any(|part| skip.iter().any(|it| part.as_os_str() == *it))
}

fn keep(rule: impl Fn(&File) -> Vec<String>) {
    let complaints: Vec<String> = files().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn sizes(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let length = line.chars().count();
        if length > LINE_MAX {
            complaints.push(file.complain(index + 1, format!("{length} columns, max {LINE_MAX}")));
        }
    }
    let (product, all) = (file.product().count(), file.text.lines().count());
    if product > FILE_MAX {
        complaints.push(file.complain(product, format!("{product} lines, max {FILE_MAX}")));
    }
    if all > FILE_WITH_TESTS_MAX {
        complaints.push(file.complain(all, format!("{all} lines, max {FILE_WITH_TESTS_MAX}")));
    }
    if !file.text.starts_with("//! ") {
        complaints.push(file.complain(1, "no module doc: what, why, invariant"));
    }
    complaints
}

/// A function ends at the first brace that stands where its own line begins.
fn functions(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| is_function(line));
    starts
        .filter_map(|(start, line)| {
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = lines[start..]
                .iter()
                .position(|it| it.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}')))?;
            let one_line = line.ends_with('}') || line.ends_with(';');
            let length = end + 1;
            (length > FUNCTION_MAX && !one_line).then(|| {
                file.complain(start + 1, format!("function of {length} lines, max {FUNCTION_MAX}"))
            })
        })
        .collect()
}

fn is_function(line: &str) -> bool {
    let words = line.trim_start().split(' ');
    let mut words = words.skip_while(|word| {
        word.starts_with("pub")
            || matches!(*word, "const" | "async" | "unsafe" | "extern" | "\"C\"")
    });
    words.next() == Some("fn")
}

fn borders(file: &File) -> Vec<String> {
    let Some(source) = file.source().filter(|_| file.is_rust()) else {
        return Vec::new();
    };
    let mut complaints = Vec::new();
    for (number, line) in file.code() {
        for (part, banned) in BORDERS {
            let hit = banned.iter().find(|module| names(line, &format!("crate::{module}")));
            if let Some(module) = hit.filter(|_| source.starts_with(part)) {
                complaints.push(file.complain(number, format!("{part} may not name {module}")));
            }
        }
        if names(line, "rs_consul") && !source.starts_with("consul/") {
            complaints.push(file.complain(number, "only consul may name rs_consul"));
        }
        let above_driver = ["driver/", "cli/"].iter().any(|it| source.starts_with(it));
        if names(line, "crate::driver") && !above_driver {
            complaints.push(file.complain(number, "only cli may name driver"));
        }
        if PURE.iter().any(|part| source.starts_with(part)) {
            complaints.extend(pure(line).into_iter().map(|what| file.complain(number, what)));
        }
    }
    complaints
}

/// What a line of the core names beyond what it may.
fn pure(line: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if let Some(path) = line.trim_start().strip_prefix("use ") {
        let root = path.split([':', ';', ' ', '{']).next().unwrap_or_default();
        let own = path.starts_with("crate::decide") || !path.contains("::");
        if !DECIDE_CRATES.contains(&root) && !own {
            complaints.push(format!("pure code may not use {root}"));
        }
    } else {
        let foreign = ["tokio", "nix", "libc", "tracing", "hyper", "axum", "toml", "clap", "rand"];
        let hit = foreign.iter().find(|it| names(line, &format!("{it}::")));
        complaints.extend(hit.map(|it| format!("pure code may not name {it}")));
    }
    let hit = DECIDE_BANNED.iter().find(|it| names(line, it));
    complaints.extend(hit.map(|it| format!("pure code may not name {it}")));
    complaints
}

/// Whether the line has this path, not merely as a part of a longer word.
fn names(line: &str, path: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(path).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + path.len()..]);
        let open_end = path.ends_with(':') || !after.starts_with(part);
        !before.ends_with(part) && open_end
    })
}

fn unsafety(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let mut complaints = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        let opens = [" {", " fn", " impl", " extern"]
            .iter()
            .any(|what| line.contains(&format!("{}{what}", concat!("un", "safe"))));
        if !opens {
            continue;
        }
        if !file.path.starts_with("src/process/") {
            complaints.push(file.complain(index + 1, "outside src/process"));
        }
        let above = &lines[index.saturating_sub(SAFETY_REACH)..index];
        if !above.iter().any(|it| it.contains("SAFETY:") || it.contains("# Safety")) {
            complaints.push(file.complain(index + 1, "no SAFETY comment above"));
        }
    }
    complaints
}

fn leftovers(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("dbg", "!("), concat!("todo", "!(")];
    let hosts = [
        concat!("crates", ".io"),
        concat!("deb.debian", ".org"),
        concat!("docker", ".io/"),
        concat!("ghcr", ".io"),
        concat!("quay", ".io"),
        concat!("hub.docker", ".com"),
        concat!("releases.hashicorp", ".com"),
    ];
    for (index, line) in file.text.lines().enumerate() {
        for word in marks.iter().chain(&hosts).filter(|word| line.contains(**word)) {
            complaints.push(file.complain(index + 1, format!("{word} may not stay")));
        }
    }
    if file.is_rust() && file.source().is_some() {
        let unwraps = file.code().filter(|(_, line)| line.contains(".unwrap()"));
        complaints.extend(unwraps.map(|(number, _)| {
            file.complain(number, "unwrap; return an error or say why it cannot fail")
        }));
    }
    complaints
}

#[test]
fn files_functions_and_lines_are_short() {
    keep(|file| [sizes(file), functions(file)].concat());
}

#[test]
fn borders_between_modules_hold() {
    keep(borders);
}

#[test]
fn unsafe_code_has_one_place_and_a_reason() {
    keep(unsafety);
}

#[test]
fn nothing_is_left_over() {
    keep(leftovers);
}

#[test]
fn scripts_are_executable() {
    use std::os::unix::fs::PermissionsExt;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for file in files().iter().filter(|file| file.text.starts_with("#!")) {
        let meta = fs::metadata(root.join(&file.path)).expect("there");
        assert!(meta.permissions().mode() & 0o111 != 0, "{} has #! and no x", file.path);
    }
}

/// Every rule complains of what breaks it, and only of that.
#[test]
fn the_rules_see_what_they_look_for() {
    type Rule = fn(&File) -> Vec<String>;
    let long_line = format!("//! x\n// {}\n", "x".repeat(98));
    let long_file = format!("//! x\n{}", "\n".repeat(FILE_MAX));
    let body = "        x();\n".repeat(FUNCTION_MAX - 1);
    let long_function = format!("impl X {{\n    pub async fn x() {{\n{body}    }}\n}}\n");
    let tested = format!("//! x\n{}#[cfg(test)]\nmod tests {{\n.unwrap()\n}}\n", "\n".repeat(490));
    let lone = concat!("//! x\nfn x() { un", "safe { y() } }\n");
    let said = concat!("// SAFETY: y\nun", "safe { y() }\n");
    let cases: [(Rule, &str, &str, usize); 28] = [
        (sizes, "src/x.rs", &long_line, 1),
        (sizes, "src/x.rs", &long_file, 1),
        (sizes, "src/x.rs", "fn x() {}\n", 1),
        (sizes, "src/x.rs", &tested, 0),
        (functions, "src/x.rs", &long_function, 1),
        (functions, "src/x.rs", "fn x() {\n}\n", 0),
        (borders, "src/decide/x.rs", "use tokio::sync;\n", 1),
        (borders, "src/store/memory/x.rs", "use std::time::Instant;\n", 1),
        (borders, "src/store/memory/x.rs", "use crate::decide::time::At;\n", 0),
        (borders, "src/decide/x.rs", "use crate::store::Store;\n", 1),
        (borders, "src/decide/x.rs", "use crate::decide::time::At;\nuse super::x;\n", 0),
        (borders, "src/decide/x.rs", "    let x = nix::unistd::getpid();\n", 1),
        (borders, "src/decide/x.rs", "use std::collections::HashMap;\n", 1),
        (borders, "src/decide/x.rs", "// HashMap has no order\n", 0),
        (borders, "src/process/x.rs", "use crate::consul::X;\n", 1),
        (borders, "src/http/x.rs", "use crate::driver::X;\n", 2),
        (borders, "src/cli/x.rs", "use crate::driver::X;\n", 0),
        (borders, "src/store/x.rs", "use rs_consul::Consul;\n", 1),
        (borders, "src/consul/x.rs", "use rs_consul::Consul;\n", 0),
        (unsafety, "src/process/x.rs", lone, 1),
        (unsafety, "src/process/x.rs", said, 0),
        (unsafety, "src/x.rs", said, 1),
        (leftovers, "README.md", concat!("TO", "DO: x\n"), 1),
        (leftovers, "x.sh", concat!("curl https://ghcr", ".io/x\n"), 1),
        (leftovers, "src/x.rs", "x.unwrap()\n", 1),
        (leftovers, "src/x.rs", &tested, 0),
        (leftovers, "tests/x.rs", "x.unwrap()\n", 0),
        (leftovers, "src/x/tests.rs", "x.unwrap()\n", 0),
    ];
    for (index, (rule, path, text, want)) in cases.into_iter().enumerate() {
        let complaints = rule(&File::new(path, text));
        assert_eq!(complaints.len(), want, "case {index}, {path}: {complaints:?}");
    }
}
