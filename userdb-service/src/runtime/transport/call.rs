//! One call as it came over the wire, read strictly: anything that is not varlink is not answered.
//! What the method means is the service's business.

use std::borrow::Cow;

use serde::de::Deserialize;
use serde_derive::Deserialize;
use serde_json::value::RawValue;

use super::arguments::{self, InvalidParameter};

/// A message that is not a varlink request: its connection is closed without a reply, as systemd does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotARequest;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'m> {
    #[serde(borrow)]
    method: Cow<'m, str>,
    #[serde(borrow, default)]
    parameters: Option<&'m RawValue>,
    #[serde(default)]
    oneway: bool,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    upgrade: bool,
}

/// A method call.
#[derive(Debug)]
pub struct Call<'m> {
    /// The full name: interface, dot, method.
    pub method: Cow<'m, str>,
    /// The caller takes several replies.
    pub more: bool,
    /// The caller takes no reply; whatever is replied is dropped.
    pub oneway: bool,
    /// The caller wants to speak another protocol afterwards. Nobody here does.
    pub(super) upgrade: bool,
    parameters: &'m str,
    message: &'m [u8],
}

impl<'m> Call<'m> {
    pub(super) fn parse(message: &'m [u8]) -> Result<Call<'m>, NotARequest> {
        let request: Request<'m> = serde_json::from_slice(message).map_err(|_| NotARequest)?;
        let parameters = request.parameters.map_or("{}", RawValue::get);
        if !parameters.starts_with('{') || (request.oneway && request.more) {
            return Err(NotARequest);
        }
        Ok(Call {
            method: request.method,
            more: request.more,
            oneway: request.oneway,
            upgrade: request.upgrade,
            parameters,
            message,
        })
    }

    /// The message as it came, without the NUL that ended it.
    #[must_use]
    pub fn message(&self) -> &'m [u8] {
        self.message
    }

    /// The interface part of the method's full name; empty if there is none.
    #[must_use]
    pub fn interface(&self) -> &str {
        self.method
            .rsplit_once('.')
            .map_or("", |(interface, _)| interface)
    }

    /// The method's name within its interface.
    #[must_use]
    pub fn name(&self) -> &str {
        self.method
            .rsplit_once('.')
            .map_or(&self.method, |(_, name)| name)
    }

    /// The parameters as the struct `T` (for instance a generated `…_Args`): exactly its fields are
    /// accepted, `Option` fields may be absent or null.
    ///
    /// # Errors
    /// Names the parameter that is missing, unknown or not of its type:
    /// [`Replies::invalid_parameter`](super::Replies::invalid_parameter) is the reply.
    pub fn arguments<'s, T: Deserialize<'s>>(&'s self) -> Result<T, InvalidParameter> {
        arguments::parse(self.parameters)
    }

    /// The text that one of the parameters is, for looking at what [`Call::arguments`] refused.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        arguments::text(self.parameters, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(message: &str) -> bool {
        Call::parse(message.as_bytes()).is_err()
    }

    #[test]
    fn absent_null_and_empty_parameters_are_the_same() {
        for message in [
            r#"{"method":"a.b.C"}"#,
            r#"{"method":"a.b.C","parameters":null}"#,
            r#" { "method" : "a.b.C" , "parameters" : {} } "#,
        ] {
            let call = Call::parse(message.as_bytes()).unwrap();
            assert_eq!(call.parameters, "{}");
            assert_eq!((call.interface(), call.name()), ("a.b", "C"));
            assert!(!call.more && !call.oneway);
        }
    }

    #[test]
    fn the_top_level_takes_its_five_keys_and_no_other() {
        assert!(!refused(
            r#"{"method":"a.B","more":true,"upgrade":false,"parameters":{}}"#
        ));
        assert!(!refused(r#"{"method":"a.B","oneway":true}"#));
        assert!(refused(r#"{"method":"a.B","extra":1}"#));
        assert!(refused(r#"{"method":"a.B","method":"a.B"}"#));
        assert!(refused(r#"{"parameters":{}}"#));
        assert!(refused(r#"{"method":7}"#));
        assert!(refused(r#"{"method":"a.B","more":null}"#));
        assert!(refused(r#"{"method":"a.B","more":1}"#));
        assert!(refused(r#"{"method":"a.B","more":true,"oneway":true}"#));
    }

    #[test]
    fn what_is_not_an_object_of_json_is_refused() {
        for message in [
            "",
            " ",
            "[]",
            "null",
            "\"a\"",
            "{",
            "{}{}",
            r#"{"method":"a.B"}x"#,
        ] {
            assert!(refused(message), "{message}");
        }
        assert!(refused(r#"{"method":"a.B","parameters":[]}"#));
        assert!(refused(r#"{"method":"a.B","parameters":"x"}"#));
        assert!(Call::parse(b"{\"method\":\"a.\xff\"}").is_err());
        assert!(Call::parse(b"{\"method\":\"a.B\",\"parameters\":{\"x\":\"\xff\"}}").is_err());
    }

    /// Any small JSON value.
    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_do_more_than_be_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Call::parse(&bytes);
        }

        #[test]
        fn a_message_is_a_request_by_its_keys_and_their_types(
            top in prop::collection::btree_map(
                prop_oneof!["method", "parameters", "oneway", "more", "upgrade", "[a-z]{1,3}"],
                any_json(),
                0..5,
            ),
            method in any::<bool>(),
        ) {
            let mut top = top;
            if method {
                top.insert("method".into(), "a.B".into());
            }
            let is_flag = |key: &str| top.get(key).is_none_or(serde_json::Value::is_boolean);
            let is_set = |key: &str| top.get(key) == Some(&true.into());
            let request = top.get("method").is_some_and(serde_json::Value::is_string)
                && top.get("parameters").is_none_or(|p| p.is_object() || p.is_null())
                && ["oneway", "more", "upgrade"].into_iter().all(is_flag)
                && !(is_set("oneway") && is_set("more"))
                && top.keys().all(|key| {
                    ["method", "parameters", "oneway", "more", "upgrade"].contains(&key.as_str())
                });
            let message = serde_json::to_vec(&top).unwrap();
            prop_assert_eq!(Call::parse(&message).is_ok(), request);
        }
    }

    #[test]
    fn deep_nesting_is_skipped_without_a_stack() {
        let deep = format!(
            r#"{{"method":"a.B","parameters":{{"x":{}{}}}}}"#,
            "[".repeat(30_000),
            "]".repeat(30_000)
        );
        let call = Call::parse(deep.as_bytes()).unwrap();
        assert!(call.parameters.len() > 60_000);
    }
}
