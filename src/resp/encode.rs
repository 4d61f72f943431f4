use bytes::Bytes;

use super::{Protocol, Reply};

/// Appends `reply` to `out` in the client's protocol.
pub fn encode(reply: &Reply, protocol: Protocol, out: &mut Vec<u8>) {
    let resp3 = protocol == Protocol::Resp3;
    match reply {
        Reply::Simple(text) => line(b'+', text.as_bytes(), out),
        Reply::Error(text) => encode_error(text, out),
        Reply::Int(n) => header(b':', *n, out),
        Reply::Bulk(bytes) => push_bulk(bytes, out),
        Reply::Nil | Reply::NilArray if resp3 => out.extend_from_slice(b"_\r\n"),
        Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
        Reply::NilArray => out.extend_from_slice(b"*-1\r\n"),
        Reply::Array(items) => list(b'*', items, protocol, out),
        Reply::Set(items) => list(if resp3 { b'~' } else { b'*' }, items, protocol, out),
        Reply::Push(items) => list(if resp3 { b'>' } else { b'*' }, items, protocol, out),
        Reply::Map(pairs) => {
            if resp3 {
                header(b'%', pairs.len() as i64, out);
            } else {
                header(b'*', pairs.len() as i64 * 2, out);
            }
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Reply::Double(value) if resp3 => line(b',', double(*value).as_bytes(), out),
        Reply::Double(value) => push_bulk(double(*value).as_bytes(), out),
        Reply::Bool(value) if resp3 => line(b'#', if *value { b"t" } else { b"f" }, out),
        Reply::Bool(value) => header(b':', i64::from(*value), out),
        Reply::BigNumber(digits) if resp3 => line(b'(', digits, out),
        Reply::BigNumber(digits) => push_bulk(digits, out),
        Reply::Verbatim(format, text) if resp3 => {
            header(b'=', text.len() as i64 + 4, out);
            out.extend_from_slice(format.as_bytes());
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Verbatim(_, text) => push_bulk(text, out),
    }
}

/// Appends `-text\r\n`; line ends inside the text become blanks, as Redis does.
pub fn encode_error(text: &str, out: &mut Vec<u8>) {
    line(b'-', text.as_bytes(), out);
}

/// Appends a command as an array of bulk strings.
pub fn push_command<A: AsRef<[u8]>>(arguments: &[A], out: &mut Vec<u8>) {
    header(b'*', arguments.len() as i64, out);
    for argument in arguments {
        push_bulk(argument.as_ref(), out);
    }
}

/// A command as bytes.
pub fn command<A: AsRef<[u8]>>(arguments: &[A]) -> Bytes {
    let mut out = Vec::new();
    push_command(arguments, &mut out);
    out.into()
}

/// Appends `$len\r\n…\r\n`.
pub fn push_bulk(bytes: &[u8], out: &mut Vec<u8>) {
    header(b'$', bytes.len() as i64, out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn list(kind: u8, items: &[Reply], protocol: Protocol, out: &mut Vec<u8>) {
    header(kind, items.len() as i64, out);
    items.iter().for_each(|item| encode(item, protocol, out));
}

fn header(kind: u8, number: i64, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend(text.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

/// The text Redis 7.0 gives for a double in a reply (`addReplyDouble`): `%.17g`, which prints
/// integers without a fraction and the rest with up to 17 significant digits.
fn double(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    percent_g17(value)
}

/// C's `%.17g`.
fn percent_g17(value: f64) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{value:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if (-4..17).contains(&exponent) {
        let decimals = usize::try_from(16 - exponent).unwrap_or(0);
        return trim(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(reply: Reply) -> (String, String) {
        let text = |protocol| {
            let mut out = Vec::new();
            encode(&reply, protocol, &mut out);
            String::from_utf8(out).expect("text")
        };
        (text(Protocol::Resp2), text(Protocol::Resp3))
    }

    #[test]
    fn resp2_flattens_what_it_lacks() {
        let map = Reply::Map(vec![(Reply::bulk("a"), Reply::Bool(true))]);
        assert_eq!(both(map), ("*2\r\n$1\r\na\r\n:1\r\n".into(), "%1\r\n$1\r\na\r\n#t\r\n".into()));
        assert_eq!(both(Reply::NilArray), ("*-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(Reply::Double(3.0)), ("$1\r\n3\r\n".into(), ",3\r\n".into()));
        assert_eq!(
            both(Reply::Verbatim("txt".into(), "x".into())),
            ("$1\r\nx\r\n".into(), "=5\r\ntxt:x\r\n".into())
        );
    }

    #[test]
    fn doubles_print_as_c_does() {
        for (value, text) in [
            (0.1, "0.10000000000000001"),
            (1e21, "1e+21"),
            (1.5, "1.5"),
            (-2.0, "-2"),
            (1e-5, "1.0000000000000001e-05"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (12345678901234568.0, "12345678901234568"),
        ] {
            assert_eq!(percent_g17(value), text);
        }
    }

    #[test]
    fn line_ends_in_errors_become_blanks() {
        let mut out = Vec::new();
        encode_error("ERR a\r\nb", &mut out);
        assert_eq!(out, b"-ERR a  b\r\n");
    }
}
