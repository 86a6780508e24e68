//! What must stand, and must not, in our units: each rule was found the hard way, see docs/decisions.
//! Reads the files as text; that systemd likes them is tested in a booted container.

use std::fs;
use std::io;
use std::path::Path;

/// The settings of one unit as (section, key, value).
fn settings(unit: &str) -> io::Result<Vec<(String, String, String)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("units")
        .join(unit);
    let mut section = String::new();
    let mut found = Vec::new();
    for line in fs::read_to_string(path)?.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            found.push((section.clone(), key.to_owned(), value.to_owned()));
        }
    }
    Ok(found)
}

#[track_caller]
fn says(unit: &str, section: &str, key: &str, value: &str) -> io::Result<()> {
    let settings = settings(unit)?;
    assert!(
        settings
            .iter()
            .any(|(s, k, v)| s == section && k == key && v.split(' ').any(|v| v == value)),
        "{unit} lacks {key}={value} in [{section}]"
    );
    Ok(())
}

#[track_caller]
fn lacks(unit: &str, key: &str, value: &str) -> io::Result<()> {
    let settings = settings(unit)?;
    assert!(
        !settings
            .iter()
            .any(|(_, k, v)| k == key && v.split(' ').any(|v| value.is_empty() || v == value)),
        "{unit} must not say {key}={value}"
    );
    Ok(())
}

const SERVICES: [&str; 2] = ["teleport-sessiond.service", "teleport-userdbd.service"];
const SOCKETS: [&str; 2] = ["teleport-sessiond.socket", "teleport-userdbd.socket"];

#[test]
fn no_service_makes_systemd_look_a_user_up() -> io::Result<()> {
    for unit in SERVICES {
        for key in ["User", "DynamicUser", "Group", "SupplementaryGroups"] {
            lacks(unit, key, "")?;
        }
    }
    Ok(())
}

#[test]
fn nothing_of_ours_starts_before_users_can_be_looked_up() -> io::Result<()> {
    for unit in SOCKETS.iter().chain(&["teleport-sessiond.service"]) {
        lacks(unit, "DefaultDependencies", "no")?;
    }
    // The one that answers must not wait for every socket of the boot; nor may it be earlier than its own.
    says(
        "teleport-userdbd.service",
        "Unit",
        "DefaultDependencies",
        "no",
    )?;
    for (key, target) in [
        ("Requires", "sysinit.target"),
        ("After", "sysinit.target"),
        ("Conflicts", "shutdown.target"),
        ("Before", "shutdown.target"),
    ] {
        says("teleport-userdbd.service", "Unit", key, target)?;
    }
    lacks("teleport-userdbd.service", "PrivateTmp", "yes")?;
    for unit in SERVICES {
        says(unit, "Unit", "Wants", "nss-user-lookup.target")?;
        says(unit, "Unit", "Before", "nss-user-lookup.target")?;
        says(unit, "Install", "WantedBy", "multi-user.target")?;
    }
    Ok(())
}

#[test]
fn no_limit_switches_a_daemon_off_for_good() -> io::Result<()> {
    for unit in SERVICES {
        // In [Service] it would be ignored.
        says(unit, "Unit", "StartLimitIntervalSec", "0")?;
        says(unit, "Service", "Restart", "always")?;
        says(unit, "Service", "RestartSec", "100ms")?;
    }
    for unit in SOCKETS {
        says(unit, "Unit", "StartLimitIntervalSec", "0")?;
        says(unit, "Socket", "TriggerLimitIntervalSec", "0")?;
        says(unit, "Socket", "RemoveOnStop", "yes")?;
    }
    says("teleport-userdbd.service", "Service", "WatchdogSec", "10s")
}

#[test]
fn what_tries_again_has_no_job_that_keeps_a_boot_from_ending() -> io::Result<()> {
    for unit in [
        "teleport-sudoers-withdrawal.service",
        "teleport-userdbd-again.service",
    ] {
        says(unit, "Service", "Type", "exec")?;
        says(unit, "Unit", "StartLimitIntervalSec", "0")?;
    }
    Ok(())
}

#[test]
fn a_restart_keeps_table_socket_state_and_homes() -> io::Result<()> {
    for unit in SERVICES {
        lacks(unit, "RuntimeDirectory", "teleport-userdb")?;
        lacks(unit, "RequiresMountsFor", "")?;
        lacks(unit, "Requires", "run-teleport\\x2duserdb-home.mount")?;
    }
    let sessiond = "teleport-sessiond.service";
    says(sessiond, "Service", "RuntimeDirectoryPreserve", "yes")?;
    says(
        sessiond,
        "Unit",
        "Wants",
        "run-teleport\\x2duserdb-home.mount",
    )?;
    says(
        sessiond,
        "Unit",
        "After",
        "run-teleport\\x2duserdb-home.mount",
    )
}

#[test]
fn no_daemon_asks_itself() -> io::Result<()> {
    for unit in SERVICES {
        says(
            unit,
            "Service",
            "Environment",
            "SYSTEMD_BYPASS_USERDB=com.goteleport.DynamicUser",
        )?;
    }
    Ok(())
}

#[test]
fn what_unmounts_for_ended_users_works_on_the_mounts_of_the_host() -> io::Result<()> {
    // Each of these gives a service a copy of all mounts, and what it unmounts goes from the copy.
    for key in [
        "BindPaths",
        "InaccessiblePaths",
        "MountFlags",
        "PrivateDevices",
        "PrivateMounts",
        "PrivateNetwork",
        "PrivateTmp",
        "ProcSubset",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectProc",
        "ProtectSystem",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "RootDirectory",
        "TemporaryFileSystem",
    ] {
        lacks("teleport-unmount@.service", key, "")?;
    }
    Ok(())
}
