//! Addresses as officers type and read them: `07700 900123`, `whatsapp:+447700900123`, `x:44196397`.

use civic_messaging::{Address, Medium, Result};

/// Parses an address: a phone number, or a medium, a colon and an address of the medium.
pub(crate) fn parse(text: &str) -> Result<Address> {
    match text.split_once(':') {
        None => Address::phone(text),
        Some(("phone", number)) => Address::phone(number),
        Some((medium, id)) => Address::parse(&medium.parse::<Medium>()?, id),
    }
}

/// Returns the form that [`parse`] reads, or the masked one.
pub(crate) fn shown(address: &Address, show: bool) -> String {
    let masked = format!("{address:?}");
    match masked.split_once(':') {
        Some((kind, _)) if show => format!("{kind}:{}", address.expose()),
        _ => masked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_address_is_parsed_again() {
        for text in ["phone:+447700900123", "whatsapp:+447700900123", "x:44196397", "messenger:24471", "rcs:unit-7"] {
            let address = parse(text).unwrap();
            assert_eq!(shown(&address, true), text);
            assert!(!shown(&address, false).contains("7700900"), "{text}");
        }
        assert_eq!(shown(&parse("07700 900123").unwrap(), true), "phone:+447700900123");
        for wrong in ["", "canary", "phone:canary", "No Such:canary", "sms:"] {
            assert!(!parse(wrong).unwrap_err().to_string().contains("canary"), "{wrong}");
        }
    }
}
