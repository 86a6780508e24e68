//! The table of cases of each phase, over a scripted outside.
//! What only libpam and a socket can show is in the tests beside the sources.

use super::*;

mod unanswered;

const ALICE: &[&str] = &["TELEPORT_LOGIN=alice", "TELEPORT_ROLES=dev"];

/// An outside that answers from a script and writes down what it was asked.
struct Script {
    user: Option<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    has_memory: bool,
    process: u32,
    answers: Vec<Result<Admission, Failure>>,
    known: bool,
    calls: Vec<String>,
    requests: Vec<LoginRequest>,
}

impl Script {
    fn new(user: &str, environment: &[&str]) -> Self {
        Self {
            user: Some(user.as_bytes().to_vec()),
            environment: environment.iter().map(|e| e.as_bytes().to_vec()).collect(),
            has_memory: true,
            process: 100,
            answers: Vec::new(),
            known: false,
            calls: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// The next answer of the registry.
    fn answer(mut self, answer: Result<Admission, Failure>) -> Self {
        self.answers.insert(0, answer);
        self
    }

    fn next_answer(&mut self) -> Result<Admission, Failure> {
        self.answers
            .pop()
            .expect("the registry is asked more often than scripted")
    }
}

impl World for Script {
    fn user(&self) -> Option<Vec<u8>> {
        self.user.clone()
    }
    fn service(&self) -> Option<Vec<u8>> {
        Some(b"teleport".to_vec())
    }
    fn environment(&self) -> Option<Vec<Vec<u8>>> {
        self.has_memory.then(|| self.environment.clone())
    }
    fn rename(&mut self, user: &str) -> bool {
        self.calls.push(format!("rename {user}"));
        self.user = Some(user.as_bytes().to_vec());
        true
    }
    fn process(&self) -> u32 {
        self.process
    }
    fn reserve(&mut self, request: &LoginRequest) -> Result<Admission, Failure> {
        self.calls.push(format!("reserve {}", request.login));
        self.requests.push(request.clone());
        self.next_answer()
    }
    fn open(
        &mut self,
        reservation: Option<&str>,
        request: &LoginRequest,
    ) -> Result<Admission, Failure> {
        let reservation = reservation.unwrap_or("-");
        self.calls
            .push(format!("open {reservation} {}", request.login));
        self.requests.push(request.clone());
        self.next_answer()
    }
    fn close(&mut self, session: &str) -> Result<(), Failure> {
        self.calls.push(format!("close {session}"));
        Ok(())
    }
    fn known_to_others(&self, _login: &str) -> bool {
        self.known
    }
}

fn admission(session: Option<&str>, user: &str) -> Admission {
    Admission {
        session: session.map(str::to_owned),
        ignored: false,
        foreign: false,
        userName: user.to_owned(),
        uid: Some(0x7000_0001),
        gid: Some(0x7000_0001),
        homeDirectory: Some("/".to_owned()),
        shell: Some("/bin/sh".to_owned()),
        messages: Vec::new(),
    }
}

fn foreign() -> Admission {
    Admission {
        foreign: true,
        ..admission(None, "alice")
    }
}

fn refused() -> Failure {
    Failure::Refused {
        reason: "policy".to_owned(),
        message: "No role makes this user.".to_owned(),
    }
}

fn codes(world: &mut Script) -> [Code; 3] {
    let kept = &mut None;
    [
        account(world, kept).code,
        open_session(world, kept).code,
        close_session(world, kept).code,
    ]
}

#[test]
fn without_teleport_login_every_phase_ignores_and_asks_nobody() {
    let mut world = Script::new("alice", &["TELEPORT_ROLES=dev", "OTHER=x"]);
    assert_eq!(codes(&mut world), [Code::Ignore; 3]);
    assert!(world.calls.is_empty());
}

#[test]
fn a_service_that_is_none_of_ours_is_ignored_and_asked_about_once() {
    let ignored = Admission {
        ignored: true,
        ..admission(None, "alice")
    };
    let mut world = Script::new("alice", ALICE).answer(Ok(ignored));
    assert_eq!(codes(&mut world), [Code::Ignore; 3]);
    assert_eq!(world.calls, ["reserve alice"]);
}

#[test]
fn a_login_that_exists_elsewhere_succeeds_and_holds_nothing() {
    let mut world = Script::new("alice", ALICE).answer(Ok(foreign()));
    assert_eq!(codes(&mut world), [Code::Success; 3]);
    assert_eq!(world.calls, ["reserve alice"]);
}

#[test]
fn an_admitted_login_is_reserved_opened_and_closed_once() {
    let mut world = Script::new("alice", ALICE)
        .answer(Ok(admission(Some("s1"), "alice")))
        .answer(Ok(admission(Some("s1"), "alice")));
    let kept = &mut None;
    let reserved = account(&mut world, kept);
    assert_eq!((reserved.code, reserved.terminal), (Code::Success, None));
    let opened = open_session(&mut world, kept);
    assert_eq!(
        (opened.code, opened.terminal),
        (Code::Success, Some(0x7000_0001))
    );
    assert_eq!(close_session(&mut world, kept).code, Code::Success);
    assert_eq!(close_session(&mut world, kept).code, Code::Success);
    let kept = kept.as_mut().expect("something is kept");
    transaction_over(&mut world, kept);
    assert_eq!(world.calls, ["reserve alice", "open s1 alice", "close s1"]);
}

#[test]
fn a_second_account_or_open_asks_nobody() {
    let mut world = Script::new("alice", ALICE)
        .answer(Ok(admission(Some("s1"), "alice")))
        .answer(Ok(admission(Some("s1"), "alice")));
    let kept = &mut None;
    for phase in [account, account, open_session, open_session, account] {
        assert_eq!(phase(&mut world, kept).code, Code::Success);
    }
    assert_eq!(world.calls, ["reserve alice", "open s1 alice"]);
}

#[test]
fn without_an_account_phase_the_session_phase_ignores_and_asks_nobody() {
    let mut world = Script::new("alice", ALICE).answer(Ok(admission(Some("s1"), "alice")));
    let kept = &mut None;
    assert_eq!(open_session(&mut world, kept).code, Code::Ignore);
    assert_eq!(close_session(&mut world, kept).code, Code::Ignore);
    assert!(kept.is_none() && world.calls.is_empty());
    // The account phase may still come, and is the one that reads.
    assert_eq!(account(&mut world, kept).code, Code::Success);
    assert_eq!(world.requests[0].environment["TELEPORT_ROLES"], "dev");
    assert_eq!(world.requests[0].service, "teleport");
}

#[test]
fn a_refusal_is_told_in_its_sentence_and_close_succeeds() {
    let mut world = Script::new("alice", ALICE)
        .answer(Err(refused()))
        .answer(Err(refused()));
    let kept = &mut None;
    let verdict = account(&mut world, kept);
    assert_eq!(verdict.code, Code::PermDenied);
    let sentence = "No role makes this user.".to_owned();
    assert_eq!(verdict.told, [(Style::Error, sentence)]);
    assert_eq!(open_session(&mut world, kept).code, Code::SessionErr);
    assert_eq!(close_session(&mut world, kept).code, Code::Success);
}

#[test]
fn a_caller_that_is_not_admitted_is_refused_even_for_a_user_of_the_host() {
    let not_admitted = || Failure::NotAdmitted {
        message: "Not you.".to_owned(),
    };
    let mut world = Script::new("alice", ALICE)
        .answer(Err(not_admitted()))
        .answer(Err(not_admitted()));
    world.known = true;
    assert_eq!(
        codes(&mut world),
        [Code::PermDenied, Code::SessionErr, Code::Success]
    );
}

#[test]
fn another_pam_user_than_the_teleport_login_is_refused_whatever_the_registry_says() {
    let held = || Ok(admission(Some("s1"), "alice"));
    let silence = || Err(Failure::TimedOut);
    for user in ["root", "Alice", "alice ", ""] {
        for (answer, calls) in [
            (Err(refused()), 1),
            (silence(), 1),
            (Ok(foreign()), 1),
            // Given by a registry that has not compared the two: not kept.
            (held(), 2),
        ] {
            let mut world = Script::new(user, ALICE).answer(answer);
            world.known = true;
            assert_eq!(
                codes(&mut world),
                [Code::PermDenied, Code::SessionErr, Code::Success],
                "{user:?}"
            );
            assert_eq!(world.calls.len(), calls, "{:?}", world.calls);
            assert_eq!(world.calls[0], format!("reserve {user}"));
            assert_eq!(world.requests[0].environment["TELEPORT_LOGIN"], "alice");
        }
    }
    let mut nobody_named = Script::new("alice", ALICE).answer(silence());
    nobody_named.user = None;
    assert_eq!(account(&mut nobody_named, &mut None).code, Code::PermDenied);
}

#[test]
fn another_pam_user_in_a_service_that_is_none_of_ours_is_left_alone() {
    let ignored = Admission {
        ignored: true,
        ..admission(None, "")
    };
    let mut world = Script::new("root", ALICE).answer(Ok(ignored));
    assert_eq!(codes(&mut world), [Code::Ignore; 3]);
    assert_eq!(world.calls, ["reserve root"]);
}

#[test]
fn a_login_that_is_not_utf8_is_refused_whatever_the_registry_says() {
    let mut world = Script::new("alice", &[]).answer(Ok(foreign()));
    world.user = Some(b"al\xffce".to_vec());
    world.environment = vec![b"TELEPORT_LOGIN=al\xffce".to_vec()];
    assert_eq!(
        codes(&mut world),
        [Code::PermDenied, Code::SessionErr, Code::Success]
    );
    assert_eq!(world.requests[0].undecodable, ["TELEPORT_LOGIN"]);
}

#[test]
fn an_environment_that_cannot_be_read_is_not_taken_for_somebody_elses_login() {
    let mut world = Script::new("alice", ALICE);
    world.has_memory = false;
    assert_eq!(
        codes(&mut world),
        [Code::BufErr, Code::SessionErr, Code::Success]
    );
    assert!(world.calls.is_empty(), "{:?}", world.calls);
}

#[test]
fn a_variable_that_is_not_utf8_is_named_and_left_out() {
    let mut world = Script::new("alice", ALICE).answer(Ok(admission(Some("s1"), "alice")));
    world.environment.push(b"ODD=\xff\xfe".to_vec());
    world.environment.push(b"EMPTY=".to_vec());
    world.environment.push(b"SUM=a=b".to_vec());
    account(&mut world, &mut None);
    let request = &world.requests[0];
    assert_eq!(request.undecodable, ["ODD"]);
    assert!(!request.environment.contains_key("ODD"));
    assert_eq!(request.environment["EMPTY"], "");
    assert_eq!(request.environment["SUM"], "a=b");
}

#[test]
fn an_admission_without_a_session_or_a_reason_is_no_answer() {
    for odd in [admission(None, "alice"), admission(Some("s1"), "")] {
        let mut world = Script::new("alice", ALICE).answer(Ok(odd));
        assert_eq!(account(&mut world, &mut None).code, Code::AuthinfoUnavail);
    }
}

#[test]
fn the_environment_of_the_first_phase_counts() {
    let mut world = Script::new("alice", ALICE)
        .answer(Ok(admission(Some("s1"), "alice")))
        .answer(Ok(admission(Some("s1"), "alice")));
    let kept = &mut None;
    account(&mut world, kept);
    world.environment = vec![
        b"TELEPORT_LOGIN=root".to_vec(),
        b"TELEPORT_ROLES=admin".to_vec(),
    ];
    assert_eq!(open_session(&mut world, kept).code, Code::Success);
    assert_eq!(world.requests[0], world.requests[1]);

    let mut later = Script::new("alice", &[]);
    let kept = &mut None;
    assert_eq!(account(&mut later, kept).code, Code::Ignore);
    later.environment = vec![b"TELEPORT_LOGIN=alice".to_vec()];
    assert_eq!(open_session(&mut later, kept).code, Code::Ignore);
}

#[test]
fn a_pam_user_that_another_module_changes_is_refused() {
    for first in [
        Ok(admission(Some("s1"), "alice")),
        Ok(foreign()),
        Err(Failure::TimedOut),
    ] {
        let mut world = Script::new("alice", ALICE).answer(first);
        world.known = true;
        let kept = &mut None;
        assert_eq!(account(&mut world, kept).code, Code::Success);
        world.user = Some(b"root".to_vec());
        assert_eq!(open_session(&mut world, kept).code, Code::SessionErr);
    }
}

#[test]
fn a_repaired_name_becomes_the_pam_user_and_is_what_open_expects() {
    let mut world = Script::new("Bob", &["TELEPORT_LOGIN=Bob"])
        .answer(Ok(admission(Some("s1"), "bob")))
        .answer(Ok(admission(Some("s1"), "bob")));
    let kept = &mut None;
    assert_eq!(account(&mut world, kept).code, Code::Success);
    assert_eq!(open_session(&mut world, kept).code, Code::Success);
    assert_eq!(world.calls, ["reserve Bob", "rename bob", "open s1 Bob"]);

    // Somebody who sets the given spelling again is somebody who changes the user.
    world.user = Some(b"Bob".to_vec());
    assert_eq!(account(&mut world, kept).code, Code::PermDenied);
}

#[test]
fn a_message_is_told_once_in_a_transaction() {
    let with = |messages: &[&str]| Admission {
        messages: messages.iter().map(|m| (*m).to_owned()).collect(),
        ..admission(Some("s1"), "alice")
    };
    let mut world = Script::new("alice", ALICE)
        .answer(Ok(with(&["No sudo."])))
        .answer(Ok(with(&["No sudo.", "No home."])));
    let kept = &mut None;
    assert_eq!(
        account(&mut world, kept).told,
        [(Style::Info, "No sudo.".to_owned())]
    );
    assert_eq!(
        open_session(&mut world, kept).told,
        [(Style::Info, "No home.".to_owned())]
    );
}

#[test]
fn a_message_that_nobody_has_heard_is_told_in_the_next_phase() {
    let with = |messages: &[&str]| Admission {
        messages: messages.iter().map(|m| (*m).to_owned()).collect(),
        ..admission(Some("s1"), "alice")
    };
    let mut world = Script::new("alice", ALICE)
        .answer(Ok(with(&["No sudo."])))
        .answer(Ok(with(&["No home."])));
    let kept = &mut None;
    let verdict = account(&mut world, kept);
    let silent = kept.as_mut().expect("something is kept");
    silent.was_silent(&verdict);
    let told = open_session(&mut world, kept).told;
    let told: Vec<&str> = told.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(told, ["No sudo.", "No home."]);
}

#[test]
fn the_end_of_the_transaction_ends_what_is_held_but_not_in_another_process() {
    for (process, calls) in [
        (100, &["reserve alice", "close s1"][..]),
        (101, &["reserve alice"]),
    ] {
        let mut world = Script::new("alice", ALICE).answer(Ok(admission(Some("s1"), "alice")));
        let kept = &mut None;
        account(&mut world, kept);
        world.process = process;
        transaction_over(&mut world, kept.as_mut().expect("something is kept"));
        assert_eq!(world.calls, calls);
    }
}

#[test]
fn a_reservation_whose_open_fails_ends_with_the_transaction() {
    for failure in [refused(), Failure::TimedOut] {
        let mut world = Script::new("alice", ALICE)
            .answer(Ok(admission(Some("s1"), "alice")))
            .answer(Err(failure));
        let kept = &mut None;
        account(&mut world, kept);
        assert_eq!(open_session(&mut world, kept).code, Code::SessionErr);
        transaction_over(&mut world, kept.as_mut().expect("something is kept"));
        assert_eq!(world.calls, ["reserve alice", "open s1 alice", "close s1"]);
    }
}

#[test]
fn a_reservation_that_has_ended_meanwhile_is_made_anew() {
    let mut world = Script::new("alice", ALICE)
        .answer(Ok(admission(Some("s1"), "alice")))
        .answer(Ok(admission(Some("s2"), "alice")));
    let kept = &mut None;
    account(&mut world, kept);
    assert_eq!(open_session(&mut world, kept).code, Code::Success);
    close_session(&mut world, kept);
    assert_eq!(world.calls, ["reserve alice", "open s1 alice", "close s2"]);
}

#[test]
fn a_session_can_be_opened_again_after_it_was_closed() {
    let mut world = Script::new("alice", ALICE)
        .answer(Ok(admission(Some("s1"), "alice")))
        .answer(Ok(admission(Some("s1"), "alice")))
        .answer(Ok(admission(Some("s2"), "alice")));
    let kept = &mut None;
    account(&mut world, kept);
    open_session(&mut world, kept);
    close_session(&mut world, kept);
    assert_eq!(open_session(&mut world, kept).code, Code::Success);
    assert_eq!(
        world.calls,
        ["reserve alice", "open s1 alice", "close s1", "open - alice"]
    );
}
