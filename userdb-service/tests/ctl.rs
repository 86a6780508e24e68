//! The command line of `teleport-userdbctl` as it is run: options, exit statuses, help and manual page.
//! What it finds on a node is tested on a booted one.

use std::process::{Command, Output};

use clap::ArgAction;
use userdb_service::cli::definition;

fn ctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_teleport-userdbctl"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2_and_says_why() {
    for (arguments, naming) in [
        (&[][..], "Usage"),
        (&["lst"], "list"),
        (&["list", "--no-such-option"], "--no-such-option"),
        (&["list", "--json=xml"], "pretty"),
        (&["list", "extra"], "extra"),
        (&["explain", "--user", "u"], "--login"),
        (
            &[
                "explain", "--user", "u", "--login", "l", "--roles", "r", "--env", "K",
            ],
            "NAME=VALUE",
        ),
    ] {
        let ended = ctl(arguments);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
        assert!(ended.stdout.is_empty(), "{arguments:?}");
        let told = text(&ended.stderr);
        assert!(told.contains(naming), "{arguments:?}: {told}");
    }
}

#[test]
fn json_without_a_mode_is_one_line() {
    for arguments in [
        &["check", "--json"][..],
        &["check", "--json", "--no-legend"],
        &["check", "--json=short"],
        // What follows is no mode: the manual page allows options before the command.
        &["--json", "check"],
        &["--json=short", "check"],
    ] {
        let told = text(&ctl(arguments).stdout);
        assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
        assert!(serde_json::from_str::<serde_json::Value>(&told).is_ok());
    }
}

#[test]
fn help_and_version_go_to_standard_output_and_end_with_0() {
    for (arguments, naming) in [
        (&["--help"][..], "explain"),
        (&["explain", "--help"], "--roles"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let ended = ctl(arguments);
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
        assert!(text(&ended.stdout).contains(naming), "{arguments:?}");
    }
}

#[test]
fn control_characters_in_arguments_do_not_reach_the_terminal() {
    for arguments in [
        &["list", "--\u{1b}[2Jx"][..],
        &["\u{9b}2J"],
        &["list", "--json=\u{1b}]0;x\u{7}"],
    ] {
        let told = text(&ctl(arguments).stderr);
        let acts = |c: char| c.is_control() && c != '\n';
        assert!(!told.contains(acts), "{told:?}");
    }
}

#[test]
fn every_option_stands_in_the_help_and_in_the_manual_page() {
    let page = include_str!("../../docs/man/teleport-userdbctl.1").replace("\\-", "-");
    let mut command = definition();
    command.build();
    let mut options = 0;
    for (path, mut command) in std::iter::once((Vec::new(), command.clone())).chain(
        command
            .get_subcommands()
            .map(|sub| (vec![sub.get_name().to_owned()], sub.clone())),
    ) {
        for word in &path {
            assert!(
                page.contains(&format!("\n.B {word}\n")),
                "the manual page lacks {word}"
            );
        }
        let help = command.render_long_help().to_string();
        for argument in command.get_arguments() {
            let long = argument.get_long().expect("options have long names");
            assert!(help.contains(&format!("--{long}")), "{path:?} {long}");
            assert!(page.contains(&format!("--{long}")), "{path:?} {long}");
            let told = argument.get_help().is_some()
                || matches!(argument.get_action(), ArgAction::Help | ArgAction::Version);
            assert!(told, "{path:?} --{long} has no help");
            options += 1;
        }
    }
    assert!(options >= 9, "only {options} options were looked at");
}
