//! Twilio's spelling of addresses.

use std::borrow::Cow;

use super::Twilio;
use crate::model::address::{Address, Medium, Phone, WhatsAppUser};

/// The prefix of a WhatsApp address.
pub(super) const WHATSAPP: &str = "whatsapp:";

/// The prefix of an RCS address.
pub(super) const RCS: &str = "rcs:";

impl Twilio {
    /// Writes an address as Twilio expects it. On WhatsApp the phone number is preferred: that Twilio accepts a user id
    /// as a recipient is unverified.
    pub(super) fn written<'a>(&self, to: &'a Address) -> Cow<'a, str> {
        let id = to.as_phone().map_or_else(|| to.expose(), Phone::as_str);
        match self.info.medium {
            Medium::WhatsApp => Cow::Owned([WHATSAPP, id].concat()),
            _ => Cow::Borrowed(id),
        }
    }
}

/// Strips a prefix, ignoring case.
pub(super) fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Parses an address of Twilio's into its medium and address: `+44…`, `60777`, `GOV UK`, `whatsapp:+44…`, `rcs:+44…`,
/// and since July 2026 `whatsapp:GB.…` for a person who hides the number.
///
/// `WaId` and `ExternalUserId` (`whatsapp:GB.…`) identify the same person on WhatsApp; the address combines them.
pub(super) fn parse_address(text: &str, wa_id: Option<&str>, user_id: Option<&str>) -> Option<(Medium, Address)> {
    if let Some(id) = strip_prefix(text, WHATSAPP) {
        let parse = |id: &str| {
            let id = strip_prefix(id, WHATSAPP).unwrap_or(id);
            let number = Phone::from_digits(id).and_then(|phone| WhatsAppUser::new(Some(phone), None));
            number.or_else(|_| id.parse::<WhatsAppUser>()).ok()
        };
        let known = [Some(id), user_id, wa_id].map(|name| name.and_then(parse));
        let known = || known.iter().flatten();
        let phone = known().find_map(WhatsAppUser::phone).cloned();
        let user = WhatsAppUser::new(phone, known().find_map(WhatsAppUser::user_id)).ok()?;
        return Some((Medium::WhatsApp, user.into()));
    }
    if let Some(id) = strip_prefix(text, RCS) {
        // On RCS a person always has a phone number; an agent does not.
        return Some((Medium::other("rcs").ok()?, Address::Phone(Phone::from_digits(id).ok()?)));
    }
    // Any other prefix marks a medium that is not supported here.
    Some((Medium::Sms, Address::sms_sender(text).filter(|address| !address.expose().contains(':'))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_names_person_and_medium() {
        let parse = |text: &str, wa_id| {
            parse_address(text, wa_id, None).map(|(medium, address)| {
                (medium, format!("{} {}", address.expose(), matches!(address, Address::Other(_))))
            })
        };
        let sms = |id: &str, other: bool| Some((Medium::Sms, format!("{id} {other}")));
        let whatsapp = |id: &str| Some((Medium::WhatsApp, format!("{id} false")));
        assert_eq!(parse("+447700900123", None), sms("+447700900123", false));
        assert_eq!(parse("60777", None), sms("60777", false));
        assert_eq!(parse("GOV UK", None), sms("GOV UK", false));
        // Numbers in use that the tables for typed numbers refuse.
        assert_eq!(parse("+447700201000", None), sms("+447700201000", false));
        assert_eq!(parse("whatsapp:+447700201000", None), whatsapp("+447700201000"));
        assert_eq!(parse("T-Mobile", None), sms("T-Mobile", true));
        assert_eq!(parse("whatsapp:+447700900123", Some("447700900123")), whatsapp("+447700900123"));
        assert_eq!(parse("whatsapp:+447700900123", Some("447700900789")), whatsapp("+447700900123"));
        assert_eq!(parse("whatsapp:GB.1349", Some("GB.1349")), whatsapp("GB.1349"));
        for (text, wa_id, user_id) in [
            ("whatsapp:GB.1349", Some("447700900123"), None),
            ("whatsapp:+447700900123", Some("447700900123"), Some("whatsapp:GB.1349")),
            ("whatsapp:+447700900123", None, Some("GB.1349")),
            ("whatsapp:GB.1349", None, Some("whatsapp:+447700900123")),
            ("whatsapp:?", Some("447700900123"), Some("whatsapp:GB.1349")),
        ] {
            let (_, both) = parse_address(text, wa_id, user_id).unwrap();
            assert_eq!((both.expose(), both.as_phone().unwrap().as_str()), ("GB.1349", "+447700900123"), "{text}");
        }
        let (_, without_id) = parse_address("whatsapp:+447700900123", Some("?"), Some("whatsapp:?")).unwrap();
        assert_eq!(without_id.expose(), "+447700900123");
        let rcs = |id: &str, other: bool| Some((Medium::other("rcs").unwrap(), format!("{id} {other}")));
        assert_eq!(parse("rcs:+447700900123", None), rcs("+447700900123", false));
        assert_eq!(parse("O2+", None), sms("O2+", true));
        assert_eq!(parse("AT&T Info", None), sms("AT&T_Info", true));
        for unknown in ["", " ", "whatsapp:", "whatsapp:?", "messenger:1", "rcs:", "rcs:agent"] {
            assert_eq!(parse(unknown, None), None, "{unknown}");
        }
    }
}
