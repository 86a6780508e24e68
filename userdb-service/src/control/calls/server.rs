//! The varlink service `com.goteleport.Sessions`: from calls to the daemon and back.
//!
//! Who calls is what the kernel says of the connection; nothing of it is taken from a message.

use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use session_protocol::client::CALL_LIMIT;
use session_protocol::sessions::{
    Admission, Close_Args, List_Args, List_Reply, NotAdmitted_Args, Open_Args, Open_Reply,
    Refused_Args, Reserve_Args, Reserve_Reply, Session, UnknownSession_Args,
};
use tracing::warn;

use crate::control::calls::admission;
use crate::control::calls::arrivals::Reception;
use crate::control::daemon::Daemon;
use crate::control::daemon::messages;
use crate::control::host::clock::Boottime;
use crate::control::leader::Leader;
use crate::control::registry::{self, SessionId, State};
use crate::policy::{LoginRequest, Plan};
use crate::runtime::peer::Peer;
use crate::runtime::stop::Stop;
use crate::runtime::transport::{
    self, Asker, Call, Disconnect, Interface, InvalidParameter, Limits, Replies, Service,
};

/// How long a login may wait at most for answers of others and the end of what an earlier user left.
const PATIENCE: Duration = Duration::from_secs(30);

const REFUSED: &str = "com.goteleport.Sessions.Refused";
const UNKNOWN_SESSION: &str = "com.goteleport.Sessions.UnknownSession";
const NOT_ADMITTED: &str = "com.goteleport.Sessions.NotAdmitted";

pub(in crate::control) async fn serve(
    daemon: Rc<Daemon>,
    listener: UnixListener,
    stop: Stop,
) -> std::io::Result<()> {
    let limits = Limits {
        message: CALL_LIMIT,
        pidfd: true,
        brief: true,
        ..Limits::default()
    };
    transport::serve(listener, limits, Rc::new(Sessions(daemon)), stop).await
}

#[derive(Debug)]
struct Sessions(Rc<Daemon>);

/// A caller that is believed, as the process whose life its sessions share.
type Caller = Rc<Leader>;

impl Service for Sessions {
    const PRODUCT: &'static str = "teleport-sessiond";
    const INTERFACES: &'static [Interface] = &[Interface {
        name: "com.goteleport.Sessions",
        description: session_protocol::INTERFACE,
    }];

    async fn call(
        &self,
        asker: Asker<'_>,
        call: Call<'_>,
        replies: &mut Replies<'_>,
    ) -> Result<(), Disconnect> {
        let peer = asker.peer()?;
        let asked = Asked::of(&call);
        let caller = match self.caller(peer, asked.session()) {
            Ok(leader) => leader,
            Err(message) => {
                warn!(
                    MESSAGE_ID = messages::NOT_ADMITTED,
                    TELEPORT_PEER_UID = peer.uid,
                    TELEPORT_PEER_PID = peer.pid,
                    "caller not admitted: {message}"
                );
                return replies
                    .error(NOT_ADMITTED, NotAdmitted_Args { message })
                    .await;
            }
        };
        match asked {
            Asked::Reserve(args) => answer(self.reserve(args, caller).await, replies).await,
            Asked::Open(args) => answer(self.open(args, caller).await, replies).await,
            Asked::Close(Close_Args { session }) => match self.close(&session, &caller).await {
                true => replies.reply(serde_json::json!({})).await,
                false => {
                    let unknown = UnknownSession_Args { session };
                    replies.error(UNKNOWN_SESSION, unknown).await
                }
            },
            Asked::List => replies.reply(self.list()).await,
            Asked::Wrong(which) => replies.invalid_parameter(&which).await,
            Asked::Unknown => replies.method_not_found(&call).await,
        }
    }
}

/// What a call asks for.
enum Asked {
    Reserve(Reserve_Args),
    Open(Open_Args),
    Close(Close_Args),
    List,
    /// With a parameter that is none.
    Wrong(InvalidParameter),
    /// No method of ours.
    Unknown,
}

impl Asked {
    fn of(call: &Call<'_>) -> Self {
        let asked = match call.name() {
            "Reserve" => call.arguments().map(Asked::Reserve),
            "Open" => call.arguments().map(Asked::Open),
            "Close" => call.arguments().map(Asked::Close),
            "List" => call.arguments().map(|List_Args {}| Asked::List),
            _ => Ok(Asked::Unknown),
        };
        asked.unwrap_or_else(Asked::Wrong)
    }

    /// The session that is to be opened or closed, if it has been named.
    fn session(&self) -> Option<SessionId> {
        let handle = match self {
            Asked::Open(args) => args.session.as_ref()?,
            Asked::Close(args) => &args.session,
            _ => return None,
        };
        handle.parse().ok()
    }
}

impl Sessions {
    /// The caller, if it is root of the host. Who asks about a `session` of his own is known: he was looked at when he was given it,
    /// by the same kernel.
    fn caller(&self, peer: &Peer, session: Option<SessionId>) -> Result<Caller, String> {
        if let (0, Some(pidfd), Some(id)) = (peer.uid, &peer.pidfd, session)
            && let Some(leader) = self.0.leaders.borrow().get(&id)
            && leader.is_behind(pidfd)
        {
            return Ok(leader.clone());
        }
        admission::admit(peer.uid, peer.pid, peer.pidfd.as_deref())
            .map_err(|error| error.to_string())?;
        let pid = peer.pid.unwrap_or_default();
        let leader = Leader::of_peer(pid, peer.pidfd.as_ref());
        leader.map(Rc::new).map_err(|error| error.to_string())
    }

    async fn reserve(
        &self,
        args: Reserve_Args,
        caller: Caller,
    ) -> Result<Reserve_Reply, Refused_Args> {
        let patience = patience(args.patienceUSec);
        let request = request(args.login, args.service, args.environment, args.undecodable);
        let handle = args.session.and_then(|handle| handle.parse().ok());
        let reception = self.0.reserve(handle, &request, caller, patience).await;
        self.0.nscd.up_to_date().await;
        admission(reception, &request).map(|admission| Reserve_Reply { admission })
    }

    async fn open(&self, args: Open_Args, caller: Caller) -> Result<Open_Reply, Refused_Args> {
        let patience = patience(args.patienceUSec);
        let request = request(args.login, args.service, args.environment, args.undecodable);
        // A handle that is none is treated like one that has expired: the login is decided on anew.
        let handle = args.session.and_then(|handle| handle.parse().ok());
        let reception = self.0.open(handle, &request, caller, patience).await;
        self.0.nscd.up_to_date().await;
        admission(reception, &request).map(|admission| Open_Reply { admission })
    }

    /// Whether the caller had such a session. Somebody else's is as unknown as none.
    async fn close(&self, handle: &str, caller: &Leader) -> bool {
        let Ok(id) = handle.parse::<SessionId>() else {
            return false;
        };
        let theirs = self
            .0
            .registry
            .borrow()
            .session(id)
            .is_some_and(|session| session.leader == *caller.id());
        if theirs {
            let effects = self.0.registry.borrow_mut().close(Boottime::now(), id);
            self.0.carry_out(effects).finished().await;
            self.0.nscd.up_to_date().await;
        }
        theirs
    }

    fn list(&self) -> List_Reply {
        let registry = self.0.registry.borrow();
        List_Reply {
            sessions: registry.list().into_iter().map(listed).collect(),
        }
    }
}

fn request(
    login: String,
    service: String,
    environment: impl IntoIterator<Item = (String, String)>,
    undecodable: Vec<String>,
) -> LoginRequest {
    LoginRequest {
        login,
        service,
        environment: environment.into_iter().collect(),
        undecodable,
    }
}

async fn answer(
    outcome: Result<impl Serialize, Refused_Args>,
    replies: &mut Replies<'_>,
) -> Result<(), Disconnect> {
    match outcome {
        Ok(reply) => replies.reply(reply).await,
        Err(refused) => replies.error(REFUSED, refused).await,
    }
}

fn admission(reception: Reception, request: &LoginRequest) -> Result<Admission, Refused_Args> {
    let not_ours = Admission {
        session: None,
        ignored: false,
        foreign: false,
        userName: request.login.clone(),
        uid: None,
        gid: None,
        homeDirectory: None,
        shell: None,
        messages: Vec::new(),
    };
    match reception {
        Reception::Admitted {
            session,
            plan,
            messages,
        } => Ok(admitted(session, *plan, messages)),
        Reception::Foreign => Ok(Admission {
            foreign: true,
            ..not_ours
        }),
        Reception::NotOurs => Ok(Admission {
            ignored: true,
            ..not_ours
        }),
        Reception::Refused(refusal) => Err(Refused_Args {
            reason: refusal.reason.as_str().to_owned(),
            message: refusal.message,
        }),
    }
}

fn admitted(session: SessionId, plan: Plan, messages: Vec<String>) -> Admission {
    Admission {
        session: Some(session.to_string()),
        ignored: false,
        foreign: false,
        uid: Some(plan.uid.get().into()),
        gid: Some(plan.gid.get().into()),
        homeDirectory: Some(plan.home.path().to_owned()),
        userName: plan.login.to_string(),
        shell: Some(plan.shell),
        messages,
    }
}

fn patience(usec: Option<i64>) -> Duration {
    usec.and_then(|usec| u64::try_from(usec).ok())
        .map_or(PATIENCE, |usec| Duration::from_micros(usec).min(PATIENCE))
}

fn listed(session: &registry::Session) -> Session {
    Session {
        session: session.id.to_string(),
        userName: session.login().to_string(),
        uid: session.plan.uid.get().into(),
        teleportUser: session.plan.teleport_user.clone(),
        roles: session.plan.roles.clone(),
        state: match session.state {
            State::Reserved { .. } => "reserved",
            // What is over is not listed.
            State::Open | State::Departed { .. } => "open",
        }
        .to_owned(),
        leaderPid: session.leader.pid.into(),
        service: session.service.clone(),
        sinceUSec: i64::try_from(session.since_usec).unwrap_or(i64::MAX),
    }
}
