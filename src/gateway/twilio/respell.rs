//! Spellings of one address that Twilio may have signed.
//!
//! Twilio signs the address that it was given, and what stands between it and us may write the query in another way. The
//! validator of Twilio's Node.js library (6.2.0, read 2026-11-30) therefore also tries the address as the URL standard
//! writes it, and that with its query decoded and encoded anew; the one of its Python library (9.13.0, read 2026-11-30)
//! leaves out a `?` with nothing behind it. All of these mean the same: a query that decodes to other fields, or to bytes
//! that are not text, has no other spelling.

use std::borrow::Cow;
use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use crate::webhook::Form;

/// The other spellings of a path and query, at most two, none of which is the given one.
pub(super) fn respelled(target: &str) -> Vec<String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut escaped = escape(path, |byte| matches!(byte, b' ' | b'"' | b'#' | b'<' | b'>' | b'`' | b'{' | b'}'));
    let mut others = Vec::new();
    let mut add = |other: String| {
        if other != target && !others.contains(&other) {
            others.push(other);
        }
    };
    match query {
        None => add(escaped.into_owned()),
        Some("") => add(path.to_owned()),
        Some(query) => {
            let query = escape(query, |byte| matches!(byte, b' ' | b'"' | b'#' | b'<' | b'>' | b'\''));
            let encoded = encoded(&query).map(|query| [&*escaped, "?", &query].concat());
            escaped.to_mut().extend(["?", &*query]);
            add(escaped.into_owned());
            encoded.into_iter().for_each(add);
        }
    }
    others
}

/// The text with these bytes, and those that are not printable ASCII, as `%XX`.
fn escape(text: &str, special: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~') && !special(byte);
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    text.bytes().for_each(|byte| push(&mut escaped, byte, plain(byte)));
    Cow::Owned(escaped)
}

fn push(text: &mut String, byte: u8, plain: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| char::from(*HEX.get(usize::from(n)).unwrap_or(&b'0'));
    if plain {
        text.push(char::from(byte));
    } else {
        text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
    }
}

/// A query as Node's `querystring` writes it after it has read it: `%20` for a space, `=` behind every name, the values
/// of one name together, and names that are array indexes first. `None` if it has too many fields or is not text.
fn encoded(query: &str) -> Option<String> {
    percent_decode_str(query).decode_utf8().ok()?;
    let mut named: Vec<(Cow<'_, str>, Vec<Cow<'_, str>>)> = Vec::new();
    let mut places = HashMap::new();
    for (n, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
        if n == Form::FIELDS_MAX {
            return None;
        }
        let place = *places.entry(name.clone()).or_insert(named.len());
        match named.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => named.push((name, vec![value])),
        }
    }
    named.sort_by_key(|(name, _)| index(name).unwrap_or(u32::MAX));
    let mut encoded = String::with_capacity(query.len() + 16);
    for (name, value) in named.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value))) {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!'()*-._~".contains(&byte);
        name.bytes().for_each(|byte| push(&mut encoded, byte, plain(byte)));
        encoded.push('=');
        value.bytes().for_each(|byte| push(&mut encoded, byte, plain(byte)));
    }
    Some(encoded)
}

/// The array index that a name spells, as JavaScript sees it. Such names come first in an object.
fn index(name: &str) -> Option<u32> {
    let index: u32 = name.parse().ok().filter(|index| *index < u32::MAX)?;
    (name == "0" || !name.starts_with(['0', '+'])).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_are_those_of_twilios_libraries() {
        for (target, others) in [
            ("/hook", &[][..]),
            ("/hook?a=1&b=%20c", &[]),
            ("/hook?", &["/hook"]),
            ("/hook?a=b+c", &["/hook?a=b%20c"]),
            ("/hook?a=%2bc", &["/hook?a=%2Bc"]),
            ("/hook?a=it's", &["/hook?a=it%27s"]),
            ("/hook?a=it's+b", &["/hook?a=it%27s+b", "/hook?a=it's%20b"]),
            ("/hook?a=it%27s", &["/hook?a=it's"]),
            ("/hook?a=%7e&b=(x)", &["/hook?a=~&b=(x)"]),
            ("/hook?tag=a:b/c,d@e", &["/hook?tag=a%3Ab%2Fc%2Cd%40e"]),
            ("/hook?flag&a=1", &["/hook?flag=&a=1"]),
            ("/hook?a=1&&b=2&", &["/hook?a=1&b=2"]),
            ("/hook?b=1&a=2&b=3", &["/hook?b=1&b=3&a=2"]),
            ("/hook?b=1&10=2&9=3&01=4", &["/hook?9=3&10=2&b=1&01=4"]),
            ("/hook?a=%zz", &["/hook?a=%25zz"]),
            ("/hook?a={x}", &["/hook?a=%7Bx%7D"]),
            ("/{x}?a=1", &["/%7Bx%7D?a=1"]),
            // It is no text, and what replaces it would be another field.
            ("/hook?a=%ff+b", &[]),
        ] {
            assert_eq!(respelled(target), others, "{target}");
        }
        let many = vec!["a=+"; Form::FIELDS_MAX + 1].join("&");
        assert!(respelled(&format!("/hook?{many}")).is_empty());
    }

    fn fields(target: &str) -> Vec<(String, String)> {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mut fields: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        // The order in one name is kept, and that of names is not.
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields
    }

    proptest! {
        #[test]
        fn every_spelling_means_the_same(target in "/hook\\?([a-c0-2é%+=&' ]|%[0-9A-Fa-f]{2}){0,40}") {
            let others = respelled(&target);
            prop_assert!(others.len() <= 2 && !others.contains(&target));
            for other in others {
                prop_assert_eq!(fields(&other), fields(&target), "{}", other);
            }
        }
    }
}
