//! `org.varlink.service`, answered once for every service: who it is and what it speaks.
//! Methods of other interfaces are only told apart here.

use varlink::{GetInterfaceDescriptionReply, ServiceInfo};

use super::Service;
use super::call::Call;
use super::replies::{Disconnect, Replies};

/// An interface that a service speaks.
#[derive(Debug, Clone, Copy)]
pub struct Interface {
    /// Its reverse-DNS name.
    pub name: &'static str,
    /// Its IDL, as the types were generated from.
    pub description: &'static str,
}

const ITSELF: &str = "org.varlink.service";
/// The varlink crate's own lacks errors that are newer, `ExpectedMore` among them.
const ITSELF_DESCRIBED: &str = include_str!("org.varlink.service.varlink");

#[derive(serde_derive::Deserialize)]
struct InterfaceName {
    interface: String,
}

#[derive(serde_derive::Deserialize)]
struct Nothing {}

/// Answers what is not for the service itself; false if the call is for it.
pub(super) async fn answered<S: Service>(
    call: &Call<'_>,
    replies: &mut Replies<'_>,
) -> Result<bool, Disconnect> {
    let interface = call.interface();
    if call.upgrade {
        replies.method_not_implemented(call).await?;
    } else if interface == ITSELF {
        itself::<S>(call, replies).await?;
    } else if S::INTERFACES.iter().any(|known| known.name == interface) {
        return Ok(false);
    } else {
        // As systemd's servers have it: InterfaceNotFound is for who asks for a description.
        replies.method_not_found(call).await?;
    }
    Ok(true)
}

async fn itself<S: Service>(call: &Call<'_>, replies: &mut Replies<'_>) -> Result<(), Disconnect> {
    match call.name() {
        "GetInfo" => match call.arguments::<Nothing>() {
            Ok(Nothing {}) => replies.reply(info::<S>()).await,
            Err(invalid) => replies.invalid_parameter(&invalid).await,
        },
        "GetInterfaceDescription" => match call.arguments::<InterfaceName>() {
            Ok(InterfaceName { interface }) => match description::<S>(&interface) {
                Some(text) => {
                    let description = Some(text.to_owned());
                    replies
                        .reply(GetInterfaceDescriptionReply { description })
                        .await
                }
                None => replies.interface_not_found(&interface).await,
            },
            Err(invalid) => replies.invalid_parameter(&invalid).await,
        },
        _ => replies.method_not_found(call).await,
    }
}

fn info<S: Service>() -> ServiceInfo {
    let names = S::INTERFACES.iter().map(|known| known.name);
    ServiceInfo {
        vendor: "teleport-userdb".into(),
        product: S::PRODUCT.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        url: "https://goteleport.com/".into(),
        interfaces: std::iter::once(ITSELF)
            .chain(names)
            .map(Into::into)
            .collect(),
    }
}

fn description<S: Service>(interface: &str) -> Option<&'static str> {
    if interface == ITSELF {
        return Some(ITSELF_DESCRIBED);
    }
    S::INTERFACES
        .iter()
        .find(|known| known.name == interface)
        .map(|known| known.description)
}
