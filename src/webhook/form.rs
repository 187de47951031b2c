//! URL-encoded forms, decoded once.

use std::borrow::Cow;
use std::fmt;

/// The fields of a form (`application/x-www-form-urlencoded`), decoded in one pass into one buffer.
///
/// A scheme that signs the fields decodes them to verify the signature, and passes them on with
/// [`Verified::with_form`](super::Verified::with_form), so that they are decoded once.
///
/// ```
/// use civic_messaging::webhook::Form;
///
/// let form = Form::decode(b"From=%2B447700900123&Body=Hello+there").unwrap();
/// assert_eq!(form.get("Body").as_deref(), Some("Hello there"));
/// assert_eq!(form.get("To"), None);
/// ```
#[derive(Default)]
pub struct Form {
    decoded: Vec<u8>,
    fields: Vec<Field>,
}

/// The position of a field in the buffer; its value directly follows its name, which is the form that is signed.
#[derive(Clone, Copy)]
struct Field {
    /// The first eight bytes of the name as a number: distinguishes almost all names, in the same order.
    head: u64,
    name: usize,
    value: usize,
    end: usize,
}

impl Form {
    /// The maximum number of fields, which bounds the cost of sorting.
    pub const FIELDS_MAX: usize = 1_000;

    /// Decodes a form by the URL standard; `None` if it has more than [`FIELDS_MAX`](Self::FIELDS_MAX) fields.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut form = Self { decoded: Vec::with_capacity(body.len()), fields: Vec::with_capacity(32) };
        let (mut rest, mut name, mut value) = (body, 0, None);
        loop {
            let special = rest.iter().position(|byte| matches!(byte, b'&' | b'=' | b'%' | b'+')).unwrap_or(rest.len());
            let (plain, from) = rest.split_at(special);
            form.decoded.extend_from_slice(plain);
            rest = match from {
                [b'&', rest @ ..] => {
                    form.end(&mut name, &mut value)?;
                    rest
                }
                [b'=', rest @ ..] if value.is_none() => {
                    value = Some(form.decoded.len());
                    rest
                }
                [b'%', high, low, rest @ ..] if hex(*high, *low).is_some() => {
                    form.decoded.extend(hex(*high, *low));
                    rest
                }
                [b'+', rest @ ..] => {
                    form.decoded.push(b' ');
                    rest
                }
                [byte, rest @ ..] => {
                    form.decoded.push(*byte);
                    rest
                }
                [] => {
                    form.end(&mut name, &mut value)?;
                    return Some(form);
                }
            };
        }
    }

    /// Ends a field unless it is empty, and starts the next.
    fn end(&mut self, name: &mut usize, value: &mut Option<usize>) -> Option<()> {
        let end = self.decoded.len();
        let (name, value) = (std::mem::replace(name, end), value.take());
        if name == end && value.is_none() {
            return Some(());
        }
        let value = value.unwrap_or(end);
        self.fields.push(Field { head: head(slice(&self.decoded, name, value)), name, value, end });
        (self.fields.len() <= Self::FIELDS_MAX).then_some(())
    }

    /// Decodes a form and sorts its fields by name and value without duplicates: the order in which Twilio signs it.
    pub fn sorted(body: &[u8]) -> Option<Self> {
        let Self { decoded, mut fields } = Self::decode(body)?;
        let key = |field: &Field| (slice(&decoded, field.name, field.value), slice(&decoded, field.value, field.end));
        fields.sort_unstable_by(|a, b| a.head.cmp(&b.head).then_with(|| key(a).cmp(&key(b))));
        fields.dedup_by(|a, b| a.head == b.head && key(a) == key(b));
        Some(Self { decoded, fields })
    }

    /// Returns each name with its value directly after it, in order.
    pub fn pairs(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().map(|field| slice(&self.decoded, field.name, field.end))
    }

    /// Returns the first value of a name, which may be empty.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let head = head(name.as_bytes());
        let named =
            |field: &&Field| field.head == head && slice(&self.decoded, field.name, field.value) == name.as_bytes();
        let field = self.fields.iter().find(named)?;
        Some(String::from_utf8_lossy(slice(&self.decoded, field.value, field.end)))
    }

    /// Returns the first value of a name unless it is empty.
    pub fn some(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

fn slice(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).unwrap_or_default()
}

fn head(name: &[u8]) -> u64 {
    let mut head = [0; 8];
    head.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(head)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Form({} fields)", self.fields.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn form_is_decoded_by_the_url_standard(body in "([a-zé%+=&;0-9]|%[0-9A-Fa-f]{2}){0,60}") {
            let form = Form::decode(body.as_bytes()).unwrap();
            let text = |from, to| String::from_utf8_lossy(slice(&form.decoded, from, to)).into_owned();
            let ours: Vec<_> = form.fields.iter().map(|f| (text(f.name, f.value), text(f.value, f.end))).collect();
            let theirs: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}
