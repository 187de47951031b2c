//! Equivalent encodings of a URL that Twilio may have signed.
//!
//! Twilio signs the URL that it was given; proxies may re-encode its query on the way. The validator of Twilio's
//! Node.js library (6.2.0, read 2026-11-30) therefore also tries the URL as the URL standard serialises it, and that
//! with its query decoded and re-encoded; that of its Python library (9.13.0, read 2026-11-30) drops a `?` before an
//! empty query. All variants are equivalent: a query that would decode to other fields, or to bytes that are not UTF-8,
//! has none.

use std::borrow::Cow;
use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use crate::webhook::Form;

/// Returns the equivalent encodings of a path and query, at most two, without the given one.
pub(super) fn url_variants(target: &str) -> Vec<String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut escaped = escape(path, |byte| matches!(byte, b' ' | b'"' | b'#' | b'<' | b'>' | b'`' | b'{' | b'}'));
    let mut variants = Vec::new();
    let mut add = |variant: String| {
        if variant != target && !variants.contains(&variant) {
            variants.push(variant);
        }
    };
    match query {
        None => add(escaped.into_owned()),
        Some("") => add(path.to_owned()),
        Some(query) => {
            let query = escape(query, |byte| matches!(byte, b' ' | b'"' | b'#' | b'<' | b'>' | b'\''));
            let encoded = reencode(&query).map(|query| [&*escaped, "?", &query].concat());
            escaped.to_mut().extend(["?", &*query]);
            add(escaped.into_owned());
            encoded.into_iter().for_each(add);
        }
    }
    variants
}

/// Percent-encodes these bytes and all that are not printable ASCII.
fn escape(text: &str, special: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~') && !special(byte);
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    text.bytes().for_each(|byte| push_byte(&mut escaped, byte, plain(byte)));
    Cow::Owned(escaped)
}

fn push_byte(text: &mut String, byte: u8, plain: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| char::from(*HEX.get(usize::from(n)).unwrap_or(&b'0'));
    if plain {
        text.push(char::from(byte));
    } else {
        text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Parses and serialises a query as Node's `querystring` does: `%20` for a space, `=` after every name, the values of
/// one name together, and names that are array indexes first. `None` if it has too many fields or is not UTF-8.
fn reencode(query: &str) -> Option<String> {
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
        name.bytes().for_each(|byte| push_byte(&mut encoded, byte, plain(byte)));
        encoded.push('=');
        value.bytes().for_each(|byte| push_byte(&mut encoded, byte, plain(byte)));
    }
    Some(encoded)
}

/// The value of a name that is a JavaScript array index. Such names come first in an object.
fn index(name: &str) -> Option<u32> {
    let index: u32 = name.parse().ok().filter(|index| *index < u32::MAX)?;
    (name == "0" || !name.starts_with(['0', '+'])).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn url_variants_match_twilio_libraries() {
        for (target, variants) in [
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
            // Not UTF-8: the replacement character would make another field.
            ("/hook?a=%ff+b", &[]),
        ] {
            assert_eq!(url_variants(target), variants, "{target}");
        }
        let many = vec!["a=+"; Form::FIELDS_MAX + 1].join("&");
        assert!(url_variants(&format!("/hook?{many}")).is_empty());
    }

    fn fields(target: &str) -> Vec<(String, String)> {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mut fields: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        // The values of one name keep their order; names do not.
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields
    }

    proptest! {
        #[test]
        fn url_variants_have_the_same_fields(target in "/hook\\?([a-c0-2é%+=&' ]|%[0-9A-Fa-f]{2}){0,40}") {
            let variants = url_variants(&target);
            prop_assert!(variants.len() <= 2 && !variants.contains(&target));
            for variant in variants {
                prop_assert_eq!(fields(&variant), fields(&target), "{}", variant);
            }
        }
    }
}
