//! Which decisions are journaled, and what each code means: the table of `docs/journal.md`.
//!
//! A code that stands here nowhere is noted now and then, so that nothing new is lost; the test
//! `every_code_is_told` wants it in the table all the same.

/// How often a rule's decisions are noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Bounded by nature: each belongs to a term, a request or a start.
    Always,
    /// May fire again and again while something is broken.
    Sparse,
    /// Part of normal life, shown by `status` alone.
    Chatter,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Class::Always => "each",
            Class::Sparse => "now and then",
            Class::Chatter => "no",
        }
    }
}

pub struct Code {
    pub code: &'static str,
    pub class: Class,
    pub about: &'static str,
}

const fn code(code: &'static str, class: Class, about: &'static str) -> Code {
    Code { code, class, about }
}

use self::Class::{Always, Chatter, Sparse};

/// Sorted by code.
pub const CODES: &[Code] = &[
    code("app.crashed", Sparse, "The application ended by itself; the inputs say how."),
    code("app.down", Always, "The application stays down."),
    code(
        "app.hung",
        Sparse,
        "No health check succeeded for `hung_after`: the application is ended.",
    ),
    code("app.not-started", Sparse, "The application could not be started."),
    code(
        "app.unable",
        Sparse,
        "The primary's check fails while another node could lead: it hands over.",
    ),
    code("app.unhealthy", Sparse, "The health check failed twice in a row."),
    code("backup.asked", Always, "A node is asked for a backup."),
    code("backup.expired", Always, "An old backup is removed, as the retention says."),
    code(
        "backup.given-up",
        Always,
        "A backup's node is gone or took too long: it counts as failed.",
    ),
    code("backup.keep", Sparse, "The retention could not be carried out; it is tried again."),
    code("backup.lost", Always, "The lock of a running backup is another's: it is stopped."),
    code("backup.nobody", Sparse, "No node can make the backup that is due."),
    code("bar.hold-down", Sparse, "The node led and failed lately: others go first for a while."),
    code("bar.max-lag", Sparse, "The replica lags too much, or its lag is not known (`max_lag`)."),
    code("bar.no-failover", Sparse, "`no_failover` names this node."),
    code("bar.paused", Sparse, "The cluster is paused: nobody takes over."),
    code("bar.restore", Chatter, "The cluster begins from a backup that is not here."),
    code("bar.state", Chatter, "The node's state bars it: it starts, stops or clones."),
    code("bar.stop", Chatter, "lictor was asked to stop."),
    code("bootstrap.create", Always, "The first node creates the cluster's data."),
    code("bootstrap.failed", Sparse, "The data directory could not be made."),
    code("bootstrap.in-vain", Always, "Another node created the cluster: this creation is wiped."),
    code("bootstrap.restore", Always, "The first node makes the cluster's data from a backup."),
    code("bootstrap.wipe", Sparse, "The data cannot be rewound: it is wiped and cloned."),
    code("close.cluster", Always, "`state/cluster` names another cluster: the term is over."),
    code("close.deadline", Always, "The lease ended without a renewal: the term is over."),
    code("close.lost", Always, "Another node took the lock: the term is over."),
    code("config.bad", Sparse, "The configuration in KV is bad: the last good one stays."),
    code("config.changed", Always, "The cluster's configuration changed; the text says what."),
    code("config.differs", Sparse, "This node's configuration is not what the leader runs with."),
    code("config.not-kept", Sparse, "The configuration could not be kept on the volume."),
    code("config.refused", Sparse, "A configuration was refused; the last good one holds."),
    code("config.reload", Always, "The node's own configuration was read again."),
    code("consul.allowed", Sparse, "Consul takes this node's token again."),
    code("consul.denied", Sparse, "Consul refuses this node's token."),
    code("crash.restart", Sparse, "The primary's application is started again in place."),
    code("crash.slow", Always, "The application was down for a lease: others may take."),
    code("demote.failover", Always, "`lictor failover`: the primary gives up its term."),
    code("demote.kill", Always, "The demote hook failed: the application's tree is killed."),
    code("demote.planned", Always, "A switchover or a stop of the primary begins."),
    code("disk.wiped", Always, "The application's directory was emptied."),
    code("fence.deadline", Always, "The lease is about to end: the application is demoted."),
    code("fence.lost", Always, "The term is over: the application is demoted or killed."),
    code("follow.diverged", Sparse, "The data is not a copy of the primary's."),
    code("follow.done", Sparse, "`replicate` succeeded: the node follows this term."),
    code("follow.failed", Sparse, "`replicate` failed; it runs again."),
    code("guard.fired", Always, "The guard killed the application at its deadline."),
    code("hold", Always, "Consul is silent: the term goes on by the members' promises."),
    code("hold.over", Always, "Consul answers again: the term goes on by its lease."),
    code(
        "hold.unanswered",
        Sparse,
        "A member does not promise: without it the term ends with its lease.",
    ),
    code("lead", Chatter, "The node leads."),
    code("lead.useless", Always, "The lock was won by a node that cannot lead."),
    code("list", Always, "The list of those who may take changes."),
    code("open", Always, "A term begins."),
    code("open.late", Always, "The lock was won too late to be of use."),
    code("pause", Always, "The cluster is paused."),
    code(
        "pause.diverged",
        Sparse,
        "The data diverged, and the cluster is paused: it is left as it is.",
    ),
    code("pause.down", Sparse, "The application ended, and the cluster is paused: it stays down."),
    code("promote.done", Always, "The node is the primary: writes are accepted."),
    code("promote.failed", Always, "The promote (or sync) hook failed."),
    code("reinit.wipe", Always, "`lictor reinit`: the node's data is wiped, then cloned."),
    code("release", Always, "The lock is given back clean: nobody need wait."),
    code("restore.found", Always, "The backup this cluster begins from is here."),
    code(
        "restore.not-here",
        Sparse,
        "The backup this cluster is to begin from is not in `backup_dir` here.",
    ),
    code("resume", Always, "The pause is over."),
    code("secret.refused", Sparse, "A secret's new content is bad: the old one stays."),
    code("secret.renewed", Always, "A secret's file changed: the new content is in use."),
    code("start", Chatter, "Nothing was decided yet."),
    code("start.consul", Chatter, "Consul has not answered yet."),
    code("start.foreign", Always, "The volume's data is another cluster's: refused."),
    code("start.pre-start", Sparse, "The pre-start hook failed; it runs again."),
    code("start.unknown-data", Always, "The volume's data is of no known cluster: refused."),
    code("start.wait", Always, "A node that led waits for its successor before it starts."),
    code("stop", Always, "lictor was asked to stop."),
    code("stop.counted", Always, "A replica that stops leaves the sync set first, or could not."),
    code("switchover.late", Always, "The successor did not catch up within the lease."),
    code("sync", Always, "The set of those who acknowledge changes."),
    code("sync.barrier", Sparse, "A member did not catch up before it was to be counted."),
    code("sync.failed", Sparse, "The sync hook failed."),
    code("sync.too-few", Sparse, "`strict` wants more replicas than follow: writes wait."),
    code("take", Always, "The node takes the lock; `case` says on what ground."),
    code("take.ahead", Sparse, "Another sync member has more: that one goes first."),
    code("take.blind", Chatter, "Consul's keys are not read yet."),
    code("take.closing", Chatter, "The own former term is not given back yet."),
    code("take.empty", Sparse, "The disk is empty."),
    code("take.foreign", Sparse, "The data is another cluster's."),
    code("take.leading", Chatter, "The node leads."),
    code("take.lost", Always, "Another node was faster, or a key moved: nothing was taken."),
    code("take.no_bootstrap", Chatter, "The cluster is not made yet."),
    code("take.no_position", Sparse, "The own application gave no final position."),
    code("take.no_term", Sparse, "`state/term` is missing beside data: an operator decides."),
    code("take.not_following", Sparse, "The node did not follow the last term."),
    code("take.not_in_sync", Sparse, "The node is not in the sync set: it may lack writes."),
    code("take.now", Chatter, "The node may take the lock."),
    code("take.open", Chatter, "A take-over is not settled yet."),
    code("take.pause", Chatter, "The last attempt failed; the next one follows."),
    code("take.prepare", Chatter, "The node prepares to take the lock."),
    code("take.starting", Chatter, "The node starts."),
    code("take.sync_garbage", Sparse, "`state/sync` is unreadable: an operator decides."),
    code("take.too_few", Sparse, "Too few sync members answered: a write might be lost."),
    code("take.unlisted", Sparse, "The node is not on the list of those who may take."),
    code("take.wait", Chatter, "The lease of the holder must be over first."),
    code("volume.failed", Always, "The volume could not be written or read."),
    code("volume.floor", Sparse, "The highest term could not be made durable on the volume."),
    code("volume.follows", Sparse, "Whom this node followed could not be made durable."),
    code("wait.over", Sparse, "What this node needs from others is there."),
];

pub fn class(wanted: &str) -> Class {
    find(wanted).map_or(Sparse, |code| code.class)
}

pub fn find(wanted: &str) -> Option<&'static Code> {
    let place = CODES.binary_search_by(|code| code.code.cmp(wanted)).ok()?;
    CODES.get(place)
}

/// The table of `docs/journal.md`.
pub fn table() -> String {
    let row =
        |code: &Code| format!("| `{}` | {} | {} |\n", code.code, code.class.name(), code.about);
    let rows: String = CODES.iter().map(row).collect();
    format!("| code | journaled | meaning |\n|---|---|---|\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    const ROOT: &str = env!("CARGO_MANIFEST_DIR");
    const BEGIN: &str = "<!-- codes: UPDATE=1 cargo test --lib journal_page writes them anew -->\n";
    const END: &str = "<!-- end of codes -->\n";

    #[test]
    fn the_table_is_sorted() {
        assert!(CODES.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert_eq!(class("promote.done"), Class::Always);
        assert_eq!(class("of.a-later-version"), Class::Sparse);
    }

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            let tests = path.file_stem().is_some_and(|stem| stem == "tests");
            match (path.is_dir(), tests) {
                (_, true) => {}
                (true, false) => sources(&path, found),
                (false, false) => found.push(path),
            }
        }
    }

    /// Whatever the core says as a reason is in the table, journaled or not.
    #[test]
    fn every_code_is_told() {
        let mut files = Vec::new();
        sources(&Path::new(ROOT).join("src/decide"), &mut files);
        let mut missing = Vec::new();
        let mut seen = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source");
            let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for rest in product.split("Reason::new(").skip(1) {
                let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
                let code = rest.split('"').next().unwrap_or_default();
                seen += 1;
                if find(code).is_none() {
                    missing.push(format!("{code} of {}", file.display()));
                }
            }
        }
        assert!(seen > 40, "{seen} found: the search is broken");
        assert!(missing.is_empty(), "add a row to src/decide/journal/codes.rs: {missing:#?}");
    }

    /// Fails when the page and the table differ; `UPDATE=1` writes the page.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the switch of this test")]
    fn journal_page_is_current() {
        let path = Path::new(ROOT).join("docs/journal.md");
        let have = std::fs::read_to_string(&path).expect("docs/journal.md is there");
        let (head, rest) = have.split_once(BEGIN).expect("the codes' place");
        let (_, tail) = rest.split_once(END).expect("the codes' end");
        let want = format!("{head}{BEGIN}\n{}\n{END}{tail}", table());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &want).expect("docs/journal.md can be written");
            return;
        }
        assert!(have == want, "docs/journal.md is old: UPDATE=1 cargo test --lib journal_page");
    }
}
