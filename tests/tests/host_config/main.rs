//! `packaging/host-config` on made-up roots: what it puts into nsswitch.conf and pam.d, and that it takes back exactly that.
//! Runs the script itself; the package around it is tested in a booted container.

mod killed;

use std::env;
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
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

    fn command(&self, task: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging/host-config");
        let mut command = Command::new(script);
        command.arg(task).env("TELEPORT_USERDB_ROOT", &self.0);
        command
    }

    /// Runs the script; what it told the administrator.
    fn host_config(&self, task: &str) -> Result<String> {
        let output = self.command(task).output()?;
        assert!(output.status.success(), "host-config {task}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
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
        ("passwd : files", "passwd : files teleport"),
        (
            " passwd\t:files systemd",
            " passwd\t:files teleport systemd",
        ),
        // With us alone in it, nobody else would be found.
        ("passwd:", "passwd:"),
        ("passwd :  # nothing", "passwd :  # nothing"),
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
fn a_line_that_was_aligned_since_loses_us_all_the_same() -> Result {
    let root = Root::new("aligned", "passwd: files systemd\ngroup: files\n")?;
    root.host_config("enable")?;
    root.write(
        "etc/nsswitch.conf",
        "passwd:\tfiles\tteleport\tsystemd\ngroup:\tteleport\tfiles\n",
    )?;
    assert_eq!(root.host_config("disable")?, "");
    assert_eq!(
        root.read("etc/nsswitch.conf")?,
        "passwd:\tfiles\tsystemd\ngroup:\tfiles\n"
    );
    Ok(())
}

/// A file that nothing can take the place of; let go of when dropped.
struct Held(PathBuf);

impl Held {
    fn new(file: PathBuf) -> Result<Held> {
        let held = Command::new("mount")
            .arg("--bind")
            .args([&file, &file])
            .status()?;
        assert!(
            held.success(),
            "this test needs root, to mount {} on itself",
            file.display()
        );
        Ok(Held(file))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_file_that_cannot_be_replaced_stays_and_keeps_no_package_from_coming_or_going() -> Result {
    let (before, with_us) = (
        "passwd: files\ngroup: files\n",
        "passwd: files teleport\ngroup: files\n",
    );
    let root = Root::new("held", before)?;
    let held = Held::new(root.0.join("etc/nsswitch.conf"))?;
    let told = root.host_config("enable")?;
    assert!(
        told.contains("cannot be replaced")
            && told.contains("write: passwd: files teleport")
            && told.contains("write: group: files teleport"),
        "{told}"
    );
    assert_eq!(root.read("etc/nsswitch.conf")?, before);
    drop(held);
    root.host_config("disable")?;
    root.host_config("enable")?;
    root.write("etc/nsswitch.conf", with_us)?;
    let _held = Held::new(root.0.join("etc/nsswitch.conf"))?;
    let told = root.host_config("disable")?;
    assert!(
        told.contains("the line passwd") && told.contains("take the word out"),
        "{told}"
    );
    assert!(!told.contains("the line group"), "{told}");
    assert_eq!(root.read("etc/nsswitch.conf")?, with_us);
    assert_eq!(fs::read_dir(root.0.join("etc"))?.count(), 2);
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
fn a_folder_in_the_place_of_nsswitch_conf_stays_and_nothing_is_put_beside_it() -> Result {
    let root = Root::new("folder", "")?;
    fs::remove_file(root.0.join("etc/nsswitch.conf"))?;
    fs::create_dir(root.0.join("etc/nsswitch.conf"))?;
    for _ in 0..2 {
        let told = root.host_config("enable")?;
        assert!(
            told.contains("is not a file and stays")
                && told.contains("passwd: files teleport systemd"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    assert_eq!(root.host_config("disable")?, "");
    assert!(!root.exists("etc/nsswitch.conf.teleport-userdb"));
    assert_eq!(fs::read_dir(root.0.join("etc"))?.count(), 2);
    assert!(!root.exists("var/lib/teleport-userdb"));
    Ok(())
}

#[test]
fn a_folder_with_the_name_of_our_copy_is_named_and_stays() -> Result {
    let root = Root::new("in-the-way", "passwd: files\ngroup: files\n")?;
    let folder = "etc/nsswitch.conf.teleport-userdb";
    fs::create_dir(root.0.join(folder))?;
    let told = root.host_config("enable")?;
    assert!(
        told.contains(&format!("{folder} is in the way; remove it")),
        "{told}"
    );
    assert_eq!(fs::read_dir(root.0.join(folder))?.count(), 0);
    fs::remove_dir(root.0.join(folder))?;
    assert_eq!(root.host_config("enable")?, "");
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
fn a_link_that_leads_out_of_an_image_is_refused_and_nothing_is_changed() -> Result {
    let host = Root::new("of-the-host", "passwd: files\n")?;
    for (name, link) in [
        ("file", "etc/nsswitch.conf"),
        ("pam", "etc/pam.d"),
        ("etc", "etc"),
        ("notes", "var/lib/teleport-userdb"),
    ] {
        let image = Root::new(&format!("image-{name}"), "passwd: files\n")?;
        let path = image.0.join(link);
        if path.exists() {
            fs::rename(&path, image.0.join("away"))?;
        }
        std::os::unix::fs::symlink(host.0.join(link), &path)?;
        for task in ["enable", "disable"] {
            let output = image.command(task).output()?;
            assert_eq!(output.status.code(), Some(1), "{link}: {output:?}");
            let told = String::from_utf8_lossy(&output.stderr);
            for part in [link, "outside of", "chroot"] {
                assert!(told.contains(part), "{told}");
            }
        }
        assert_eq!(host.read("etc/nsswitch.conf")?, "passwd: files\n");
        assert!(!host.exists("etc/pam.d/teleport"), "{link}");
        assert!(!host.exists("var/lib/teleport-userdb"), "{link}");
    }
    Ok(())
}

#[test]
fn what_takes_the_place_of_a_file_is_on_the_disk_before() -> Result {
    let root = Root::new("synced", "passwd: files\n")?;
    // In the place of sync(1): says which files it was told of, and that they still have their other name.
    let sync = root.0.join("bin/sync");
    fs::create_dir(root.0.join("bin"))?;
    fs::write(
        &sync,
        "#!/bin/sh\n[ -s \"$1\" ] && echo \"$1\" >>\"$TELEPORT_USERDB_ROOT/synced\"\n",
    )?;
    fs::set_permissions(&sync, fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:{}", root.0.join("bin").display(), env::var("PATH")?);
    let output = root.command("enable").env("PATH", path).output()?;
    assert!(output.status.success(), "{output:?}");
    let synced = root.read("synced")?;
    for file in [
        "etc/nsswitch.conf.teleport-userdb",
        "etc/pam.d/teleport.teleport-userdb",
    ] {
        assert!(synced.lines().any(|line| line.ends_with(file)), "{synced}");
    }
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
fn a_changed_pam_file_stays_and_the_administrator_is_told_what_it_needs() -> Result {
    let root = Root::new("pam-changed", "passwd: files\ngroup: files\n")?;
    root.host_config("enable")?;
    let mine = "# mine\naccount requisite pam_teleport.so\n";
    root.write("etc/pam.d/teleport", mine)?;
    root.write("usr/lib/teleport-userdb/pam.d/teleport", "# newer\n")?;
    let told = root.host_config("enable")?;
    assert!(told.contains("compare it with"), "{told}");
    let told = root.host_config("disable")?;
    assert_eq!(root.read("etc/pam.d/teleport")?, mine);
    assert!(
        told.contains("names pam_teleport.so") && told.contains("/etc/teleport.yaml"),
        "{told}"
    );
    // Nothing is left that a later purge could take for ours.
    assert!(!root.exists("var/lib/teleport-userdb"));
    // One that does without our module is nobody's trouble.
    root.write("etc/pam.d/teleport", "account required pam_unix.so\n")?;
    assert_eq!(root.host_config("disable")?, "");
    Ok(())
}

#[test]
fn a_line_that_never_gets_to_us_is_told_with_what_to_write() -> Result {
    let good = "group: files systemd\n";
    for (nsswitch, told) in [
        // Missing.
        (good.to_owned(), "no line for passwd"),
        (String::new(), "add: group: files teleport systemd"),
        (format!("#passwd: files\n{good}"), "no line for passwd"),
        // Without a service.
        (
            format!("passwd:\n{good}"),
            "write: passwd: files teleport systemd",
        ),
        (
            "passwd: files\ngroup :   # none\n".to_owned(),
            "write: group: files teleport systemd",
        ),
        // Unreachable.
        (
            format!("passwd: files [NOTFOUND=return] sss\n{good}"),
            "put teleport before",
        ),
        (
            format!("passwd: files [!SUCCESS=return] teleport\n{good}"),
            "put teleport before",
        ),
        (
            format!("passwd: sss [success=continue notfound=return] files\n{good}"),
            "put teleport before",
        ),
    ] {
        let root = Root::new("unreachable", &nsswitch)?;
        let said = root.host_config("enable")?;
        assert!(said.contains(told), "{nsswitch:?}: {said:?}");
        // As often as the package is configured.
        assert_eq!(root.host_config("enable")?, said);
        root.host_config("disable")?;
        assert_eq!(root.read("etc/nsswitch.conf")?, nsswitch);
    }
    for fine in [
        "passwd: files [UNAVAIL=return] systemd\ngroup: files [SUCCESS=merge] systemd\n",
        "passwd : files\n group: files [success=return] systemd [NOTFOUND=return]\n",
    ] {
        let root = Root::new("reachable", fine)?;
        assert_eq!(root.host_config("enable")?, "", "{fine:?}");
    }
    Ok(())
}

#[test]
fn a_pam_file_of_somebody_else_is_never_touched() -> Result {
    let root = Root::new("pam-foreign", "passwd: files\n")?;
    root.write("etc/pam.d/teleport", "# theirs\n")?;
    for task in ["enable", "disable", "enable", "disable"] {
        root.host_config(task)?;
        assert_eq!(root.read("etc/pam.d/teleport")?, "# theirs\n", "{task}");
    }
    Ok(())
}
