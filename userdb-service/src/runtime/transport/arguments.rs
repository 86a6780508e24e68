//! From the parameters of a call to the typed arguments of a method.
//! Every refusal names the parameter it is about; what a method does with them is not decided here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_derive::Deserialize;
use serde_json::value::RawValue;

/// A parameter that is missing, unknown, given twice, or not of its type: its name. systemd's
/// clients leave a filter out and ask again when they are told its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidParameter(pub String);

/// Bytes.
const LONGEST_NAME: usize = 256;

impl fmt::Display for InvalidParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "parameter {:?} is missing, unknown or not of its type",
            self.0
        )
    }
}

impl std::error::Error for InvalidParameter {}

impl de::Error for InvalidParameter {
    fn custom<T: fmt::Display>(_: T) -> Self {
        InvalidParameter("parameters".into())
    }
    fn missing_field(field: &'static str) -> Self {
        InvalidParameter(field.into())
    }
    fn duplicate_field(field: &'static str) -> Self {
        InvalidParameter(field.into())
    }
}

/// Reads the JSON object `json` into the struct `T`: the keys are exactly the fields of `T`, a field
/// that is an `Option` may be absent or null.
pub(super) fn parse<'m, T: de::Deserialize<'m>>(json: &'m str) -> Result<T, InvalidParameter> {
    T::deserialize(Parameters(json))
}

/// The text that the parameter `name` is, whatever the others are: what a method needs to know before it takes any of them.
pub(super) fn text(json: &str, name: &str) -> Option<String> {
    let found = serde_json::Deserializer::from_str(json).deserialize_map(Only(name));
    serde_json::from_str(found.ok()??.get()).ok()
}

/// Finds one parameter, and skips the others without a look into them.
struct Only<'n>(&'n str);

impl<'m> Visitor<'m> for Only<'_> {
    type Value = Option<&'m RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'m>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Key(key)) = map.next_key::<Key<'m>>()? {
            match key == self.0 {
                true => found = Some(map.next_value()?),
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// As much of a name as is said back to who has sent it: all of it, unless it is far longer than any there is. A long reply would
/// have to be kept for who does not read it.
pub(super) fn cut(name: &str) -> &str {
    let end = (0..=LONGEST_NAME.min(name.len())).rev();
    let end = end.into_iter().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

struct Parameters<'m>(&'m str);

impl<'m> Deserializer<'m> for Parameters<'m> {
    type Error = InvalidParameter;

    fn deserialize_struct<V: Visitor<'m>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, InvalidParameter> {
        let mut outcome = None;
        let read = serde_json::Deserializer::from_str(self.0).deserialize_map(Object {
            fields,
            visitor,
            outcome: &mut outcome,
        });
        match (outcome, read) {
            (Some(Err(invalid)), _) => Err(invalid),
            (Some(Ok(value)), Ok(())) => Ok(value),
            _ => Err(de::Error::custom("not an object")),
        }
    }

    fn deserialize_any<V: Visitor<'m>>(self, visitor: V) -> Result<V::Value, InvalidParameter> {
        self.deserialize_struct("", &[], visitor)
    }

    forward_to_deserialize_any! {
        <W: Visitor<'m>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Hands the object to `visitor` and keeps what it says: serde_json's own error would forget the name.
struct Object<'o, V, T> {
    fields: &'static [&'static str],
    visitor: V,
    outcome: &'o mut Option<Result<T, InvalidParameter>>,
}

impl<'m, V: Visitor<'m>> Visitor<'m> for Object<'_, V, V::Value> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'m>>(self, map: A) -> Result<(), A::Error> {
        *self.outcome = Some(self.visitor.visit_map(Fields {
            map,
            fields: self.fields,
            key: Cow::Borrowed(""),
        }));
        Ok(())
    }
}

struct Fields<'m, A> {
    map: A,
    fields: &'static [&'static str],
    key: Cow<'m, str>,
}

#[derive(Deserialize)]
struct Key<'m>(#[serde(borrow)] Cow<'m, str>);

impl<'m, A: MapAccess<'m>> MapAccess<'m> for Fields<'m, A> {
    type Error = InvalidParameter;

    fn next_key_seed<K: DeserializeSeed<'m>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, InvalidParameter> {
        let key = match self.map.next_key::<Key<'m>>() {
            Ok(Some(Key(key))) => key,
            Ok(None) => return Ok(None),
            Err(error) => return Err(de::Error::custom(error)),
        };
        if !self.fields.contains(&&*key) {
            return Err(InvalidParameter(cut(&key).to_owned()));
        }
        self.key = key.clone();
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'m>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, InvalidParameter> {
        self.map
            .next_value_seed(seed)
            .map_err(|_| InvalidParameter(self.key.clone().into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Arguments {
        uid: Option<i64>,
        user_name: Option<String>,
        groups: Option<Vec<String>>,
        service: String,
    }

    fn invalid(json: &str) -> String {
        parse::<Arguments>(json).unwrap_err().0
    }

    #[test]
    fn an_absent_and_a_null_parameter_are_the_same() {
        let absent: Arguments = parse(r#"{"service":"s"}"#).unwrap();
        let null: Arguments = parse(r#"{"uid":null,"userName":null,"service":"s"}"#).unwrap();
        assert_eq!(absent, null);
    }

    #[test]
    fn a_refusal_names_the_parameter() {
        assert_eq!(invalid(r#"{"service":"s","uid":"1"}"#), "uid");
        assert_eq!(invalid(r#"{"service":"s","uid":1.5}"#), "uid");
        assert_eq!(
            invalid(r#"{"service":"s","uid":18446744073709551616}"#),
            "uid"
        );
        assert_eq!(invalid(r#"{"service":"s","groups":["a",1]}"#), "groups");
        assert_eq!(invalid(r#"{"service":"s","userName":{}}"#), "userName");
        assert_eq!(invalid(r#"{"service":null}"#), "service");
        assert_eq!(invalid(r"{}"), "service");
        assert_eq!(invalid(r#"{"service":"s","later":1}"#), "later");
        assert_eq!(invalid(r#"{"service":"s","uid":1,"uid":2}"#), "uid");
    }

    #[test]
    fn a_name_without_end_is_said_back_in_part() {
        let json = format!(r#"{{"service":"s","{}":1}}"#, "ü".repeat(30_000));
        assert_eq!(invalid(&json), "ü".repeat(128));
        assert_eq!(cut(&format!("x{}", "ü".repeat(200))).len(), 255);
        assert_eq!(cut("uid"), "uid");
        assert_eq!(cut(""), "");
    }

    #[test]
    fn escaped_keys_are_the_keys_they_spell() {
        let arguments: Arguments = parse(r#"{"\u0075id":7,"service":"s"}"#).unwrap();
        assert_eq!(arguments.uid, Some(7));
        assert_eq!(invalid(r#"{"\u0001":7,"service":"s"}"#), "\u{1}");
    }

    #[test]
    fn a_method_without_arguments_refuses_any() {
        #[derive(Debug, Deserialize)]
        struct None {}
        assert!(parse::<None>("{}").is_ok());
        assert_eq!(parse::<None>(r#"{"a":1}"#).unwrap_err().0, "a");
    }

    #[test]
    fn what_is_not_an_object_is_refused_as_a_whole() {
        assert_eq!(invalid("[]"), "parameters");
        assert_eq!(invalid("7"), "parameters");
    }

    #[test]
    fn nesting_without_end_is_refused_and_not_followed() {
        let deep = format!(r#"{{"service":"s","groups":{}"#, "[".repeat(60_000));
        assert_eq!(invalid(&deep), "groups");
    }

    #[test]
    fn one_parameter_is_told_whatever_the_others_are() {
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        for other in [&*deep, r#""\ud800""#, "1e999", "{\"service\":7}"] {
            let json = format!(r#"{{"other":{other},"service":"s"}}"#);
            assert_eq!(text(&json, "service").as_deref(), Some("s"), "{other:.20}");
        }
        for none in ["{}", r#"{"service":7}"#, r#"{"service":null}"#, "[]", "7"] {
            assert_eq!(text(none, "service"), None, "{none}");
        }
    }
}
