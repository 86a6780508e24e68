//! A server on a real socket in a folder of its own, and a client that speaks raw bytes to it.
//! What is served and what is expected of it does not enter.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use userdb_service::runtime::stop::{Stopper, pair};
use userdb_service::runtime::transport::{Limits, Service, serve};

/// A folder everybody may enter, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("userdb-{}-{next}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A socket listening in it, open to everybody.
    pub(crate) fn listen(&self) -> (PathBuf, UnixListener) {
        let path = self.0.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        (path, listener)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A service in a thread of its own.
pub(crate) struct Server {
    pub(crate) path: PathBuf,
    _folder: Folder,
    stopper: Option<Stopper>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start<S: Service>(
        limits: Limits,
        make: impl FnOnce() -> S + Send + 'static,
    ) -> Server {
        let folder = Folder::new();
        let (path, listener) = folder.listen();
        let (stopper, stop) = pair();
        let thread = std::thread::spawn(move || {
            let service = Rc::new(make());
            userdb_service::runtime::block_on(serve(listener, limits, service, stop))
                .unwrap()
                .unwrap();
        });
        Server {
            path,
            _folder: folder,
            stopper: Some(stopper),
            thread: Some(thread),
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.path)
    }

    pub(crate) fn wish_to_stop(&self) {
        self.stopper.as_ref().unwrap().stop();
    }

    /// Waits until the server has returned.
    pub(crate) fn stopped(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }

    pub(crate) fn has_returned(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pending: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Client {
        let stream = UnixStream::connect(path).unwrap();
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).unwrap();
        stream.set_write_timeout(limit).unwrap();
        Client {
            stream,
            pending: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_raw(format!("{message}\0").as_bytes());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message; `None` if the server has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == 0) {
                let message = serde_json::from_slice(&self.pending[..end]).unwrap();
                self.pending.drain(..=end);
                return Some(message);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.pending.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    pub(crate) fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.send(&json!({"method": method, "parameters": parameters}));
        self.receive().expect("the server closed the connection")
    }

    /// All replies to a call that takes several.
    pub(crate) fn ask_more(&mut self, method: &str, parameters: Value) -> Vec<Value> {
        self.send(&json!({"method": method, "parameters": parameters, "more": true}));
        let mut replies = Vec::new();
        loop {
            let reply = self.receive().expect("the server closed the connection");
            let last = reply.get("continues") != Some(&json!(true));
            replies.push(reply);
            if last {
                return replies;
            }
        }
    }

    pub(crate) fn closed(&mut self) -> bool {
        self.receive().is_none()
    }
}

/// Runs `work` as `uid` if we may, in a thread of its own: a thread's credentials are what the
/// kernel tells about who connects.
pub(crate) fn as_uid<T: Send + 'static>(uid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(move || {
        if nix::unistd::geteuid().is_root() {
            let gid = rustix::process::Gid::from_raw(uid);
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        }
        work()
    })
    .join()
    .unwrap()
}
