//! `teleport-userdbctl explain`: the decision, its reasons, its exit status.

use clap::Parser;
use userdb_service::cli::explain::{ExplainArgs, Node, run};
use userdb_service::cli::output::Json;
use userdb_service::cli::{GOOD, WRONG};
use userdb_service::policy::Plan;
use userdb_service::policy::config::Config;
use userdb_service::policy::decide::{Facts, Occupancy, Question};

use crate::world::{PLAIN, World, login};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ExplainArgs,
}

impl Node for World {
    fn config(&mut self) -> Result<Config, String> {
        Ok(self.config.clone())
    }

    fn occupancy(&mut self, _: &Config) -> Result<Occupancy, String> {
        Ok(self.occupancy.clone())
    }

    fn answer(&mut self, _: &Config, questions: &[Question]) -> Facts {
        let answer = |question: &Question| (question.clone(), World::answer(self, question));
        Facts {
            answers: questions.iter().map(answer).collect(),
            host: self.host.clone(),
        }
    }

    fn carry_out(&mut self, _: &Config, plan: &mut Plan) -> Result<(), String> {
        if self.occupancy.logins.contains_key(&plan.login) {
            plan.notes.push("as it is now".to_owned());
        }
        Ok(())
    }

    fn kept_out_by(&mut self, plan: &Plan) -> Result<Option<String>, String> {
        let is_kept_out = plan.login.as_str() == "stuck";
        Ok(is_kept_out.then(|| "teleport-stuck is empty".to_owned()))
    }
}

fn explain(world: &World, words: &[&str]) -> (u8, String) {
    explain_as(Json::Off, world, words)
}

fn explain_as(json: Json, world: &World, words: &[&str]) -> (u8, String) {
    let command = Command::parse_from([&["explain", "--user", "u", "--login"], words].concat());
    let (text, status) = run(&command.args, json, &mut world.clone()).unwrap();
    (status, text)
}

const ROLES: &str = "templated-groups = [\"team-*\"]\n[[role]]\nmatch = \"dev-*\"\ncreate-user = true\ngroups = [\"docker\", \"{{env.TEAMS}}\"]\n[[role]]\nmatch = \"ops\"\nsudo = true\ndeny-groups = [\"docker\"]\n";

#[test]
fn a_login_whose_old_rights_cannot_be_taken_away_is_refused_and_the_reason_is_a_step() {
    let world = World::new("[[role]]\nmatch = \"*\"\ncreate-user = true\n");
    let (status, text) = explain(&world, &["stuck", "--roles", "dev"]);
    assert_eq!(status, 1, "{text}");
    for part in [
        "refused (busy): The sudo rights of an earlier session of \"stuck\" cannot be taken away now",
        "  sudoers files: teleport-stuck is empty\n",
    ] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
    assert_eq!(explain(&world, &["other", "--roles", "dev"]).0, 0);
}

#[test]
fn a_plan_is_printed_with_the_roles_that_led_to_it() {
    let (status, text) = explain(
        &World::new(ROLES),
        &[
            "alice",
            "--roles",
            "dev-web ops",
            "--env",
            "TEAMS=team-a other",
        ],
    );
    assert_eq!(status, GOOD);
    for line in [
        "user alice is made",
        "groups       teleport-tmp team-a",
        "sudoers      alice ALL=(ALL) NOPASSWD: ALL",
        "note         No membership in other (from TEAMS): templated-groups does not list it.",
        "role: match = \"dev-*\" (config.toml:2) matches \"dev-web\": create-user = true, groups = [\"docker\", \"{{env.TEAMS}}\"]",
        "role: match = \"ops\" (config.toml:6) matches \"ops\": deny-groups = [\"docker\"], sudoers = [\"ALL=(ALL) NOPASSWD: ALL\"]",
        "deny-groups: docker is denied by \"docker\"",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
}

#[test]
fn whatever_a_role_gives_alone_is_told_of_it() {
    for key in [
        "create-user = true",
        "groups = [\"docker\"]",
        "deny-groups = [\"docker\"]",
        "sudoers = [\"ALL=(ALL) NOPASSWD: ALL\"]",
        "doas = true",
        "shell = \"/bin/sh\"",
        "home = \"none\"",
        "linger = true",
        "max-sessions = 3",
        "tasks-max = 64",
        "memory-max = 1073741824",
        "cpu-weight = 50",
        "umask = \"0027\"",
        "environment = [\"LANG=C.UTF-8\", \"EDITOR=vi\"]",
    ] {
        let config = format!(
            "[[role]]\nmatch = \"*\"\ncreate-user = true\n[[role]]\nmatch = \"one\"\n{key}\n"
        );
        let (_, text) = explain(&World::new(&config), &["alice", "--roles", "one"]);
        let told = format!("role: match = \"one\" (config.toml:4) matches \"one\": {key}\n");
        assert!(text.contains(&told), "{told:?} is missing in\n{text}");
    }
}

#[test]
fn a_rule_that_asks_for_a_password_is_told_of_to_who_asks_and_not_at_each_login() {
    let world = World::new(&format!(
        "{PLAIN}sudoers = [\"ALL=(ALL) ALL\", \"ALL=(root) NOPASSWD: /usr/bin/id\"]\n"
    ));
    let (status, text) = explain(&world, &["alice", "--roles", "x"]);
    assert_eq!(status, GOOD);
    let told = "sudoers: \"ALL=(ALL) ALL\" is of no use: it asks for a password, and the login has none; write NOPASSWD: before the commands\n";
    assert!(text.contains(told), "{text}");
    assert_eq!(text.matches("is of no use").count(), 1, "{text}");
    assert_eq!(world.plan(&login("alice", "x")).notes, [""; 0]);
}

#[test]
fn a_refusal_is_printed_with_the_sentence_the_user_sees() {
    let world = World::new(ROLES);
    let (status, text) = explain(&world, &["alice", "--roles", "ops"]);
    assert_eq!(status, WRONG);
    let sentence = world.refusal(&login("alice", "ops")).message;
    assert!(
        text.starts_with(&format!("refused (policy): {sentence}\n")),
        "{text}"
    );
    assert!(
        text.contains("match = \"dev-*\" (config.toml:2) matches none of the roles"),
        "{text}"
    );
}

#[test]
fn json_carries_the_same_for_programs() {
    let json = |words: &[&str]| {
        let world = World::new(ROLES).with_user("root", 0);
        let (status, text) = explain_as(Json::Short, &world, words);
        (
            status,
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        )
    };
    let (status, value) = json(&["alice", "--roles", "dev-a"]);
    assert_eq!(
        (status, &value["decision"], &value["plan"]["login"]),
        (0, &"grant".into(), &"alice".into())
    );
    assert!(
        value["steps"]
            .as_array()
            .is_some_and(|steps| steps.len() >= 3)
    );
    let (status, value) = json(&["alice", "--roles", "x"]);
    assert_eq!(
        (status, &value["decision"], &value["reason"]),
        (1, &"refuse".into(), &"policy".into())
    );
    let (status, value) = json(&["root", "--roles", "x"]);
    assert_eq!((status, &value["decision"]), (0, &"foreign".into()));
    let (status, value) = json(&["alice", "--roles", "x", "--service", "su"]);
    assert_eq!((status, &value["decision"]), (0, &"not-ours".into()));
}

#[test]
fn the_service_is_one_of_ours_unless_it_is_named() {
    let (status, _) = explain(
        &World::new(&format!("pam-services = [\"mine\"]\n{PLAIN}")),
        &["alice", "--roles", "x"],
    );
    assert_eq!(status, GOOD);
}

#[test]
fn hostile_arguments_come_out_escaped() {
    for words in [
        ["a\u{1b}[2J", "--roles", "dev-a"],
        ["alice", "--roles", "dev-a \u{1b}[2J"],
    ] {
        let (status, text) = explain(&World::new(ROLES), &words);
        assert_eq!(status, WRONG);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn a_variable_without_a_value_is_wrong_use() {
    let words = [
        "explain", "--user", "u", "--login", "l", "--roles", "r", "--env", "K",
    ];
    assert!(Command::try_parse_from(words).is_err_and(|error| error.exit_code() == 2));
}

#[test]
fn what_the_state_of_the_node_takes_from_a_plan_is_told_with_it() {
    let mut world = World::new(ROLES);
    let words = ["alice", "--roles", "dev-web"];
    assert!(!explain(&world, &words).1.contains("as it is now"));
    let mut request = login("alice", "dev-web");
    request
        .environment
        .insert("TELEPORT_USERNAME".to_owned(), "u".to_owned());
    let plan = world.plan(&request);
    world.open(&plan);
    assert!(
        explain(&world, &words)
            .1
            .contains("note         as it is now")
    );
}

#[test]
fn who_fails_to_answer_is_told_in_the_sentence_that_the_login_would_be_refused_with() {
    let world = World::new(ROLES).with_failing(Question::User("alice".to_owned()));
    let (status, text) = explain(&world, &["alice", "--roles", "dev-web"]);
    let sentence = world.refusal(&login("alice", "dev-web")).message;
    assert_eq!(status, WRONG);
    assert!(
        text.starts_with(&format!("refused (lookup-failed): {sentence}\n")),
        "{text}"
    );
}

#[test]
fn sudo_and_doas_by_group_are_told_with_the_line_that_they_take() {
    let role = "[[role]]\nmatch = \"*\"\ncreate-user = true\n";
    let words = ["alice", "--roles", "ops"];
    let by_group = format!("{role}sudo = true\ndoas = true\n[sudo]\nmode = \"group\"\n");
    let (status, text) = explain(&World::new(&by_group), &words);
    assert_eq!(status, GOOD);
    for part in [
        "  sudo         everything, by the group teleport-sudo\n",
        "\"%teleport-sudo ALL=(ALL) NOPASSWD: ALL\"",
        "\"permit nopass :teleport-doas as root\"",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(!text.contains("sudoers      nothing"), "{text}");
    let (_, json) = explain_as(Json::Short, &World::new(&by_group), &words);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        value["plan"]["notes"].as_array().map(Vec::len),
        Some(2),
        "{json}"
    );

    let (_, text) = explain(&World::new(&format!("{role}sudo = true\n")), &words);
    assert!(!text.contains("teleport-sudo"), "{text}");
    let none = format!("{role}[sudo]\nmode = \"group\"\n");
    let (_, text) = explain(&World::new(&none), &words);
    assert!(text.contains("  sudoers      nothing\n"), "{text}");
}

#[test]
fn sudo_that_is_withheld_is_told_with_what_visudo_says_of_it_and_not_of_a_journal() {
    let mut world = World::new(ROLES);
    for role in &mut world.config.roles {
        role.sudo_withheld = Some("sudoers \"x\": visudo refuses it: syntax error".to_owned());
    }
    let (status, text) = explain(&world, &["alice", "--roles", "dev-a ops"]);
    assert_eq!(status, GOOD);
    for role in ["dev-*", "ops"] {
        let told = format!(
            "note         No sudo by the role \"{role}\": sudoers \"x\": visudo refuses it: syntax error.\n"
        );
        assert!(text.contains(&told), "{text}");
    }
    assert!(!text.contains("journal"), "{text}");
}
