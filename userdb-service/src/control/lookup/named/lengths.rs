//! How far the tokens of sudoers reach: the patterns of sudo's lexer, one function each, from the beginning
//! of what is left. No states, no meaning.

/// How many bytes from the beginning are such.
pub(super) fn run(text: &[u8], such: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|c| !such(*c)).unwrap_or(text.len())
}

/// How many bytes from the beginning are such, or a backslash and one that may be escaped.
pub(super) fn escaped_run(
    text: &[u8],
    such: impl Fn(u8) -> bool,
    escaped: impl Fn(u8) -> bool,
) -> usize {
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        match (c, text.get(at + 1)) {
            (b'\\', Some(&next)) if escaped(next) => at += 2,
            _ if such(c) => at += 1,
            _ => break,
        }
    }
    at
}

pub(super) fn blanks(text: &[u8]) -> usize {
    run(text, |c| c == b' ' || c == b'\t')
}

pub(super) fn line_end(text: &[u8]) -> Option<usize> {
    match text {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

/// A backslash, blanks and a line end.
pub(super) fn continuation(text: &[u8]) -> Option<usize> {
    let behind = text.strip_prefix(b"\\")?;
    let blanks = blanks(behind);
    line_end(&behind[blanks..]).map(|length| 1 + blanks + length)
}

pub(super) fn word_length(text: &[u8]) -> usize {
    let such = |c: u8| !b"#>!=:,() \t\r\n\\\"\0".contains(&c);
    escaped_run(text, such, |c| !b"\t\n\0".contains(&c))
}

pub(super) fn path_length(text: &[u8]) -> usize {
    let Some(behind) = text.strip_prefix(b"/") else {
        return 0;
    };
    let such = |c: u8| !b",:=\\ \t\r\n#\0".contains(&c);
    match escaped_run(behind, such, |c| b",:= \t#".contains(&c)) {
        0 => 0,
        length => 1 + length,
    }
}

/// From `^` to `$`, the last one that can be meant.
pub(super) fn regex_length(text: &[u8]) -> usize {
    if text.first() != Some(&b'^') {
        return 0;
    }
    let mut length = 0;
    for at in 1..text.len() {
        let escaped = text[at - 1] == b'\\';
        match text[at] {
            b'\r' | b'\n' | 0 => break,
            b'#' if !escaped => break,
            b'$' => {
                length = at + 1;
                if !escaped {
                    break;
                }
            }
            _ => {}
        }
    }
    length
}

pub(super) fn value_length(text: &[u8]) -> usize {
    let escaped = |c: u8| !b"\r\n\0".contains(&c);
    escaped_run(text, |c| !b"#=, \t\r\n\\\"\0".contains(&c), escaped)
}

/// `#1000`, `#-1`.
pub(super) fn id_length(text: &[u8]) -> usize {
    let sign = match text {
        [b'#', b'-', ..] => 2,
        [b'#', ..] => 1,
        _ => return 0,
    };
    match run(&text[sign..], |c| c.is_ascii_digit()) {
        0 => 0,
        digits => sign + digits,
    }
}

/// Undoes backslashes: `\xHH` is a byte, anything else itself.
pub(super) fn undone(raw: &[u8]) -> Vec<u8> {
    let hex = |c: u8| char::from(c).to_digit(16);
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [c, behind @ ..] = rest {
        let (byte, length) = match (c, behind) {
            (b'\\', [b'x', high, low, ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                let value = hex(*high).unwrap_or(0) * 16 + hex(*low).unwrap_or(0);
                (value as u8, 4)
            }
            (b'\\', [next, ..]) => (*next, 2),
            _ => (*c, 1),
        };
        text.push(byte);
        rest = &rest[length..];
    }
    text
}
