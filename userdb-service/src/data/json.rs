//! JSON, appended to a reply that is being written: objects of texts, numbers, flags and lists of texts.
//! Which fields a reply has does not enter.

/// An object that is being written. Names of fields need no escapes.
pub(super) struct Object<'o>(&'o mut Vec<u8>);

impl<'o> Object<'o> {
    pub(super) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Object(out)
    }

    pub(super) fn end(self) {
        self.0.push(b'}');
    }

    fn name(&mut self, name: &str) {
        // No value ends like this.
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        text(self.0, value);
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        number(self.0, value);
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        let value: &[u8] = if value { b"true" } else { b"false" };
        self.0.extend_from_slice(value);
    }

    /// A list of texts; an empty one is left out.
    pub(super) fn texts<'t>(&mut self, name: &str, values: impl Iterator<Item = &'t str>) {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return;
        }
        self.name(name);
        self.0.push(b'[');
        for value in values {
            text(self.0, value);
            self.0.push(b',');
        }
        self.0.pop();
        self.0.push(b']');
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A text in quotes.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Of all bytes at once, for most texts have none.
    if text.bytes().fold(false, |any, byte| any | is_special(byte)) {
        escaped(out, text);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..b' ' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(write: impl FnOnce(&mut Vec<u8>)) -> serde_json::Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn every_character_is_read_back() {
        let all: String = ('\0'..=char::MAX).collect();
        assert_eq!(read(|out| text(out, &all)), all);
        assert_eq!(read(|out| text(out, "")), "");
    }

    #[test]
    fn the_least_and_the_greatest_number_are_read_back() {
        for edge in [0, 9, 10, 99, 100, u64::MAX] {
            assert_eq!(read(|out| number(out, edge)), edge);
        }
    }

    #[test]
    fn objects_have_commas_between_their_fields_and_no_empty_lists() {
        let object = read(|out| {
            let mut object = Object::begin(out);
            object.text("text", "{");
            object.texts("none", [].into_iter());
            object.texts("one", ["a"].into_iter());
            object.texts("two", ["", ","].into_iter());
            object.number("number", 7);
            object.flag("yes", true);
            object.flag("no", false);
            object.end();
        });
        let right = serde_json::json!({
            "text": "{", "one": ["a"], "two": ["", ","], "number": 7, "yes": true, "no": false,
        });
        assert_eq!(object, right);
        assert_eq!(read(|out| Object::begin(out).end()), serde_json::json!({}));
    }

    proptest! {
        #[test]
        fn any_text_and_any_number_is_read_back(any_text in ".*", any_number in any::<u64>()) {
            prop_assert_eq!(read(|out| text(out, &any_text)), any_text);
            prop_assert_eq!(read(|out| number(out, any_number)), any_number);
        }
    }
}
