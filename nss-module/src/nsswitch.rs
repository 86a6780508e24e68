//! Whether a line of nsswitch.conf lists a service. Pure: the text comes from outside.
//! Bytes, and no allocation, because it runs in every process. The daemon's reader, which also knows the order of the services and the
//! actions between them, is `userdb-service/src/control/lookup/nsswitch.rs`.

/// Whether the line of `database` lists `service`, in the sense glibc reads the file in: `#` starts a comment, the name of a database
/// ends at white space or a colon, any number of which may follow (it needs no colon at all), `[...]` is an action, and of several
/// lines of one database the last counts. `None`: there is no such line.
pub(crate) fn lists(text: &[u8], database: &[u8], service: &[u8]) -> Option<bool> {
    let mut lines = text.rsplit(|&byte| byte == b'\n');
    let mut rest = lines.find_map(|line| services_of(line, database))?;
    loop {
        rest = without_leading(rest, is_space);
        if rest.is_empty() {
            return Some(false);
        }
        let in_action = rest.first() == Some(&b'[');
        let end = rest.iter().position(|&byte| {
            if in_action {
                byte == b']'
            } else {
                is_space(byte) || byte == b'['
            }
        });
        let word = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        if !in_action && word == service {
            return Some(true);
        }
        let next = end.map_or(rest.len(), |end| end + usize::from(in_action));
        rest = rest.get(next..).unwrap_or_default();
    }
}

/// What a line says of `database`; `None` if it is another's, or ends with the name.
fn services_of<'a>(line: &'a [u8], database: &[u8]) -> Option<&'a [u8]> {
    let line = line.split(|&byte| byte == b'#').next()?;
    let rest = without_leading(line, is_space).strip_prefix(database)?;
    let ends_a_name = |byte| is_space(byte) || byte == b':';
    let is_the_name = rest.first().is_some_and(|&byte| ends_a_name(byte));
    is_the_name.then(|| without_leading(rest, ends_a_name))
}

fn without_leading(text: &[u8], is_left_out: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|&byte| !is_left_out(byte));
    start
        .and_then(|start| text.get(start..))
        .unwrap_or_default()
}

/// As isspace(3): with the vertical tab, which Rust does not count.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}
