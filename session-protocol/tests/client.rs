//! The client against sockets that behave well, badly and not at all. Needs root, as the registry does.
//! Answers are written here byte by byte: the varlink crate's own server would not misbehave.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use session_protocol::client::{CALL_LIMIT, Failure, LoginRequest, Registry};

const TIMEOUT: Duration = Duration::from_millis(400);

const ADMITTED: &str = r#"{"parameters":{"admission":{"session":"s1","ignored":false,"foreign":false,
"userName":"alice","uid":1879048193,"gid":1879048193,"homeDirectory":"/","shell":"/bin/sh","messages":["hello"]}}}"#;

/// A socket in a folder of its own, and a thread that serves one connection with `serve`.
struct Server {
    folder: PathBuf,
    socket: PathBuf,
}

impl Server {
    fn new(serve: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let server = Self::without_thread();
        let listener = UnixListener::bind(&server.socket).expect("bind the test socket");
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("accept the client");
            serve(stream);
        });
        server
    }

    fn without_thread() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root: the client talks only to a socket that is root's"
        );
        let name = thread::current().name().unwrap_or("main").to_owned();
        let folder =
            std::env::temp_dir().join(format!("sessions-client-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("make the test folder");
        let socket = folder.join("s");
        Self { folder, socket }
    }

    fn registry(&self) -> Registry {
        Registry::at(&self.socket, TIMEOUT)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Reads one message, without its NUL.
fn call(stream: &mut UnixStream) -> String {
    let mut message = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("read the call") == 1 && byte[0] != 0 {
        message.push(byte[0]);
    }
    String::from_utf8(message).expect("a call is UTF-8")
}

fn answering(answer: &str) -> Server {
    answering_raw(&format!("{answer}\0"))
}

fn answering_raw(answer: &str) -> Server {
    let answer = answer.to_owned();
    Server::new(move |mut stream| {
        call(&mut stream);
        stream
            .write_all(answer.as_bytes())
            .expect("write the answer");
    })
}

fn request() -> LoginRequest {
    LoginRequest {
        login: "alice".to_owned(),
        service: "teleport".to_owned(),
        environment: [("TELEPORT_ROLES".to_owned(), "a b".to_owned())].into(),
        undecodable: vec!["ODD".to_owned()],
    }
}

#[test]
fn an_admission_arrives_and_the_call_says_what_was_asked() {
    let (said, heard) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        said.send(call(&mut stream)).expect("pass the call on");
        stream
            .write_all(format!("{ADMITTED}\0").as_bytes())
            .expect("write the answer");
    });
    let admission = server.registry().reserve(&request()).expect("admitted");
    assert_eq!(admission.session.as_deref(), Some("s1"));
    assert_eq!(admission.messages, ["hello"]);
    let call = heard.recv().expect("a call");
    for part in [
        "com.goteleport.Sessions.Reserve",
        r#""login":"alice""#,
        r#""service":"teleport""#,
        r#""TELEPORT_ROLES":"a b""#,
        r#""undecodable":["ODD"]"#,
    ] {
        assert!(call.contains(part), "{call} lacks {part}");
    }
}

#[test]
fn a_refusal_keeps_its_word_and_its_sentence() {
    let server = answering(
        r#"{"error":"com.goteleport.Sessions.Refused","parameters":{"reason":"policy","message":"No."}}"#,
    );
    let refused = Failure::Refused {
        reason: "policy".to_owned(),
        message: "No.".to_owned(),
    };
    assert_eq!(server.registry().open(None, &request()), Err(refused));
}

#[test]
fn an_unknown_session_is_told_from_every_other_failure() {
    let server = answering(
        r#"{"error":"com.goteleport.Sessions.UnknownSession","parameters":{"session":"s1"}}"#,
    );
    assert_eq!(server.registry().close("s1"), Err(Failure::UnknownSession));
}

#[test]
fn a_sentence_said_before_hanging_up_is_heard() {
    let server = Server::new(|mut stream| {
        let answer = r#"{"error":"com.goteleport.Sessions.NotAdmitted","parameters":{"message":"Not you."}}"#;
        stream
            .write_all(format!("{answer}\0").as_bytes())
            .expect("write the answer");
    });
    let message = "Not you.".to_owned();
    assert_eq!(
        server.registry().list(),
        Err(Failure::NotAdmitted { message })
    );
}

#[test]
fn a_missing_socket_and_one_without_listener_are_unreachable() {
    let server = Server::without_thread();
    assert!(matches!(
        server.registry().close("s1"),
        Err(Failure::Unreachable(_))
    ));
    drop(UnixListener::bind(&server.socket).expect("bind the test socket"));
    assert!(matches!(
        server.registry().close("s1"),
        Err(Failure::Unreachable(_))
    ));
}

#[test]
fn a_server_that_never_answers_costs_the_timeout_and_no_more() {
    let server = Server::new(|stream| {
        thread::sleep(TIMEOUT * 4);
        drop(stream);
    });
    let began = Instant::now();
    assert_eq!(server.registry().close("s1"), Err(Failure::TimedOut));
    assert!((TIMEOUT..TIMEOUT * 4).contains(&began.elapsed()));
}

#[test]
fn a_server_that_dribbles_does_not_prolong_the_call() {
    let server = Server::new(|mut stream| {
        while stream.write_all(b" ").is_ok() {
            thread::sleep(TIMEOUT / 8);
        }
    });
    let began = Instant::now();
    assert_eq!(server.registry().close("s1"), Err(Failure::TimedOut));
    assert!(began.elapsed() < TIMEOUT * 4);
}

#[test]
fn a_full_queue_is_waited_for_until_the_deadline() {
    let server = Server::without_thread();
    let listener = UnixListener::bind(&server.socket).expect("bind the test socket");
    rustix::net::listen(&listener, 0).expect("shorten the queue");
    let _queued = UnixStream::connect(&server.socket).expect("fill the queue");
    let began = Instant::now();
    assert_eq!(server.registry().close("s1"), Err(Failure::TimedOut));
    assert!((TIMEOUT..TIMEOUT * 4).contains(&began.elapsed()));

    // Room that comes in time is used.
    let accepting = thread::spawn(move || {
        thread::sleep(TIMEOUT / 4);
        let _first = listener.accept().expect("accept the one in the queue");
        let (mut second, _) = listener.accept().expect("accept the client");
        call(&mut second);
        second
            .write_all(b"{\"parameters\":{}}\0")
            .expect("write the answer");
    });
    assert_eq!(server.registry().close("s1"), Ok(()));
    accepting.join().expect("the accepting thread");
}

#[test]
fn an_endless_answer_is_cut_off() {
    let server = Server::new(|mut stream| while stream.write_all(&[b'x'; 65536]).is_ok() {});
    match server.registry().close("s1") {
        Err(Failure::Protocol(why)) => assert!(why.contains("larger than"), "{why}"),
        other => panic!("expected a protocol failure, got {other:?}"),
    }
}

/// The registry hangs up on it without a word.
#[test]
fn a_call_that_is_too_long_is_not_made_and_says_how_long_it_is() {
    let server = Server::without_thread();
    let mut request = request();
    let long = "x".repeat(CALL_LIMIT);
    request
        .environment
        .insert("TELEPORT_TRAIT".to_owned(), long);
    match server.registry().reserve(&request) {
        Err(failure @ Failure::TooLong(bytes)) => {
            assert!((CALL_LIMIT + 1..CALL_LIMIT + 1000).contains(&bytes));
            assert!(failure.to_string().contains(&bytes.to_string()));
        }
        other => panic!("expected a call that is too long, got {other:?}"),
    }
}

#[test]
fn half_an_answer_is_none() {
    let server = answering_raw("{\"parameters\":");
    assert!(matches!(
        server.registry().close("s1"),
        Err(Failure::Unreachable(_))
    ));
}

#[test]
fn an_answer_that_is_not_json_is_a_protocol_failure() {
    let server = answering("not json");
    assert!(matches!(
        server.registry().close("s1"),
        Err(Failure::Protocol(_))
    ));
}

#[test]
fn an_answer_of_another_shape_is_a_protocol_failure() {
    let server = answering(r#"{"parameters":{"admission":7}}"#);
    assert!(matches!(
        server.registry().reserve(&request()),
        Err(Failure::Protocol(_))
    ));
}

#[test]
fn a_socket_that_is_not_roots_is_not_believed() {
    let server = Server::without_thread();
    let socket = server.socket.clone();
    let (ready, wait) = mpsc::channel();
    thread::spawn(move || {
        let listener = UnixListener::bind(&socket).expect("bind the test socket");
        // The raw system call changes this thread alone; listen() records its owner for SO_PEERCRED.
        // SAFETY: no pointer is passed; the thread ends with the test.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(changed, 0, "become nobody");
        rustix::net::listen(&listener, 5).expect("listen as nobody");
        ready.send(()).expect("say that it listens");
        let _client = listener.accept();
    });
    wait.recv().expect("the listener");
    match server.registry().reserve(&request()) {
        Err(Failure::Unreachable(why)) => assert!(why.contains("65534"), "{why}"),
        other => panic!("expected unreachable, got {other:?}"),
    }
}

#[test]
fn a_login_that_was_hung_up_on_is_asked_for_again_under_the_same_handle() {
    let server = Server::without_thread();
    let listener = UnixListener::bind(&server.socket).expect("bind the test socket");
    let (said, heard) = mpsc::channel();
    thread::spawn(move || {
        for tried in 0..3 {
            let (mut stream, _) = listener.accept().expect("accept the client");
            said.send(call(&mut stream)).expect("pass the call on");
            let answer = format!("{ADMITTED}\0");
            // Hangs up with nothing said, with half a reply, and at last not at all.
            let length = [0, 40, answer.len()][tried];
            let answered = stream.write_all(&answer.as_bytes()[..length]);
            answered.expect("write the answer");
        }
    });
    server.registry().reserve(&request()).expect("admitted");
    let calls: Vec<String> = heard.try_iter().collect();
    let handles: Vec<String> = calls
        .iter()
        .map(|call| {
            let from = call.find(r#""session":""#).expect("a handle") + 11;
            call[from..from + 36].to_owned()
        })
        .collect();
    assert_eq!(handles.len(), 3, "{calls:?}");
    assert!(
        handles.iter().all(|handle| *handle == handles[0]),
        "{handles:?}"
    );
    assert_eq!(&handles[0][14..15], "4", "a random UUID: {handles:?}");
}

#[test]
fn the_connection_ends_with_the_call() {
    let (said, heard) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        call(&mut stream);
        stream
            .write_all(format!("{ADMITTED}\0").as_bytes())
            .expect("write the answer");
        // An empty message is the end of the stream.
        said.send(call(&mut stream)).expect("pass the end on");
    });
    let registry = server.registry();
    registry.reserve(&request()).expect("admitted");
    let end = heard.recv_timeout(TIMEOUT).expect("the connection to end");
    assert_eq!(end, "");
}

#[test]
fn who_has_to_wait_for_others_asks_again_with_the_same_handle_until_it_is_decided() {
    let server = Server::without_thread();
    let listener = UnixListener::bind(&server.socket).expect("bind the test socket");
    let (said, heard) = mpsc::channel();
    thread::spawn(move || {
        let waiting = r#"{"error":"com.goteleport.Sessions.Refused","parameters":{"reason":"waiting","message":"Wait."}}"#;
        for answer in [waiting, waiting, ADMITTED] {
            let (mut stream, _) = listener.accept().expect("accept the client");
            said.send(call(&mut stream)).expect("pass the call on");
            // Together longer than one call may take.
            thread::sleep(TIMEOUT * 2 / 3);
            let answer = format!("{answer}\0");
            stream
                .write_all(answer.as_bytes())
                .expect("write the answer");
        }
    });
    let admission = server.registry().reserve(&request()).expect("admitted");
    assert_eq!(admission.session.as_deref(), Some("s1"));
    let calls: Vec<serde_json::Value> = heard
        .iter()
        .map(|call| serde_json::from_str(&call).expect("a call is JSON"))
        .collect();
    assert_eq!(calls.len(), 3);
    let handle = &calls[0]["parameters"]["session"];
    assert!(handle.is_string());
    assert!(
        calls
            .iter()
            .all(|call| call["parameters"]["session"] == *handle)
    );
}
