//! `packaging/host-config` on made-up roots: what it puts into nsswitch.conf and pam.d, and that it takes back exactly that.
//! Runs the script itself; the package around it is tested in a booted container.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const PAM: &str = "account requisite pam_teleport.so\n";

/// A root folder with the files that matter; removed with the value.
struct Root(PathBuf);

impl Root {
    fn new(name: &str, nsswitch: &str) -> Result<Root> {
        let root = Root(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        let _ = fs::remove_dir_all(&root.0);
        for folder in ["etc/pam.d", "usr/lib/teleport-userdb/pam.d", "var/lib"] {
            fs::create_dir_all(root.0.join(folder))?;
        }
        root.write("etc/nsswitch.conf", nsswitch)?;
        root.write("usr/lib/teleport-userdb/pam.d/teleport", PAM)?;
        Ok(root)
    }

    fn write(&self, path: &str, text: &str) -> Result {
        Ok(fs::write(self.0.join(path), text)?)
    }

    fn read(&self, path: &str) -> Result<String> {
        Ok(fs::read_to_string(self.0.join(path)).map_err(|error| format!("{path}: {error}"))?)
    }

    fn exists(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    fn host_config(&self, task: &str) -> Result {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging/host-config");
        let output = Command::new(script)
            .arg(task)
            .env("TELEPORT_USERDB_ROOT", &self.0)
            .output()?;
        assert!(output.status.success(), "host-config {task}: {output:?}");
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_way_to_write_the_line_is_extended_and_restored() -> Result {
    for (line, extended) in [
        (
            "passwd:         files systemd",
            "passwd:         files teleport systemd",
        ),
        ("passwd: files", "passwd: files teleport"),
        ("passwd:files systemd", "passwd:files teleport systemd"),
        (
            "passwd:\tfiles\tsystemd",
            "passwd:\tfiles teleport\tsystemd",
        ),
        (
            "  passwd: files   # teleport",
            "  passwd: files teleport   # teleport",
        ),
        (
            "passwd: files [SUCCESS=merge] systemd",
            "passwd: files [SUCCESS=merge] teleport systemd",
        ),
        (
            "passwd: files[!UNAVAIL=return] sss",
            "passwd: files[!UNAVAIL=return] teleport sss",
        ),
        ("passwd: files# mine", "passwd: files teleport# mine"),
        ("passwd: compat systemd", "passwd: compat teleport systemd"),
        ("passwd: sss systemd", "passwd: sss teleport systemd"),
        ("passwd:\tsystemd", "passwd:\tteleport systemd"),
        ("passwd:  systemd", "passwd:  teleport systemd"),
        ("passwd: db  ", "passwd: db teleport  "),
        ("passwd:", "passwd: teleport"),
        // Nothing to do: it is there, or there is no such line.
        (
            "passwd: files teleport systemd",
            "passwd: files teleport systemd",
        ),
        ("passwd: teleport", "passwd: teleport"),
        ("#passwd: files", "#passwd: files"),
        ("netpasswd: files", "netpasswd: files"),
        // Somebody else's name contains ours.
        (
            "passwd: files teleporter",
            "passwd: files teleport teleporter",
        ),
    ] {
        let text = |line: &str| format!("# a comment\n{line}\nshadow: files");
        let root = Root::new("lines", &text(line))?;
        root.host_config("enable")?;
        assert_eq!(root.read("etc/nsswitch.conf")?, text(extended));
        root.host_config("enable")?;
        assert_eq!(root.read("etc/nsswitch.conf")?, text(extended), "twice");
        root.host_config("disable")?;
        assert_eq!(root.read("etc/nsswitch.conf")?, text(line));
        assert!(!root.exists("var/lib/teleport-userdb"), "{line}");
    }
    Ok(())
}

#[test]
fn what_an_administrator_took_out_stays_out() -> Result {
    let root = Root::new("taken-out", "passwd: files systemd\ngroup: files systemd\n")?;
    root.host_config("enable")?;
    root.write("etc/nsswitch.conf", "passwd: files systemd\ngroup: files\n")?;
    root.host_config("enable")?;
    assert_eq!(
        root.read("etc/nsswitch.conf")?,
        "passwd: files systemd\ngroup: files\n"
    );
    Ok(())
}

#[test]
fn a_host_without_nsswitch_conf_gets_none() -> Result {
    let root = Root::new("without", "")?;
    fs::remove_file(root.0.join("etc/nsswitch.conf"))?;
    root.host_config("enable")?;
    root.host_config("disable")?;
    assert!(!root.exists("etc/nsswitch.conf"));
    Ok(())
}

#[test]
fn a_link_in_the_place_of_nsswitch_conf_is_followed_and_kept() -> Result {
    let root = Root::new("link", "passwd: files\n")?;
    fs::rename(
        root.0.join("etc/nsswitch.conf"),
        root.0.join("etc/nsswitch.real"),
    )?;
    std::os::unix::fs::symlink("nsswitch.real", root.0.join("etc/nsswitch.conf"))?;
    root.host_config("enable")?;
    assert_eq!(root.read("etc/nsswitch.real")?, "passwd: files teleport\n");
    assert!(root.0.join("etc/nsswitch.conf").is_symlink());
    Ok(())
}

#[test]
fn an_unchanged_pam_file_follows_the_package_and_goes_with_it() -> Result {
    let root = Root::new("pam", "passwd: files\n")?;
    root.host_config("enable")?;
    assert_eq!(root.read("etc/pam.d/teleport")?, PAM);
    root.write("usr/lib/teleport-userdb/pam.d/teleport", "# newer\n")?;
    root.host_config("enable")?;
    assert_eq!(root.read("etc/pam.d/teleport")?, "# newer\n");
    root.host_config("disable")?;
    assert!(!root.exists("etc/pam.d/teleport"));
    Ok(())
}

#[test]
fn a_changed_pam_file_stays_until_it_is_purged() -> Result {
    let root = Root::new("pam-changed", "passwd: files\n")?;
    root.host_config("enable")?;
    root.write("etc/pam.d/teleport", "# mine\n")?;
    root.write("usr/lib/teleport-userdb/pam.d/teleport", "# newer\n")?;
    root.host_config("enable")?;
    root.host_config("disable")?;
    assert_eq!(root.read("etc/pam.d/teleport")?, "# mine\n");
    root.host_config("purge")?;
    assert!(!root.exists("etc/pam.d/teleport"));
    Ok(())
}

#[test]
fn a_pam_file_of_somebody_else_is_never_touched() -> Result {
    let root = Root::new("pam-foreign", "passwd: files\n")?;
    root.write("etc/pam.d/teleport", "# theirs\n")?;
    for task in ["enable", "disable", "enable", "purge"] {
        root.host_config(task)?;
        assert_eq!(root.read("etc/pam.d/teleport")?, "# theirs\n", "{task}");
    }
    Ok(())
}
