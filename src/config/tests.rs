//! Whole configurations: what covers what, and what each mistake is told.

use super::*;

fn args(purpose: Purpose) -> LoadArgs {
    LoadArgs {
        purpose,
        file: None,
        flags: vec![("node".to_owned(), "n1".to_owned())],
        command: Vec::new(),
        env: Environment::default(),
        kv: None,
    }
}

/// A member's record, as of an older version.
pub(super) fn member(name: &str) -> crate::decide::records::MemberValue {
    let record = serde_json::json!({
        "v": 1, "node": name, "run": "r", "disk": "d", "cluster": null, "roles": {}, "peer": "",
        "app": "", "zone": "", "host": "", "priority": 100, "no_failover": false,
        "state": "replica", "floor": 1, "follows": null, "version": "1",
    });
    serde_json::from_value(record).expect("a record without the newer fields")
}

fn with_file(text: &str, args: LoadArgs) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("lictor.toml");
    std::fs::write(&path, text).expect("written");
    let place = path.display().to_string();
    load(&LoadArgs { file: Some(path), ..args })
        .map_err(|e| e.to_string().replace(&place, "lictor.toml"))
}

fn file_error(text: &str) -> String {
    with_file(text, args(Purpose::Check)).expect_err(text)
}

fn kv_error(text: &str) -> String {
    let args = LoadArgs { kv: Some(text.to_owned()), ..args(Purpose::Check) };
    load(&args).expect_err(text).to_string()
}

#[test]
fn every_default_is_set() {
    let config = load(&args(Purpose::Check)).expect("the defaults hold together");
    assert_eq!(config.cluster.lease, Span::secs(3));
    assert_eq!(config.cluster.timeouts.bootstrap, Span::secs(6 * 3_600));
    assert_eq!(config.cluster.timeouts.demote, config.cluster.lease);
    assert_eq!(config.cluster.on_crash, OnCrash::Restart);
    assert_eq!(config.local.listen.to_string(), "0.0.0.0:8008");
    assert_eq!(config.local.consul.addresses, ["http://127.0.0.1:8500"]);
    assert_eq!(config.local.host, "n1");
}

#[test]
fn names_of_variables_and_flags_are_unique() {
    let scalars = || all_settings().filter(|it| it.kind.is_scalar());
    let variables: std::collections::BTreeSet<_> = scalars().map(Setting::variable).collect();
    assert_eq!(variables.len(), scalars().count());
    let flags: std::collections::BTreeSet<_> = scalars().map(Setting::flag).collect();
    assert_eq!(flags.len(), scalars().count());
}

#[test]
fn each_layer_covers_the_one_before() {
    let kv = "lease = \"2s\"\nrequest_timeout = \"100ms\"\nexpel_after = \"11s\"\n\
              [timeouts]\nsync = \"1s\"";
    let file = "request_timeout = \"110ms\"\nsync_acks = 2\n[timeouts]\nhealth = \"2s\"";
    let mut args = args(Purpose::Check);
    args.kv = Some(kv.to_owned());
    args.env = Environment::from([("LICTOR_SYNC_ACKS", "3"), ("LICTOR_TIMEOUTS_HEALTH", "3s")]);
    args.flags.push(("timeouts.health".to_owned(), "4s".to_owned()));
    let cluster = with_file(file, args).expect("good").cluster;
    assert_eq!(cluster.lease, Span::secs(2), "KV covers the default");
    assert_eq!(cluster.expel_after, Span::secs(11), "KV stays where nobody covers it");
    assert_eq!(cluster.request_timeout, Span(110), "the file covers KV");
    assert_eq!(cluster.sync_acks, 3, "the environment covers the file");
    assert_eq!(cluster.timeouts.health, Span::secs(4), "a flag covers the environment");
    assert_eq!(cluster.timeouts.sync, Span::secs(1), "groups are covered key by key");
}

#[test]
fn sync_decides_what_a_crash_does() {
    for (text, want) in [
        ("", OnCrash::Restart),
        ("sync = \"on\"", OnCrash::Failover),
        ("sync = \"strict\"", OnCrash::Failover),
        ("sync = \"on\"\non_crash = \"restart\"", OnCrash::Restart),
    ] {
        let config = with_file(text, args(Purpose::Check)).expect(text);
        assert_eq!(config.cluster.on_crash, want, "{text}");
    }
    let strict = with_file("sync = \"strict\"\nsync_acks = 2", args(Purpose::Check)).expect("good");
    assert_eq!(strict.cluster.sync, crate::decide::lead::SyncMode::Strict(2));
}

#[test]
fn consul_variables() {
    let mut args = args(Purpose::Check);
    args.env = Environment::from([
        ("CONSUL_HTTP_ADDR", "10.0.0.1:8501, http://10.0.0.2:8500"),
        ("CONSUL_HTTP_TOKEN", "t"),
        ("CONSUL_HTTP_SSL", "true"),
        ("CONSUL_CLIENT_CERT", "/c"),
        ("CONSUL_CLIENT_KEY", "/k"),
    ]);
    let file = "[consul]\ntoken_file = \"/nowhere\"\naddresses = [\"x:1\"]";
    let consul =
        with_file(file, args).expect("the variable's token covers the file's").local.consul;
    assert_eq!(consul.addresses, ["https://10.0.0.1:8501", "http://10.0.0.2:8500"]);
    assert_eq!(consul.token, Some(Secret::new("t")));
    assert_eq!(consul.identity, Some(("/c".into(), "/k".into())));
}

#[test]
fn strings_of_the_file_are_substituted_and_kv_is_not() {
    let mut with = args(Purpose::Check);
    with.env = Environment::from([("ZONE", "a\"b"), ("PORT", "3306"), ("N", "n2")]);
    let file = "zone = \"${ZONE}\"\ncommand = [\"db\", \"--port=${PORT}\"]\n\
                no_failover = [\"${N}\"]\n\
                [env]\nX = \"${NONE:-y}\"";
    let config = with_file(file, with.clone()).expect("good");
    assert_eq!(config.local.zone, "a\"b");
    assert_eq!(config.local.command, ["db", "--port=3306"]);
    assert_eq!(config.local.env["X"], "y");
    assert!(config.cluster.no_failover.contains(&NodeName::new("n2")));
    with.kv = Some("no_failover = [\"${N}\"]".to_owned());
    let error = load(&with).expect_err("no substitution in KV").to_string();
    assert!(error.contains("\"${N}\" is no name"), "{error}");
}

#[test]
fn mistakes_of_a_file_are_told_with_their_place() {
    for (text, want) in [
        ("leese = \"3s\"", "lictor.toml:1:1: unknown setting leese; did you mean lease?"),
        (
            "[consul]\nadresses = []",
            "lictor.toml:2:1: unknown setting consul.adresses; did you mean consul.addresses?",
        ),
        ("lease = 3", "lictor.toml:1:9: lease: 3 has no unit; write \"3s\" or \"3ms\""),
        ("\nlease = \"3\"", "lictor.toml:2:9: lease: 3 has no unit; write \"3s\" or \"3ms\""),
        ("cluster = \"Main\"", "lictor.toml:1:11: cluster: \"Main\" is no name; write 1 to 63 of"),
        ("zone = \"${NOPE}\"", "lictor.toml:1:8: environment variable NOPE is not set; set it or"),
        (
            "on_consul_loss = \"wait\"",
            "lictor.toml:1:18: on_consul_loss: unknown variant `wait`, expected `hold` or `fence`",
        ),
        ("sync = \"maybe\"", "lictor.toml:1:8: sync: unknown variant `maybe`, expected one of"),
        ("consul = \"x:1\"", "lictor.toml:1:1: consul is a group; write a table: [consul]"),
        ("app_port = 70000", "lictor.toml:1:12: app_port: invalid value"),
        ("lease = \"3s\"\nlease = \"3s\"", "lictor.toml:2:1: "),
        ("lease =", "lictor.toml:1:8: "),
        ("tags = [\"primary\"]", "configuration: tags: \"primary\" is set by lictor itself"),
        ("[consul]\ncert = \"/c\"", "configuration: consul.cert needs consul.key"),
        ("[consul]\naddresses = []", "configuration: consul.addresses is empty"),
        ("[consul]\naddresses = [\"x\"]", "\"x\" has no port; write \"x:8500\""),
        ("[consul]\ntoken_file = \"/nowhere\"", "cannot read /nowhere: No such file"),
    ] {
        let error = file_error(text);
        assert!(error.contains(want), "{text}\n has: {error}\nwant: {want}");
        assert!(!error.contains('\n'), "one line: {error}");
    }
}

#[test]
fn what_does_not_hold_together_is_told_with_the_numbers() {
    for (text, want) in [
        ("lease = \"4s\"", "lease 4 s is above lease_max 3 s; raise lease_max on all nodes first"),
        ("kill_budget = \"500ms\"", "kill_budget 500 ms must be below demote_budget 500 ms"),
        ("request_timeout = \"750ms\"", "lease/3 1 s + 2 x request_timeout 750 ms"),
        ("lease = \"0s\"", "lease is 0"),
        (
            "backup_schedule = \"0 25 * * *\"",
            "backup_schedule: \"25\" is no hour; write *, 0 to 23",
        ),
        ("backup_schedule = \"0 0 30 2 *\"", "never comes"),
        ("restore_from = \"../x\"", "restore_from: \"../x\" is no backup; write latest, an id"),
        ("cluster = \"c\"\napp_port = 1\nbackup_dir = \"b\"", "backup_dir: b is not absolute"),
        ("sync_acks = 0", "sync_acks is 0"),
        ("[timeouts]\nsync = \"0ms\"", "timeouts.sync is 0"),
        ("hold_down = \"6m\"", "is above hold_down_max"),
        ("hold_down_window = \"0s\"", "hold_down_window is 0"),
        ("[roles]\nrequires = [\"a/b\"]", "roles.requires: \"a/b\" is no service's name"),
    ] {
        let error = file_error(text);
        assert!(error.contains(want), "{text}: {error}");
    }
    for good in [
        "lease = \"4s\"\nlease_max = \"4s\"",
        "request_timeout = \"749ms\"",
        "hold_down = \"0s\"\nmax_lag = \"0s\"",
    ] {
        with_file(good, args(Purpose::Check)).expect(good);
    }
}

#[test]
fn no_local_setting_is_taken_from_kv() {
    let mut checked = 0;
    for setting in all_settings().filter(|it| it.scope == Scope::Local) {
        let text = match setting.name.split_once('.') {
            Some((group, key)) => format!("[{group}]\n{key} = 1"),
            None => format!("{} = 1", setting.name),
        };
        let error = kv_error(&text);
        let want = format!("{} is local: who may write KV", setting.name);
        assert!(error.starts_with("KV state/config:") && error.contains(&want), "{error}");
        checked += 1;
    }
    assert!(checked > 20, "the table was read: {checked}");
    assert!(kv_error("lease = 3").starts_with("KV state/config:1:9: lease: 3 has no unit"));
}

#[test]
fn a_run_needs_a_command_and_in_a_cluster_a_port() {
    let error = load(&args(Purpose::Run)).expect_err("no command").to_string();
    assert!(error.contains("there is no command to run"), "{error}");
    let mut alone = args(Purpose::Run);
    alone.command = vec!["true".to_owned()];
    assert_eq!(load(&alone).expect("supervise only").local.cluster, None);
    alone.env = Environment::from([("LICTOR_CLUSTER", "db")]);
    let error = load(&alone).expect_err("no port").to_string();
    assert!(error.contains("app_port is not set"), "{error}");
    alone.flags.push(("app_port".to_owned(), "3306".to_owned()));
    let local = load(&alone).expect("good").local;
    assert_eq!(local.service.as_deref(), Some("db"));
    alone.flags.push(("address".to_owned(), "10.1.2.3".to_owned()));
    let local = load(&alone).expect("good").local;
    assert_eq!((local.peer(), local.app()), ("10.1.2.3:8008".into(), "10.1.2.3:3306".into()));
}

#[test]
fn variables_are_checked_and_mistyped_ones_warned_of() {
    let mut with = args(Purpose::Check);
    with.env = Environment::from([("LICTOR_LEASE", "3")]);
    let error = load(&with).expect_err("no unit").to_string();
    assert_eq!(error, "environment LICTOR_LEASE: 3 has no unit; write \"3s\" or \"3ms\"");
    with.env = Environment::from([("LICTOR_CLUSTR", "db"), ("LICTOR_LEASE", "")]);
    let config = load(&with).expect("empty counts as unset");
    let want = "environment LICTOR_CLUSTR is no setting; did you mean LICTOR_CLUSTER?";
    assert_eq!(config.warnings, [want]);
    with.env = Environment::from([("LICTOR_HOOK", "promote"), ("LICTOR_SYNC_ACKS", "0")]);
    load(&with).expect("a fact of the hook contract is no setting");
}

#[test]
fn a_question_needs_a_cluster_and_nothing_else() {
    let mut ask = args(Purpose::Ask);
    let error = load(&ask).expect_err("no cluster").to_string();
    assert!(error.contains("there is no cluster to ask"), "{error}");
    ask.env = Environment::from([("LICTOR_CLUSTER", "db")]);
    load(&ask).expect("no command and no port");
}

#[test]
fn a_named_file_must_exist() {
    let mut with = args(Purpose::Check);
    with.file = Some("/nowhere/lictor.toml".into());
    let error = load(&with).expect_err("missing").to_string();
    assert!(error.starts_with("cannot read /nowhere/lictor.toml: "), "{error}");
}
