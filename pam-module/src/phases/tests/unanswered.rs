//! What becomes of a login when the registry says nothing of it: users of the host get in, nobody is made.
//! The person and the journal are told why, each with what can be done.

use super::*;

/// Everything that is no answer.
fn silences() -> [Failure; 4] {
    [
        Failure::Unreachable("gone".to_owned()),
        Failure::TimedOut,
        Failure::Protocol("garbage".to_owned()),
        Failure::UnknownSession,
    ]
}

#[test]
fn a_silent_registry_lets_users_of_the_host_in() {
    for silence in silences() {
        let mut world = Script::new("alice", ALICE)
            .answer(Err(silence.clone()))
            .answer(Err(silence));
        world.known = true;
        assert_eq!(codes(&mut world), [Code::Success; 3]);
    }
}

#[test]
fn a_login_with_too_much_to_say_is_told_how_much_and_users_of_the_host_get_in() {
    let too_long = || Err(Failure::TooLong(2_000_000));
    let mut world = Script::new("alice", ALICE).answer(too_long());
    let verdict = account(&mut world, &mut None);
    assert_eq!(verdict.code, Code::AuthinfoUnavail);
    let (_, sentence) = &verdict.told[0];
    for part in [
        "alice",
        "2000000 bytes",
        "at most 1048576",
        "roles and traits",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    assert!(!sentence.contains("systemctl"), "{sentence}");

    let mut world = Script::new("alice", ALICE)
        .answer(too_long())
        .answer(too_long());
    world.known = true;
    let kept = &mut None;
    let verdict = account(&mut world, kept);
    assert_eq!(verdict.code, Code::Success);
    let (_, line) = &verdict.logged[0];
    assert!(line.contains("is not asked"), "{line}");
    assert_eq!(open_session(&mut world, kept).code, Code::Success);
}

#[test]
fn a_silent_registry_makes_nobody_and_the_sentence_says_where_to_look() {
    for silence in silences() {
        let mut world = Script::new("alice", ALICE)
            .answer(Err(silence.clone()))
            .answer(Err(silence));
        let kept = &mut None;
        let verdict = account(&mut world, kept);
        assert_eq!(verdict.code, Code::AuthinfoUnavail);
        let (style, sentence) = &verdict.told[0];
        assert_eq!(*style, Style::Error);
        for part in [
            "alice",
            "teleport-sessiond does not answer",
            "systemctl status",
        ] {
            assert!(sentence.contains(part), "{sentence}");
        }
        assert_eq!(open_session(&mut world, kept).code, Code::SessionErr);
        assert_eq!(close_session(&mut world, kept).code, Code::Success);
    }
}
