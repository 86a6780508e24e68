//! A service that only the tests of the transport have: it says back what it is told.
//! What they expect of the transport does not enter.

use std::time::Duration;

use crate::wire::{Client, Server};
use serde_derive::{Deserialize, Serialize};
use serde_json::json;
use userdb_service::runtime::transport::{
    Asker, Call, Disconnect, Interface, Item, Limits, NoParameters, Replies, Service,
};

pub(crate) struct Echo;

#[derive(Serialize, Deserialize)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
struct Many {
    count: usize,
}

impl Service for Echo {
    const PRODUCT: &'static str = "echo";
    const INTERFACES: &'static [Interface] = &[Interface {
        name: "org.example.Echo",
        description: "interface org.example.Echo\nmethod Echo(text: string) -> (text: string)\n",
    }];

    async fn call(
        &self,
        asker: Asker<'_>,
        call: Call<'_>,
        replies: &mut Replies<'_>,
    ) -> Result<(), Disconnect> {
        match call.name() {
            "Echo" => match call.arguments::<Text>() {
                Ok(text) => replies.reply(text).await,
                Err(invalid) => replies.invalid_parameter(&invalid).await,
            },
            "Wait" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                replies.reply(NoParameters {}).await
            }
            // Nobody has a turn meanwhile.
            "Hold" => {
                std::thread::sleep(Duration::from_millis(300));
                replies.reply(NoParameters {}).await
            }
            "Many" => {
                let Ok(Many { count }) = call.arguments() else {
                    return replies.error("org.example.Echo.No", NoParameters {}).await;
                };
                for number in 0..count {
                    match replies.item(json!({"number": number, "padding": "x".repeat(200)})) {
                        Item::Next => {}
                        Item::Drain => replies.drain().await?,
                        Item::Stop => break,
                    }
                }
                replies.end("org.example.Echo.Nothing").await
            }
            "Peer" => {
                let peer = asker.peer()?;
                let pidfd = peer.pidfd.is_some();
                replies
                    .reply(json!({"uid": peer.uid, "pid": peer.pid, "pidfd": pidfd}))
                    .await
            }
            "Mute" => Ok(()),
            "Panic" => panic!("as asked"),
            _ => replies.method_not_found(&call).await,
        }
    }
}

pub(crate) fn start() -> Server {
    Server::start(Limits::default(), || Echo)
}

pub(crate) fn echo(client: &mut Client, text: &str) {
    let reply = client.ask("org.example.Echo.Echo", json!({"text": text}));
    assert_eq!(reply, json!({"parameters": {"text": text}}));
}

/// Does `work` while the server does nothing.
pub(crate) fn while_held<T>(server: &Server, work: impl FnOnce() -> T) -> T {
    let mut holder = server.connect();
    holder.send(&json!({"method": "org.example.Echo.Hold"}));
    std::thread::sleep(Duration::from_millis(100));
    let done = work();
    assert!(holder.receive().is_some());
    done
}
