//! A home that is hard to get rid of: very many files and links, locked and deep folders, and somebody who goes on
//! rearranging it while it is renamed away and emptied. Nobody waits for that, and nothing but the home goes.

use std::time::{Duration, Instant};

use rig::{Etc, node_alone};

use crate::{BASE, IN_THE_END, bob, ends};

/// Fills the home it runs in and opens a part of it to everybody.
const FILL: &str = r#"
    chmod 0777, ".";
    for my $d (1..200) {
        mkdir "d$d";
        for (1..1000) { open my $f, ">", "d$d/f$_" }
        for (1..100) { symlink "/srv/precious", "d$d/s$_"; symlink "/etc", "d$d/e$_"; link "d$d/f$_", "d$d/h$_" }
        chmod 0, "d$d" if $d % 2;
    }
    mkdir "open"; chmod 0777, "open";
    mkdir "deep"; chdir "deep"; for (1..3000) { mkdir "n"; chdir "n" }
    print "filled";
"#;

/// Stands in the open part and makes, links and renames there for as long as it can.
const RACE: &str = r#"
    chdir "HOME/open" or die "HOME/open: $!";
    for (my $i = 0; ; $i = ($i + 1) % 500) {
        mkdir "x$i"; symlink "/etc", "x$i/l"; symlink "/srv", "l$i"; open my $f, ">", "f$i";
        rename "l$i", "x$i/y"; rename "x$i", "z$i"; symlink "/srv/precious", "x$i"; rename "z$i", "../z$i";
        rmdir "../d$i"; symlink "/srv", "../d$i"; unlink "x$i";
    }
"#;

#[test]
fn a_home_of_very_many_files_goes_while_somebody_rearranges_it() {
    drop(crate::node());
    let node = node_alone();
    node.sh("mkdir -p /srv && echo kept >/srv/precious && chmod 0777 /srv")
        .must();
    let etc = Etc::of(&node);
    let mut session = node
        .login("rosa")
        .hold("open")
        .hold("close")
        .command(&format!("perl -e '{FILL}'"))
        .start();
    session.reach("open");
    let uid = crate::uid(&node, "rosa");
    session.go_on();
    session.reach("close");
    let race = RACE.replace("HOME", &format!("{BASE}/rosa"));
    // One of the user's own, and one of somebody whom nobody ends.
    for who in [uid.as_str(), "4242"] {
        node.sh(&format!(
            "setsid -f setpriv --reuid={who} --regid={who} --clear-groups perl -e '{race}' </dev/null >/dev/null 2>/var/tmp/race.{who}"
        ))
        .must();
    }
    let racing =
        format!("pgrep -u {uid} -x perl && pgrep -u 4242 -x perl || ! cat /var/tmp/race.* >&2");
    node.within(Duration::from_secs(30), "both race", |node| {
        let looked = node.sh(&racing);
        assert_eq!(looked.stderr, "", "one of them has ended");
        looked.succeeded()
    });
    std::thread::sleep(Duration::from_millis(500));
    let closed = Instant::now();
    assert_eq!(session.finish().must_write(), "filled");
    ends(&node, "rosa", &uid, closed, IN_THE_END);
    // For Bob it is thrown away.
    let next = bob(&node, "rosa", "dev", "pwd; ls");
    assert_eq!(next.must_write(), format!("{BASE}/rosa"));
    let trash = format!("ls -A {BASE}/.trash | grep -q .");
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    while node.sh(&trash).succeeded() {
        assert!(began.elapsed() < Duration::from_secs(180), "not emptied");
        let other = node.login("bystander").command("true").run();
        other.ran.must();
        slowest = slowest.max(other.ran.elapsed);
    }
    println!(
        "emptied after {:.1?}; slowest login meanwhile {slowest:.1?}",
        began.elapsed()
    );
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    assert!(node.run(&["pkill", "-KILL", "-u", "4242"]).succeeded());
    assert_eq!(node.sh("cat /srv/precious").must(), "kept");
    etc.must_equal(&Etc::of(&node));
}
