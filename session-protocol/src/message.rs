//! Calls and replies as they go over the wire: varlink's JSON, made and read at once, since it happens in the midst of a login.
//! Nothing is sent or received here. The shapes are those of the generated types, which the tests hold against ours.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client::{CALL_LIMIT, Failure, LoginRequest};
use crate::sessions::{NotAdmitted_Args, Refused_Args};

const INTERFACE: &str = "com.goteleport.Sessions";

/// The arguments of Reserve and of Open.
#[derive(Debug, Serialize)]
pub(crate) struct Login<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'r str>,
    login: &'r str,
    service: &'r str,
    environment: &'r BTreeMap<String, String>,
    undecodable: &'r [String],
    #[serde(rename = "patienceUSec")]
    patience_usec: i64,
}

impl<'r> Login<'r> {
    /// What is asked for with so much time left: the registry is told of a little less, so that its reason arrives in time.
    pub(crate) fn of(request: &'r LoginRequest, session: Option<&'r str>, left: Duration) -> Self {
        let patience = left.saturating_sub(left / 20);
        Self {
            session,
            login: &request.login,
            service: &request.service,
            environment: &request.environment,
            undecodable: &request.undecodable,
            patience_usec: i64::try_from(patience.as_micros()).unwrap_or(i64::MAX),
        }
    }
}

#[derive(Serialize)]
struct Call<'c, Arguments> {
    method: &'c str,
    parameters: &'c Arguments,
}

#[derive(Deserialize)]
struct Reply<'r> {
    #[serde(borrow)]
    error: Option<Cow<'r, str>>,
    #[serde(borrow)]
    parameters: Option<&'r RawValue>,
}

/// A call of a method of ours, with the NUL that ends it.
pub(crate) fn call(method: &str, arguments: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let call = Call {
        method: &format!("{INTERFACE}.{method}"),
        parameters: arguments,
    };
    let mut message =
        serde_json::to_vec(&call).map_err(|error| Failure::Protocol(error.to_string()))?;
    // The registry would hang up without a word.
    if message.len() > CALL_LIMIT {
        return Err(Failure::TooLong(message.len()));
    }
    message.push(0);
    Ok(message)
}

/// What the reply to a call says, without its NUL.
pub(crate) fn reply<Parameters: DeserializeOwned>(message: &[u8]) -> Result<Parameters, Failure> {
    let wrong = |error: serde_json::Error| Failure::Protocol(error.to_string());
    let reply: Reply<'_> = serde_json::from_slice(message).map_err(wrong)?;
    let parameters = reply.parameters.map_or("{}", RawValue::get);
    let Some(error) = reply.error else {
        return serde_json::from_str(parameters).map_err(wrong);
    };
    let without_reason = |_| Failure::Protocol("the registry refuses without a reason".to_owned());
    let kind = error.strip_prefix(INTERFACE).unwrap_or(&error);
    Err(match kind {
        ".Refused" => serde_json::from_str(parameters)
            .map_or_else(without_reason, |Refused_Args { reason, message }| {
                Failure::Refused { reason, message }
            }),
        ".NotAdmitted" => serde_json::from_str(parameters)
            .map_or_else(without_reason, |NotAdmitted_Args { message }| {
                Failure::NotAdmitted { message }
            }),
        ".UnknownSession" => Failure::UnknownSession,
        _ => Failure::Protocol(format!("the registry answers {error} {parameters}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::{Close_Args, Close_Reply, Open_Args, Reserve_Args};

    fn request() -> LoginRequest {
        LoginRequest {
            login: "alice".to_owned(),
            service: "teleport".to_owned(),
            environment: [("TELEPORT_ROLES".to_owned(), "a \"b\"".to_owned())].into(),
            undecodable: vec!["ODD".to_owned()],
        }
    }

    fn parameters(message: &[u8]) -> serde_json::Value {
        let (last, text) = message.split_last().unwrap();
        assert_eq!(*last, 0);
        let mut call: serde_json::Value = serde_json::from_slice(text).unwrap();
        assert_eq!(call["method"], "com.goteleport.Sessions.Reserve");
        call["parameters"].take()
    }

    #[test]
    fn what_is_asked_has_the_shape_of_the_interface() {
        let request = request();
        for session in [None, Some("s1")] {
            let asked = Login::of(&request, session, Duration::from_secs(1));
            let said = parameters(&call("Reserve", &asked).unwrap());
            let reserve: Reserve_Args = serde_json::from_value(said.clone()).unwrap();
            let open: Open_Args = serde_json::from_value(said.clone()).unwrap();
            assert_eq!(serde_json::to_value(&reserve).unwrap(), said);
            assert_eq!(serde_json::to_value(&open).unwrap(), said);
            assert_eq!(reserve.session.as_deref(), session);
            assert_eq!(reserve.environment["TELEPORT_ROLES"], "a \"b\"");
            assert_eq!(reserve.patienceUSec, Some(950_000));
        }
    }

    #[test]
    fn a_reply_may_leave_its_parameters_out_where_there_are_none() {
        for message in ["{}", r#"{"parameters":{}}"#, r#"{"parameters":null}"#] {
            assert!(
                reply::<Close_Reply>(message.as_bytes()).is_ok(),
                "{message}"
            );
        }
        assert!(reply::<Close_Args>(b"{}").is_err());
    }

    #[test]
    fn an_error_is_told_by_its_whole_name() {
        let told = |name: &str| {
            let message = format!(r#"{{"error":"{name}","parameters":{{}}}}"#);
            reply::<Close_Reply>(message.as_bytes()).unwrap_err()
        };
        assert_eq!(
            told("com.goteleport.Sessions.UnknownSession"),
            Failure::UnknownSession
        );
        for other in [
            "UnknownSession",
            "x.UnknownSession",
            "org.varlink.service.MethodNotFound",
        ] {
            assert!(matches!(told(other), Failure::Protocol(why) if why.contains(other)));
        }
        for empty in [
            "com.goteleport.Sessions.Refused",
            "com.goteleport.Sessions.NotAdmitted",
        ] {
            assert!(matches!(told(empty), Failure::Protocol(_)), "{empty}");
        }
    }
}
