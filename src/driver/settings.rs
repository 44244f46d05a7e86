//! From the checked configuration to what the core must know.

use crate::config::{self, Config, Shared};
use crate::decide::hook::Hook;
use crate::decide::lead::SyncMode;
use crate::decide::life::{BackupSettings, OnCrash, Settings, Stated, Timeouts};
use crate::process::hooks;

pub(super) fn settings(config: &Config, shared: &Shared) -> Settings {
    let (local, cluster) = (&config.local, &shared.settings);
    let on_crash = match cluster.on_crash {
        config::OnCrash::Failover => OnCrash::Failover,
        config::OnCrash::Restart => OnCrash::Restart,
    };
    let times = &cluster.timeouts;
    Settings {
        lead: config.lead(cluster),
        demote_budget: cluster.demote_budget,
        kill_budget: cluster.kill_budget,
        on_crash,
        restart_max: cluster.restart_max,
        restart_window: cluster.restart_window,
        timeouts: Timeouts {
            bootstrap: times.bootstrap,
            pre_start: times.pre_start,
            replicate: times.replicate,
            promote: times.promote,
            demote: times.demote,
            position: times.position,
            health: times.health,
            sync: times.sync,
            reload: times.reload,
            backup: times.backup,
            verify: times.verify,
        },
        bootstrap_expect: cluster.bootstrap_expect,
        priorities: cluster.priorities.clone(),
        no_failover: cluster.no_failover.clone(),
        health_interval: cluster.health_interval,
        expel_after: cluster.expel_after,
        hung_after: cluster.hung_after,
        hold_down: cluster.hold_down,
        hold_down_max: cluster.hold_down_max,
        hold_down_window: cluster.hold_down_window,
        max_lag: cluster.max_lag,
        journal_keep: cluster.journal_keep,
        stop_timeout: local.stop_timeout,
        service: local.service.clone().unwrap_or_default(),
        tls: local.tls.as_ref().is_some_and(|tls| tls.identity.is_some()),
        address: local.address.to_string(),
        app_port: local.app_port.unwrap_or(0),
        zone: local.zone.clone(),
        host: local.host.clone(),
        tags: local.tags.clone(),
        roles: local.roles.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        stated: Stated {
            listed: shared.listed(),
            digest: shared.digest(),
            own: shared.overridden(),
        },
        backup: backups(config, shared),
    }
}

/// Why it can't is said as the end of a sentence that begins with the node's name.
fn backups(config: &Config, shared: &Shared) -> BackupSettings {
    let (local, cluster) = (&config.local, &shared.settings);
    let bar = |hook: Hook| match &local.backup_dir {
        None => Some("has no backup_dir".to_owned()),
        Some(_) => hooks::check(&local.hooks, hook).err().map(|why| format!("can't: {why}")),
    };
    BackupSettings {
        schedule: cluster.backup_schedule.clone(),
        keep: cluster.backup_keep,
        bar: bar(Hook::Backup),
        no_verify: bar(Hook::Verify),
        restore_from: local.restore_from.clone(),
    }
}

/// `sync` needs its hook: without one a promise of no loss would be empty.
pub(super) fn needs_sync_hook(mode: SyncMode) -> bool {
    match mode {
        SyncMode::Off => false,
        SyncMode::On | SyncMode::Strict(_) => true,
    }
}
