//! What is whole, what is not and what is named when it is not; what goes and what stays.

use super::*;
use crate::decide::backup::Origin;
use crate::decide::types::{ClusterId, Epoch};

fn shelf(root: &Path) -> Shelf {
    Shelf { root: Some(root.to_owned()), cluster: "c".into(), node: "a".into(), owner: None }
}

fn origin(id: &str) -> Origin {
    Origin {
        id: BackupId::new(id),
        cluster_name: "c".into(),
        cluster: ClusterId::new("1"),
        node: "a".into(),
        epoch: Epoch(1),
        at: 1,
        position: "p".into(),
        engine: "e".into(),
    }
}

fn id(text: &str) -> BackupId {
    BackupId::new(text)
}

/// Three files, in two directories.
fn made(shelf: &Shelf, name: &str) -> String {
    let Ok(BackupDone::Dir(data)) = shelf.act(BackupAct::Begin { id: id(name) }) else {
        panic!("a directory is made")
    };
    let data = PathBuf::from(data);
    fs::create_dir(data.join("db")).expect("ours");
    for (path, text) in [("one", "1"), ("db/two", "22"), ("db/three", "")] {
        fs::write(data.join(path), text).expect("ours");
    }
    let measured = shelf.act(BackupAct::Measure { id: id(name) });
    assert_eq!(measured, Ok(BackupDone::Measured(3)));
    match shelf.act(BackupAct::Seal { origin: origin(name) }) {
        Ok(BackupDone::Sealed { bytes: 3, files: 3, manifest, .. }) => manifest,
        other => panic!("sealed: {other:?}"),
    }
}

fn sweep(shelf: &Shelf, listed: &[&str], but: Option<&str>) -> Vec<String> {
    let listed = listed.iter().map(|name| id(name)).collect();
    let done = shelf.act(BackupAct::Sweep { listed, but: but.map(id) });
    assert_eq!(done, Ok(BackupDone::Done));
    let mut left = names(&shelf.dir().expect("set")).expect("there");
    left.sort();
    left
}

fn check(shelf: &Shelf, name: &str, manifest: Option<&str>) -> Result<BackupDone, String> {
    let source = Source::Id { id: id(name), manifest: manifest.map(str::to_owned) };
    shelf.act(BackupAct::Check { source })
}

#[test]
fn what_is_listed_gets_its_name_and_what_is_half_done_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let shelf = shelf(dir.path());
    made(&shelf, "1");
    made(&shelf, "2");
    assert!(shelf.act(BackupAct::Begin { id: id("3") }).is_ok());
    assert!(shelf.act(BackupAct::Begin { id: id("4") }).is_ok());
    assert!(shelf.act(BackupAct::Scratch { id: id("1") }).is_ok());
    // Another node's, on a mount that both have.
    let other = Shelf { node: "a-b".into(), ..shelf.clone() };
    assert!(other.act(BackupAct::Begin { id: id("5") }).is_ok());
    let left = sweep(&shelf, &["1", "3", "5"], Some("4"));
    // 1 was published; 2 never; 3 is in the list and was never sealed; 4 is under way.
    assert_eq!(left, [".part.a-b.5", ".part.a.4", "1"]);
    assert!(check(&shelf, "2", None).is_err());
}

#[test]
fn every_change_is_found_and_named() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("db/two was changed", |data| fs::write(data.join("db/two"), "23").expect("ours")),
        ("one has 2 bytes instead of 1", |data| fs::write(data.join("one"), "1\n").expect("ours")),
        ("cannot read", |data| fs::remove_file(data.join("db/three")).expect("ours")),
        ("db/more is not in the manifest", |data| {
            fs::write(data.join("db/more"), "").expect("ours");
        }),
        ("manifest.json was changed", |data| {
            let path = data.join("../manifest.json");
            let text = fs::read_to_string(&path).expect("there").replace("\"p\"", "\"q\"");
            fs::write(path, text).expect("ours");
        }),
        ("is no manifest", |data| {
            fs::write(data.join("../manifest.json"), "{}").expect("ours");
        }),
    ];
    for (want, change) in changes {
        let dir = tempfile::tempdir().expect("a directory");
        let shelf = shelf(dir.path());
        let manifest = made(&shelf, "1");
        sweep(&shelf, &["1"], None);
        let whole = check(&shelf, "1", Some(&manifest)).expect("it is there");
        assert!(matches!(whole, BackupDone::Whole { bytes: 3, files: 3, .. }), "{whole:?}");
        change(&dir.path().join("c/1/data"));
        match check(&shelf, "1", Some(&manifest)) {
            Ok(BackupDone::Corrupt(text)) => assert!(text.contains(want), "{want}: {text}"),
            other => panic!("{want}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_plain_file_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let shelf = shelf(dir.path());
    shelf.act(BackupAct::Begin { id: id("1") }).expect("made");
    let data = dir.path().join("c/.part.a.1/data");
    let empty = shelf.act(BackupAct::Seal { origin: origin("1") });
    assert!(empty.is_err_and(|why| why.contains("wrote nothing")));
    std::os::unix::fs::symlink("/etc/passwd", data.join("link")).expect("ours");
    let linked = shelf.act(BackupAct::Seal { origin: origin("1") });
    assert!(linked.is_err_and(|why| why.contains("neither a file nor a directory")));
}

#[test]
fn the_newest_is_found_and_a_missing_mount_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let shelf = shelf(dir.path());
    let find = |source| shelf.act(BackupAct::Find { source });
    assert!(find(Source::Latest).is_err());
    made(&shelf, "20260101-000000-1");
    let manifest = made(&shelf, "20260102-000000-1");
    made(&shelf, "20260103-000000-1");
    sweep(&shelf, &["20260101-000000-1", "20260102-000000-1"], None);
    let found = |done| match done {
        Ok(BackupDone::Found { origin, .. }) => origin.id.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found(find(Source::Latest)), "20260102-000000-1");
    let path = dir.path().join("c/20260101-000000-1").to_string_lossy().into_owned();
    assert_eq!(found(find(Source::Path(path))), "20260101-000000-1");
    let by_id = |name: &str, manifest: &str| {
        find(Source::Id { id: id(name), manifest: Some(manifest.to_owned()) })
    };
    assert_eq!(found(by_id("20260102-000000-1", &manifest)), "20260102-000000-1");
    assert!(by_id("20260101-000000-1", &manifest).is_err_and(|why| why.contains("catalog")));
    let gone = Shelf { root: Some(dir.path().join("not-mounted")), ..shelf.clone() };
    let begun = gone.act(BackupAct::Begin { id: id("1") });
    assert!(begun.is_err_and(|why| why.contains("mount or create it")));
    assert_eq!(
        gone.act(BackupAct::Sweep { listed: BTreeSet::new(), but: None }),
        Ok(BackupDone::Done)
    );
    let none = Shelf { root: None, ..shelf };
    let begun = none.act(BackupAct::Begin { id: id("1") });
    assert!(begun.is_err_and(|why| why.contains("no backup_dir")));
}

#[test]
fn a_deleted_one_is_gone_and_another_nodes_only_if_it_is_here() {
    let dir = tempfile::tempdir().expect("a directory");
    let shelf = shelf(dir.path());
    made(&shelf, "1");
    sweep(&shelf, &["1"], None);
    let delete = |own| shelf.act(BackupAct::Delete { id: id("1"), own });
    assert_eq!(delete(false), Ok(BackupDone::Done));
    assert_eq!(sweep(&shelf, &[], None), Vec::<String>::new());
    assert_eq!(delete(true), Ok(BackupDone::Done), "again");
    assert!(delete(false).is_err());
}
