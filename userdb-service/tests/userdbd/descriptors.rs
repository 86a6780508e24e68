//! The transport when the process is out of descriptors. In a process of its own: the limit is everybody's.

use std::time::Duration;

use crate::wire::{Client, Server};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use userdb_service::runtime::transport::{
    Asker, Call, Disconnect, Interface, Limits, NoParameters,
};
use userdb_service::runtime::transport::{Replies, Service};

struct Nobody;

impl Service for Nobody {
    const PRODUCT: &'static str = "nobody";
    const INTERFACES: &'static [Interface] = &[];

    async fn call(
        &self,
        _: Asker<'_>,
        _: Call<'_>,
        replies: &mut Replies<'_>,
    ) -> Result<(), Disconnect> {
        replies.reply(NoParameters {}).await
    }
}

fn served(client: &mut Client) {
    let info = client.ask("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["product"], "nobody");
}

#[test]
fn without_descriptors_the_queue_waits_and_is_served_later() {
    if std::env::var_os("ALONE").is_none() {
        let name = "descriptors::without_descriptors_the_queue_waits_and_is_served_later";
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env("ALONE", "1")
            .output()
            .unwrap();
        assert!(
            alone.status.success(),
            "{}",
            String::from_utf8_lossy(&alone.stdout)
        );
        return;
    }
    let mut server = Server::start(Limits::default(), || Nobody);
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        served(client);
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, open + 1, hard).unwrap();
    let more: Vec<_> =
        std::iter::from_fn(|| std::os::unix::net::UnixStream::connect(&server.path).ok())
            .take(64)
            .collect();
    std::thread::sleep(Duration::from_millis(200));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(!server.has_returned());
    drop(more);
    served(&mut server.connect());
    server.wish_to_stop();
    server.stopped();
}
