//! Opt-out keywords: stop messages, resume them, or ask for help.

mod normalised;
mod phrases;
mod reason;
mod request;
mod sentence;
mod vocabulary;

use self::normalised::Normalised;
use self::request::{Parser, Request};
use self::sentence::Sentence;
use self::vocabulary::Word;

/// The request of a keyword message: see [`keyword`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keyword {
    /// Opts out of messages.
    Stop,
    /// Opts in again.
    Start,
    /// Asks for the sender and for a way to opt out.
    Help,
}

/// Returns the keyword of a message, if the message as a whole is one.
///
/// A keyword inside a sentence about something else does not count: "please stop parking outside the school" is a
/// report. Case, full-width letters, apostrophes, and quotes, punctuation, emoji and invisible characters around the
/// words are ignored.
///
/// *Start* is START, UNSTOP or, in Welsh, DECHRAU, and nothing else; *Help* is HELP, INFO or CYMORTH, and nothing else.
/// YES is not a keyword, although some gateways treat it as START, because it answers questions.
///
/// *Stop* is a message that consists only of these parts, in any order, with at least one request:
///
/// - a request by name: STOP, STOPALL, UNSUBSCRIBE, OPTOUT, OPT OUT, and in Welsh STOPIO, STOPIWCH, ATAL and
///   DAD-DANYSGRIFIO. Its object, if any, must be messages to this person: "stop texting me", "stop all reminders",
///   "unsubscribe me from your list", "opt me out", "I want to stop receiving these texts";
/// - a request in other words, which must name the messages: "no more texts", "don't contact me again", "take me off your
///   list", "I no longer wish to receive messages", "leave me alone";
/// - a courtesy or an emphasis: "please", "hello", "thank you very much", "now", "os gwelwch yn dda";
/// - a reason: "wrong number", "not interested", "I have moved", "this number is not mine", "who is this?";
/// - the signature of a phone or a mail program at the end: "Sent from my iPhone", "Get Outlook for iOS"; and "Regards" or
///   "Thanks" with a name.
///
/// An unknown name is allowed in a signature, before "Council", and as a place that somebody moved to. A letter may be
/// repeated, as in "stoppp", and STOP may be spaced, as in "S T O P".
///
/// Any other word makes it a message for a person to read: "stop sending letters", "stop bin reminders", "unsubscribe
/// from the library newsletter". A question or a wish must name the messages: "can you stop?" and "I want to stop" are
/// messages, "can you stop texting me?" is a request.
///
/// CANCEL, END, QUIT, REMOVE and REVOKE are not keywords, because residents use them for bookings and reports. If a
/// gateway acts on such a word, its adapter reports the opt-out: see [`is_one_of`].
///
/// The English words are those of CTIA, Twilio and AWS; the United Kingdom prescribes no list. **The Welsh words are a
/// convention of this crate, UNVERIFIED**; DIM MWY ("no more") alone is left out because it answers questions. This
/// function only recognises keywords: acting on them is up to the caller.
///
/// It stops at the first word that no request contains, usually one of the first few, ignores messages over 512 bytes,
/// and allocates nothing.
///
/// ```
/// use civic_messaging::medium::sms::{Keyword, keyword};
///
/// assert_eq!(keyword(" “Stop.” "), Some(Keyword::Stop));
/// assert_eq!(keyword("Stop all messages please"), Some(Keyword::Stop));
/// assert_eq!(keyword("Wrong number. Please take me off your list"), Some(Keyword::Stop));
/// assert_eq!(keyword("Please stop parking outside the school"), None);
/// assert_eq!(keyword("Cancel my appointment"), None);
/// assert_eq!(keyword("yes"), None);
/// ```
#[must_use]
pub fn keyword(text: &str) -> Option<Keyword> {
    let sentence = Sentence::read(text)?;
    match sentence.words() {
        [Word::Start | Word::Unstop] => Some(Keyword::Start),
        [Word::Help] => Some(Keyword::Help),
        words => Parser { words, at: 0 }.opt_out().map(|_| Keyword::Stop),
    }
}

/// Returns the keyword of a button's or list row's title.
///
/// Stricter than [`keyword`], because we wrote the title for another purpose: only a request by name stops, and only
/// UNSTOP starts.
pub(crate) fn title_keyword(title: &str) -> Option<Keyword> {
    let sentence = Sentence::read(title)?;
    match sentence.words() {
        [Word::Unstop] => Some(Keyword::Start),
        words => Parser { words, at: 0 }.opt_out().filter(|request| *request == Request::Named).map(|_| Keyword::Stop),
    }
}

/// Returns `true` if a message is exactly one of these words, with [`keyword`]'s rules for case and punctuation.
///
/// For gateways that act on their own words, such as END: the adapter reports an opt-out where the gateway blocks the
/// person anyway. A hyphen in a word counts as a space.
///
/// ```
/// use civic_messaging::medium::sms::is_one_of;
///
/// assert!(is_one_of(" “End.” ", &["QUIT", "END"]));
/// assert!(is_one_of("opt out", &["OPT-OUT"]));
/// assert!(!is_one_of("The end of Mill Lane", &["QUIT", "END"]));
/// ```
#[must_use]
pub fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| Normalised::new(word).eq(Normalised::new(text)))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const OPT_OUTS: &[&str] = &[
        "STOP", "stop", " Stop. ", "“STOP”", "‘stop’!!", "(stop)", "STOP 🛑", "ＳＴＯＰ", "ST\u{200B}OP", "\u{FEFF}stop\r\n",
        "ℹ️ STOP", "🆗 stop", "STOPALL", "stop  ALL", "STOP-ALL", "stop!!!", "Stop?", "STOP STOP", "stop. stop. stop.", "STOP SMS",
        "stop msgs", "stop reminders", "stop alerts", "Stop the reminders please", "STOP or UNSUBSCRIBE", "stop & unsubscribe",
        "Stop all texts now, thank you", "stop please", "Please stop", "Ok. Stop", "Hi, please STOP. Many thanks",
        "stop sending me messages", "stop sending", "stop sending me", "stop sending me these", "Stop sending these to me",
        "stop sending texts to this number", "Stop texting me", "stop txting me!!", "Stop messaging this number",
        "stop contacting me", "stop texting my phone", "stop these annoying texts",
        "stop all of your text messages immediately", "stop the messages that you keep sending me", "stop reminding me",
        "stop council texts", "stop texts from the council", "STOP to 60777", "STOP to unsubscribe", "Text STOP", "reply stop",
        "Stop\nSent from my iPhone", "STOP\r\n\r\nSent from my Galaxy", "Stop. Sent from my Galaxy S24 Ultra",
        "Unsubscribe\n\nGet Outlook for iOS", "stop\nSent from Yahoo Mail on Android", "stop\nSent via BT Email App",
        "Please stop.\nRegards\nM. Example", "stop\nKind regards, A Resident", "Stop\nAnfonwyd o fy iPhone",
        "Wrong number. Stop", "Stop, wrong number", "Stop, this is the wrong number", "STOP you have the wrong person",
        "stop, not interested", "I'm not interested. Unsubscribe", "Who is this? Stop texting me", "Stop. Who are you?",
        "unsubscribe", "Unsubscribe me please", "please unsubscribe me", "un-subscribe", "unsubscribe from your list",
        "unsubscribe me from this mailing list", "unsubscribe me from these texts", "UNSUBSCRIBE ALL",
        "I want to unsubscribe", "I would like to unsubscribe please", "I’d like to opt out", "can I unsubscribe",
        "please can I be removed from your list", "I want to be unsubscribed",
        "OPTOUT", "opt out", "OPT-OUT", "opt me out", "Opt out of all messages", "opting out", "I'm opting out",
        "no more texts please", "No more messages", "no more text messages from you", "no further reminders",
        "Do not contact me again", "Don't text me", "DONT MESSAGE ME ANYMORE", "don’t send me any more texts",
        "I don't want these messages", "I do not wish to receive any more texts", "I no longer want reminders",
        "I don't want to be contacted", "I don't want you to text me", "i dont want to get texts",
        "I want to stop receiving these messages", "I want these texts to stop", "Can you stop texting me please",
        "could you please stop sending me messages", "I said STOP", "leave me alone",
        "take me off your list", "Please take me off your mailing list", "take my number off your list", "take me off",
        "remove me", "remove this number", "Wrong number, please remove my number from your list",
        "cease texting me", "quit texting me", "end these messages", "cancel all texts",
        "STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP",
        "stop x", "Stop! I don't want these", "STOP. I never signed up for this", "this isn't me, stop", "Stop, not for me",
        "stop all communication", "opt me out of future messages", "stop this text service", "stop texts and reminders",
        "stop texting and messaging me", "I want to stop getting these", "I want no more messages", "want to unsubscribe",
        "would like to opt out", "Do not contact", "never text me again", "take me off this", "STOPP", "sotp",
        "STOPIO", "Stopiwch", "Stopio os gwelwch yn dda", "STOPIO os gwelwch yn dda. Diolch yn fawr", "ATAL", "atal, diolch",
        "dad-danysgrifio", "Dad danysgrifio", "stopiwch anfon negeseuon", "atal pob neges", "dim mwy o negeseuon",
        "Peidiwch ag anfon negeseuon", "Rhif anghywir. Stopiwch", "hoffwn ddad-danysgrifio", "STOP / STOPIO",
    ];

    #[rustfmt::skip]
    const MESSAGES: &[&str] = &[
        "", " ... ", "🙂", "please stop parking outside the school", "stop parking outside the school", "The bus stop",
        "bus stop", "I can't find the bus stop", "What time does the bus stop?", "Stop the bins", "stopped", "stopyou",
        "non-stop", "don't stop", "Don't stop the service", "please don't stop texting me", "don't unsubscribe me",
        "stop?start", "stop.com", "stop it", "stop this", "stop here", "stop the", "stop you", "stop 4",
        "stop the noise", "stop sending letters", "stop sending me letters about bins", "stop the emails", "stop calling me",
        "stop bin reminders", "stop reminders about my bins", "stop texting my mum", "stop texting me at night",
        "Please stop the lorry outside number 4", "Can you stop the leak?", "Can you stop?", "can you stop it please",
        "I want to stop", "I want to stop my direct debit", "I need to stop smoking", "Why did you stop texting me?",
        "when will you stop sending texts", "Stop. There is a fire in Mill Lane", "stop the service", "stop the texts sent from school",
        "cancel", "cancel please", "Cancel my appointment", "cancel my reminder", "CANCEL", "end", "End.", "the end",
        "end of Mill Lane", "The end of Mill Lane is blocked", "QUIT", "quit it", "revoke", "remove", "please remove",
        "Remove the fly tipping", "remove my bin", "REMOVE", "take me", "can you take me", "take me off the waiting list",
        "can you remove me", "remove me from the housing register", "take messages", "unsubscribe from the library newsletter?",
        "unsubscribe from email", "opt out of the garden waste service", "opt outs", "opt in", "out", "opt",
        "no more", "no more letters", "no more bins", "no texts", "no", "No thanks", "not interested", "wrong number",
        "any more messages?", "text me", "message me please", "send me a text", "send reminders", "texts", "reminders please",
        "I do not want the appointment", "I don't want to stop", "I never got the text", "leave me a message",
        "start on Monday", "start start", "help me please", "please help", "yes", "YES please", "no stop", "dim mwy",
        "do not update me", "Don't text me, ring me", "I don't get any texts", "I no longer get reminders", "I'm not receiving messages",
        "I don't want these", "I do not want to stop receiving messages", "who is this?", "I got your text", "stop at number 4",
        "stop my number", "stop off", "no more updates needed", "how do I unsubscribe", "You stop texting me", "stop everything",
        "Sent from my iPhone", "Regards", "stop\nget the bins moved", "atal y gollyngiad", "stopiwch y lori", "STOP ŵ",
    ];

    #[rustfmt::skip]
    const OPT_OUTS_WITH_MORE: &[&str] = &[
        "I want you to stop texting me", "please stop these messages, I have moved", "I've moved, stop", "STOP I moved",
        "I no longer live there. Please stop texting", "stop this number is not mine",
        "stop texts from shropshire council", "Please stop txting this no", "Stop\nThanks\nJane",
        "Stop. Kind regards Jane Smith", "Remove my number from your database", "I'm unsubscribing", "STOP 2 END",
        "stoppp", "S T O P", "s.t.o.p.", "Stooooop!!!", "stopppppppppppppppppppppppp", "stop pleaseee",
        "stopiwch anfon negeseuon ataf", "Stopiwch decstio fi", "peidiwch â thecstio fi", "Peidiwch â chysylltu â mi",
        "dim mwy o decstiau", "tynnwch fi oddi ar y rhestr", "Hi, I would like you to stop sending me texts please",
        "We have moved house, please stop texting us", "I don't live in Shropshire any more, please stop texting me",
        "She no longer lives here. Stop", "my mother has died please stop texting", "STOP - this isn't my number",
        "Stop texting me, this phone is not mine", "this number does not belong to me, stop",
        "stop messages from Telford and Wrekin Council", "Hi Shropshire Council, please stop texting me",
        "Dear Shropshire Council, please unsubscribe me. Yours sincerely Jane Smith",
        "please stop texting me. Thanks Jane", "Please remove me from your system", "take my details off your list",
        "I do not want to be on your list", "Stop texting me I've moved to Birmingham",
        "I have moved out of the area, please stop sending me messages", "I moved away. Unsubscribe",
        "not at this address any more. stop", "stop sending messages to this no", "Dwi ddim eisiau negeseuon",
        "Dwi wedi symud, stopiwch", "rhowch y gorau i anfon negeseuon ataf", "peidiwch ag anfon tecstiau ataf eto",
        "stopiwch y negeseuon oddi wrth y cyngor", "Stop texting me please, I'm not the right person",
        "Stop. Many thanks, Mrs Jane Smith", "STOP to end", "Stop Thanks Siân",
        "Could you please stop texting me, I no longer live in Telford", "would you stop sending these messages please",
        "Please can you stop sending me text messages", "Please could you take me off this list",
        "can you take my number off your system please", "Please remove my number from your records",
        "please delete my number", "Please delete my number from your list, I have moved",
        "I wish to be removed from your list", "I want to be taken off the list", "take us off your mailing list",
        "we do not live there any more, please stop texting us", "We've moved house. Please stop these texts",
        "I have left the area please stop messages", "Stop please I don't live in the area",
        "I don't live there now so stop texting", "STOP. I am no longer a resident",
        "You have the wrong number please stop texting", "Wrong number. Stop texting",
        "I think you have the wrong number, please stop", "this isn't Jane, stop texting",
        "I am not Jane. Stop texting me", "Stop texting me. I'm not Jane Smith", "stop it's the wrong number",
        "sorry wrong number stop", "Please stop all messages to this number", "Stop sending messages to my phone",
        "stop texting this number thanks", "please stop sending texts to this number as I have moved",
        "please stop texting me because I have moved", "Stop as I have moved",
        "please unsubscribe me as I no longer live there", "unsubscribe me from all texts", "unsubscribe this number",
        "Unsubscribe my number please", "please opt me out of these texts", "opt out please",
        "I'd like to opt out of receiving texts", "I no longer want to receive texts from you",
        "I don't want any more messages from you", "I dont want any messages from the council",
        "no more messages from you thank you", "no more of these texts please", "Stop\n\nRegards,\nJane",
        "Hello, please stop texting me. Thank you, Jane Smith", "Hi there please stop thanks",
        "Good morning. Please stop texting me. Kind regards. J Smith", "stop!!! stop!!! stop!!!", "sToP", "STOP.",
        "stop stop stop texting me", "Stop all", "Stop all texts", "Quit texting me", "stop bothering me",
        "Stop spamming me", "stop with the texts", "please do not text me", "please don't text this number",
        "please do not send me any more texts", "Please do not contact me again by text", "dont send me texts",
        "never message me again", "I never signed up for this, stop", "I didn't ask for these texts. Stop",
        "I did not sign up for these messages stop", "I have not signed up to this. Stop", "Who is this? Stop",
        "Who's this? Stop texting", "this is not my number, please stop", "You've got the wrong number, remove me",
        "not interested stop", "not interested, take me off your list", "stop now", "stop immediately",
        "I would like to stop receiving these messages please", "I'd like you to stop texting me",
        "We want you to stop messaging us", "I need you to stop texting me", "Pls stop txting me", "plz stop",
        "stop plz", "peidiwch â tecstio fi", "peidiwch ag anfon mwy o negeseuon",
        "Dim mwy o negeseuon os gwelwch yn dda", "dim rhagor o negeseuon", "stopiwch anfon tecstiau ataf i",
        "stopiwch anfon negeseuon ata i", "Stopiwch os gwelwch yn dda", "stopiwch y tecstiau", "stopiwch y negeseuon",
        "Rydw i eisiau stopio derbyn negeseuon", "dwi ddim eisiau mwy o negeseuon", "dydw i ddim eisiau negeseuon",
        "Nid wyf eisiau derbyn negeseuon", "hoffwn stopio derbyn negeseuon", "tynnwch fy rhif oddi ar eich rhestr",
        "tynnwch fi oddi ar eich rhestr", "dileu fy rhif", "dad-danysgrifio fi", "Peidiwch â chysylltu â fi",
        "peidiwch â chysylltu â mi eto", "Rhif anghywir, stopiwch", "Rwyf wedi symud, stopiwch",
        "Dwi ddim yn byw yno, stopiwch", "stopiwch anfon negeseuon i mi", "stopiwch anfon negeseuon i'r rhif hwn",
        "peidiwch a tecstio fi", "peidiwch a fy nhecstio", "gadewch lonydd i mi", "rhowch y gorau i decstio fi",
        "s-t-o-p", "S.T.O.P", "S T O P please", "STOP 2 UNSUBSCRIBE", "text STOP to end", "STOP TO OPT OUT", "sttop",
        "stop.stop", "stop pls ta",
        "Stop. Thank you. Jane", "STOP my number has changed", "I moved out of Shropshire, stop the texts",
        "stopiwch y negeseuon hyn", "Peidiwch â fy nhecstio i", "dim mwy o decsts", "Rwy'n dymuno optio allan",
        "a wnewch chi stopio anfon negeseuon ataf", "Allwch chi stopio tecstio fi", "Stopiwch gysylltu â mi",
        "Stop. Best wishes, Jane", "stop texts from Telford & Wrekin Council",
    ];

    #[rustfmt::skip]
    const MESSAGES_LIKE_OPT_OUTS: &[&str] = &[
        "the bus stop", "stop the bin lorry blocking my road", "please stop my direct debit", "stop the parking fine",
        "Can you stop my neighbour", "I want to stop my garden waste collection", "when does it stop",
        "can you stop the noise", "please stop sending the bill to my old address", "remove my bin", "don't stop",
        "stop and search", "the stop has moved", "stop has moved", "stop moved", "The bus stop has moved",
        "I want you to stop", "I want you to stop the noise", "I've moved",
        "I have moved house, what do I do about council tax", "I've moved, stop my council tax",
        "I have moved, please stop my direct debit", "Stop I moved the bin", "my neighbour has moved, stop the noise",
        "stop in Telford", "stop to let people on", "Can you stop here", "stop at the house", "stop in the area",
        "stop from Jane", "stop texts from school", "remove my details", "remove my name from the electoral register",
        "remove me from the council tax list", "stop regards my bins", "my number is not working",
        "this number is not mine", "Thanks Jane", "stop living here", "I no longer live there",
        "I no longer live there, please stop the bill", "stop this house", "stop 2", "stop 4", "stop the system",
        "the system is not mine", "remove this house from your system", "Please remove the bin from my address",
        "please stop sending letters, I've moved", "stop texting my mum", "can you stop texting my mother",
        "we want to stop", "we have to stop", "Stop new house", "she left me alone", "leave my bin alone",
        "Stop, my mum has died and I need help", "please refrain from parking", "our bins", "stop?parking",
        "I am not a resident. stop the noise", "Thanks for stopping the noise", "how do I stop texts",
        "stop sending him messages", "do they stop here", "does it stop here", "they stop here", "has it stopped",
        "stop to house", "has the bus stop moved", "is the stop here", "stop in", "stop x ray",
        "I have moved house, please stop my garden waste subscription", "stop the council", "stop council tax",
        "stop the new houses", "Please stop the traffic on my road", "stop the texts to my mum",
        "stop texts about bins", "please stop texting about bins", "stop my bin reminders",
        "I have moved, please update my number", "please update my number", "I changed my number", "wrong number plate",
        "remove my name from the list of applicants", "please remove my car from your system", "please remove the data",
        "Who is this", "Please remove me from the waiting list", "stop letting people park here", "stop at my house",
        "stop in my road", "The bus doesn't stop here", "the bus does not stop at my house",
        "does the bus still stop there", "stop sign missing", "stop sign", "the stop", "next stop", "my stop",
        "stop outside my house", "you must stop", "they must stop", "this has to stop", "it has to stop",
        "this must stop", "I want this to stop", "I want it to stop", "make it stop", "can it stop", "will it stop",
        "stop the rubbish", "please stop sending me council tax bills", "please stop sending bills to my mother",
        "please stop sending post to this address", "stop sending letters to this address", "stop collecting my bin",
        "how can I stop texts", "can I stop the texts about bins only", "stop marketing texts", "no more marketing",
        "cancel my texts about bins", "did you stop", "have you stopped texting", "why did you stop",
        "please do not stop", "never stop texting", "do not stop texting me", "don't remove me from your list",
        "please don't take me off the list", "I don't want to opt out", "I do not wish to unsubscribe", "not stop",
        "can you text me", "text me when it stops", "stop or start", "start or stop", "STOP START", "stop and give way",
        "thanks for the text", "thanks Jane", "kind regards Jane", "Hi Jane", "I have moved to Telford",
        "my husband has died", "my mother has died, who do I tell", "my mother has died, can you stop her pension",
        "my dad has died, stop his bins", "she has passed away", "he no longer lives here",
        "he no longer lives here, stop his council tax", "I am not the tenant", "stop him", "stop her", "stop them",
        "stop he has moved the bins", "please stop him texting me", "stop my neighbour texting me",
        "stop people texting", "Can you stop Jane texting me", "a man keeps texting me, stop him", "stop the boy",
        "gadewch y bin", "stopiwch y bws", "stopiwch y sŵn", "peidiwch â stopio", "peidiwch â stopio anfon negeseuon",
        "peidiwch stopio", "safle bws stop", "dim biniau", "dim negeseuon am finiau", "tynnwch y bin",
        "tynnwch y bin oddi ar y ffordd", "dwi ddim eisiau bin", "rhif anghywir", "dwi wedi symud",
        "stopiwch anfon biliau", "lle mae'r bws yn stopio", "mae'r bws yn stopio", "stop go", "full stop", "stop full",
        "stop by", "stop by tomorrow", "stop over", "stop in the name of the law", "stop to think", "stop for a minute",
        "stop for now", "stop on", "stop work", "stop the work", "stop this work", "stop the planning application",
        "I want to stop the planning application", "I would like you to stop the fly tipping",
        "I want you to stop sending letters", "I want you to stop emailing me", "please stop emailing me",
        "please stop calling me", "please stop ringing", "stop phoning me", "I have moved my bin stop",
        "I live in Mill Lane", "stop as you like", "Stop think", "so what", "so stop the noise", "so the bus stop",
        "as the bus stop", "did you get my text", "did the bus stop", "I didn't ask for a new bin",
        "I didn't sign up for garden waste", "I did not ask for this", "leave the bin alone", "stop by the school",
        "stop because of the noise", "I have left the bin out", "left the house",
        "I didn't sign up for this, stop the bill", "please stop as my bin", "stop this", "how do I stop this",
        "I asked for a bin", "Stop. I'm not happy", "I'm not sure, stop", "I'm not Jane",
        "I'm not happy, please stop the noise", "stop this isn't working",
        "stop the man from Telford Council", "stop from the council", "stop calls from the council",
        "stop the calls from Telford Council", "I have a new phone", "my number has changed",
        "remove my number from the bin list", "remove me from your waiting list", "remove my address from your system",
        "please remove my house from your list", "delete my account", "delete my data", "delete my details",
        "take my bin off your list", "take me off the garden waste list", "take my house off the list", "stop the list",
        "stop my mother", "stop my number", "stop the number 7 bus", "stop number 7",
        "is there a bus stop near the house", "the stop at the house is gone", "stop new texts about bins",
        "stop texting about my bins", "stop that", "stop being silly", "stop to me", "stop at this address",
        "stop deliveries to this address", "not at this address", "we have moved out of the house",
        "we have moved, can you stop my bins", "we moved out, stop the bins", "stop we have moved the bins out",
        "stop from telford", "stop in Telford to the house", "there is no stop in Telford", "I live at the stop",
        "you stop here", "he stopped", "2 stop", "4 stop", "it is not my house, stop the bill", "this is not my bin",
        "this is not my bin, please stop", "this is not mine", "the bin is not mine, stop",
        "stop the bill it is not mine", "can you stop it its not mine", "peidiwch", "peidiwch â phoeni",
        "peidiwch â pharcio yma", "peidiwch â symud y bin", "tynnwch", "dileu", "symud", "dwi eisiau stopio",
        "stopiwch chi", "stopiwch fi",
    ];

    #[test]
    fn request_with_reason_or_signature_is_stop() {
        for text in OPT_OUTS_WITH_MORE {
            for text in [shouted(text, true), shouted(text, false), (*text).to_owned()] {
                assert_eq!(keyword(&text), Some(Keyword::Stop), "{text:?}");
            }
        }
        for text in MESSAGES_LIKE_OPT_OUTS {
            for text in [shouted(text, true), shouted(text, false), (*text).to_owned()] {
                assert_eq!(keyword(&text), None, "{text:?}");
            }
        }
    }

    #[test]
    fn request_to_stop_messages_is_stop() {
        for text in OPT_OUTS {
            assert_eq!(keyword(text), Some(Keyword::Stop), "{text:?}");
        }
    }

    #[test]
    fn sentence_about_anything_else_is_a_message() {
        for text in MESSAGES {
            assert_eq!(keyword(text), None, "{text:?}");
        }
        assert_eq!(keyword(&format!("stop {}", "please ".repeat(1_000))), None);
        assert_eq!(keyword(&"stop now ".repeat(1_000)), None);
    }

    #[test]
    fn phrases_of_the_fixture_agree() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/opt_out_phrases.json");
        let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let phrases = |list: &serde_json::Value| {
            let phrases: Vec<_> =
                list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
            assert!(phrases.len() >= 4);
            phrases
        };
        for text in phrases(&file["opt_out"]) {
            assert_eq!(keyword(&text), Some(Keyword::Stop), "{text:?}");
        }
        let some = &file["opt_out_only_where_the_gateway_acts_on_it"];
        for list in [&file["message"], &some["elsewhere_a_message"], &some["twilio"], &some["aws"]] {
            for text in phrases(list) {
                assert_eq!(keyword(&text), None, "{text:?}");
            }
        }
    }

    #[test]
    fn start_and_help_are_whole_messages() {
        for start in ["START", "unstop!", "Dechrau"] {
            assert_eq!(keyword(start), Some(Keyword::Start), "{start:?}");
        }
        for help in ["HELP", "help?", "Info", "cymorth"] {
            assert_eq!(keyword(help), Some(Keyword::Help), "{help:?}");
        }
    }

    #[test]
    fn title_stops_only_by_name() {
        for title in [
            "STOP",
            "Stop",
            "Unsubscribe",
            "Opt out",
            "OPT OUT",
            "Stopio",
            "ATAL",
            "Stopiwch",
            "Dad-danysgrifio",
            "STOP / STOPIO",
            "Stop messages",
            "🛑 Stop",
        ] {
            assert_eq!(title_keyword(title), Some(Keyword::Stop), "{title}");
        }
        for title in [
            "Cancel",
            "End",
            "Remove",
            "Quit",
            "Revoke",
            "Remove me",
            "No more reminders",
            "Cancel reminders",
            "Start",
            "START",
            "Dechrau",
            "Help",
            "Stop the clock",
            "Bus stop",
        ] {
            assert_eq!(title_keyword(title), None, "{title}");
        }
        assert_eq!(title_keyword("UNSTOP"), Some(Keyword::Start));
    }

    #[test]
    fn gateway_keyword_is_the_whole_message() {
        let words = ["END", "QUIT", "CANCEL", "OPT-OUT", "ARRET"];
        for text in ["END", "end", " End. ", "“quit”", "🛑 Cancel!", "opt out", "Opt-Out", "ＥＮＤ"] {
            assert!(is_one_of(text, &words), "{text}");
        }
        for text in ["", "the end", "end please", "cancel my appointment", "ended", "optout", "ENDQUIT", "END QUIT"] {
            assert!(!is_one_of(text, &words), "{text}");
        }
    }

    fn shouted(text: &str, upper: bool) -> String {
        if upper { text.to_uppercase() } else { text.to_lowercase() }
    }

    proptest! {
        #[test]
        fn decoration_does_not_change_the_result(
            at in 0..OPT_OUTS.len(), other in 0..MESSAGES.len(), upper in any::<bool>(),
            before in "[ \t\"“‘(*_🛑👍🙏❗️]{0,4}", after in "[ \n\"”’)*_.!,😡🛑👍🏽❗️…]{0,6}",
        ) {
            for (text, expected) in [(OPT_OUTS[at], Some(Keyword::Stop)), (MESSAGES[other], None)] {
                for text in [text.to_owned(), shouted(text, upper)] {
                    prop_assert_eq!(keyword(&format!("{before}{text}{after}")), expected, "{:?}", text);
                }
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>(), word in any::<String>()) {
            let _ = (keyword(&text), title_keyword(&text), is_one_of(&text, &[&word]));
            prop_assert!(Normalised::new(&text).eq(Normalised::new(&text.clone())) && is_one_of(&text, &[&text]));
        }
    }
}
