//! The words that requests consist of, by their role.

/// Returns the role of a vocabulary word.
pub(super) fn listed(letters: &[u8]) -> Option<Word> {
    let (from, to) = BY_FIRST_LETTER.get(usize::from(letters.first()?.wrapping_sub(b'a')))?;
    let candidates = VOCABULARY.get(*from..*to)?;
    candidates.iter().find(|(word, _)| word.as_bytes() == letters).map(|(_, word)| *word)
}

/// The words of requests, courtesies, reasons and signatures, by their role. `Name` is any other word.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Adjective, All, Alone, Am, And, Anghywir, Anymore, Are, At, Away, Be, Belong, By, Can, Cease, Changed, Council,
    Cyngor, Dad, Danysgrifio, Dda, Dear, Details, Device, Didnt, Died, Do, Dont, Else, Everything, For, From, Good,
    Got, Gwelwch, Has, Have, He, Hello, Help, House, I, Id, Im, In, Interested, Is, Isnt, It, Its, Ive, Keep, Kin,
    Kind, Leave, Like, List, ListKind, Live, Longer, Many, Me, Mine, Model, More, Morning, Moved, Much, My, Name, New,
    No, Not, Notice, Now, Number, Of, Off, On, Once, Opt, Os, Out, Passed, Peidiwch, Person, Please, Receive, Regards,
    Remove, Removed, Reply, Rhif, Rhowch, Right, Said, Sending, Sent, Sign, Sir, Someone, Start, Stop, Subscribe,
    Take, Tenant, Text, Texted, Texting, Texts, Thanks, That, The, These, Think, This, Title, To, Too, Un, Unstop,
    Unsubscribe, Up, Very, Via, Want, Who, Whos, With, Would, Wrong, You, Your,
}

/// In alphabetical order.
#[rustfmt::skip]
pub(super) const VOCABULARY: &[(&str, Word)] = {
    use self::Word::*;
    &[
        ("a", And), ("abroad", Away), ("address", House), ("addresses", House), ("afternoon", Morning), ("ag", And),
        ("again", Now), ("alert", Notice), ("alerting", Texting), ("alerts", Texts), ("all", All), ("allan", Out),
        ("allwch", Can), ("alone", Alone), ("altogether", Now), ("am", Am), ("and", And), ("android", Device),
        ("anfon", Sending), ("anghywir", Anghywir), ("annoying", Adjective), ("annwyl", Dear), ("any", The),
        ("anymore", Anymore), ("app", Device), ("ar", From), ("are", Are), ("area", House), ("as", And),
        ("asap", Now), ("ask", Sign), ("asked", Sign), ("at", At), ("ata", Me), ("ataf", Me), ("atal", Stop),
        ("ataliwch", Stop), ("automated", Adjective), ("automatic", Adjective), ("away", Away), ("be", Be),
        ("because", And), ("belong", Belong), ("belongs", Belong), ("best", Kind), ("blackberry", Device),
        ("bloody", Adjective), ("borough", House), ("bothering", Texting), ("but", And), ("by", By), ("byth", Now),
        ("byw", Live), ("can", Can), ("cancel", Cease), ("cease", Cease), ("cell", Number), ("changed", Changed),
        ("cheers", Thanks), ("chi", You), ("child", Kin), ("chysylltu", Texting), ("city", House),
        ("cofion", Regards), ("communication", Notice), ("communications", Texts), ("completely", Now),
        ("constant", Adjective), ("contact", Text), ("contacted", Texted), ("contacting", Texting),
        ("contacts", List), ("cos", And), ("could", Can), ("council", Council), ("county", House),
        ("customer", Tenant), ("cymorth", Help), ("cyngor", Cyngor), ("cynnes", Kind), ("cysylltu", Texting),
        ("dad", Dad), ("daddanysgrifio", Unsubscribe), ("danfon", Sending), ("danysgrifio", Danysgrifio),
        ("danysgrifiwch", Danysgrifio), ("data", Details), ("database", List), ("databases", List), ("daughter", Kin),
        ("daughters", Kin), ("dda", Dda), ("ddad", Dad), ("dderbyn", Receive), ("ddim", Dont), ("dear", Dear),
        ("dechrau", Start), ("decst", Notice), ("decstiau", Texts), ("decstio", Texting), ("decsts", Texts),
        ("delete", Remove), ("derbyn", Receive), ("destun", Notice), ("details", Details), ("device", Device),
        ("did", Do), ("didnt", Didnt), ("died", Died), ("dileu", Remove), ("dilewch", Remove), ("dim", No),
        ("diolch", Thanks), ("distribution", ListKind), ("do", Do), ("does", Do), ("doesnt", Dont), ("dont", Dont),
        ("dr", Title), ("dw", I), ("dwi", I), ("dydw", I), ("dymuno", Want), ("effing", Adjective), ("eich", The),
        ("eisiau", Want), ("else", Else), ("email", Device), ("end", Cease), ("enw", Details), ("estate", House),
        ("eto", Now), ("evening", Morning), ("ever", Now), ("every", The), ("everything", Everything),
        ("faithfully", Regards), ("father", Kin), ("fawr", Much), ("fi", Me), ("flat", House), ("for", For),
        ("forever", Now), ("from", From), ("fucking", Adjective), ("further", More), ("future", More), ("fy", My),
        ("gadewch", Leave), ("galaxy", Device), ("gan", From), ("gennych", You), ("get", Receive),
        ("getting", Receive), ("gmail", Device), ("good", Good), ("gorau", Kind), ("got", Got), ("guy", Person),
        ("gwelwch", Gwelwch), ("gysylltu", Texting), ("halt", Cease), ("has", Has), ("have", Have), ("havent", Didnt),
        ("havnt", Didnt), ("he", He), ("hello", Hello), ("helo", Hello), ("help", Help), ("her", He), ("here", Sir),
        ("hey", Hello), ("hi", Hello), ("hiya", Hello), ("hoffwn", Id), ("home", House), ("house", House),
        ("huawei", Device), ("husband", Kin), ("hwn", This), ("hyn", These), ("i", I), ("id", Id), ("im", Im),
        ("imi", Me), ("immediately", Now), ("in", In), ("info", Help), ("interested", Interested), ("ios", Device),
        ("ipad", Device), ("iphone", Device), ("ir", To), ("is", Is), ("isio", Want), ("isnt", Isnt), ("it", It),
        ("its", Its), ("ive", Ive), ("just", Please), ("keep", Keep), ("kind", Kind), ("kindly", Please),
        ("lady", Person), ("landline", Number), ("leave", Leave), ("left", Moved), ("like", Like), ("list", List),
        ("lists", List), ("live", Live), ("lived", Live), ("lives", Live), ("living", Live), ("longer", Longer),
        ("lonydd", Alone), ("madam", Sir), ("mail", Device), ("mailing", ListKind), ("mam", Kin), ("man", Person),
        ("many", Many), ("max", Device), ("may", Can), ("me", Me), ("mesage", Text), ("mesages", Texts),
        ("message", Text), ("messaged", Texted), ("messageing", Texting), ("messages", Texts), ("messagin", Texting),
        ("messaging", Texting), ("mi", Me), ("mine", Mine), ("mini", Device), ("miss", Title), ("mms", Text),
        ("mobile", Number), ("more", More), ("morning", Morning), ("mother", Kin), ("moto", Device),
        ("motorola", Device), ("moved", Moved), ("moving", Moved), ("moyn", Want), ("mr", Title), ("mrs", Title),
        ("ms", Title), ("msg", Text), ("msging", Texting), ("msgs", Texts), ("much", Much), ("mum", Kin),
        ("mwy", More), ("my", My), ("name", Details), ("nawr", Now), ("need", Want), ("neges", Notice),
        ("negeseuon", Texts), ("neu", And), ("never", Dont), ("new", New), ("nhecstio", Texting), ("ni", Me),
        ("nid", Not), ("no", No), ("nokia", Device), ("nos", Number), ("not", Not), ("notification", Notice),
        ("notifications", Texts), ("notifying", Texting), ("now", Now), ("number", Number), ("o", Of), ("oddi", Off),
        ("of", Of), ("off", Off), ("ok", Hello), ("okay", Hello), ("old", New), ("on", On), ("once", Once),
        ("oneplus", Device), ("opt", Opt), ("opting", Opt), ("optio", Opt), ("optout", Unsubscribe), ("or", And),
        ("os", Os), ("our", My), ("out", Out), ("outlook", Device), ("owner", Tenant), ("paid", Peidiwch),
        ("parent", Tenant), ("passed", Passed), ("peidiwch", Peidiwch), ("permanently", Now), ("person", Person),
        ("pestering", Texting), ("phone", Number), ("pixel", Device), ("place", House), ("please", Please),
        ("plis", Please), ("pls", Please), ("plus", Device), ("plz", Please), ("pob", The), ("pro", Device),
        ("property", House), ("quit", Cease), ("r", Are), ("receive", Receive), ("receiving", Receive),
        ("recently", Now), ("recieve", Receive), ("recieving", Receive), ("records", List), ("refrain", Cease),
        ("regards", Regards), ("reminder", Notice), ("reminders", Texts), ("reminding", Texting), ("remove", Remove),
        ("removed", Removed), ("reply", Reply), ("resident", Tenant), ("rhagor", More), ("rhestr", List),
        ("rhestrau", List), ("rhif", Rhif), ("rhowch", Rhowch), ("right", Right), ("rwan", Now), ("rwy", I),
        ("rwyf", I), ("rwyn", I), ("rydw", I), ("said", Said), ("samsung", Device), ("send", Sending),
        ("sendin", Sending), ("sending", Sending), ("sent", Sent), ("service", List), ("she", He), ("sign", Sign),
        ("signed", Sign), ("silly", Adjective), ("since", Now), ("sincerely", Regards), ("sir", Sir),
        ("smartphone", Device), ("sms", Text), ("so", Very), ("someone", Someone), ("son", Kin), ("sony", Device),
        ("sorry", Hello), ("sotp", Stop), ("spam", Notice), ("spamming", Texting), ("sstop", Stop), ("start", Start),
        ("stop", Stop), ("stopall", Stop), ("stopio", Stop), ("stopior", Stop), ("stopiwch", Stop), ("stopp", Stop),
        ("stpo", Stop), ("straight", Right), ("sttop", Stop), ("stupid", Adjective), ("subscribe", Subscribe),
        ("such", The), ("symud", Moved), ("system", List), ("ta", Thanks), ("tablet", Device), ("take", Take),
        ("taken", Removed), ("tanysgrifio", Danysgrifio), ("team", Sir), ("tecst", Notice), ("tecstiau", Texts),
        ("tecstio", Texting), ("tecsts", Texts), ("tel", Number), ("telephone", Number), ("tenant", Tenant),
        ("testun", Notice), ("testunau", Texts), ("texing", Texting), ("text", Text), ("texted", Texted),
        ("textin", Texting), ("texting", Texting), ("texts", Texts), ("thank", Thanks), ("thanks", Thanks),
        ("thankyou", Thanks), ("that", That), ("the", The), ("thecstiau", Texts), ("thecstio", Texting),
        ("then", And), ("there", Sir), ("these", These), ("they", He), ("think", Think), ("this", This),
        ("those", The), ("thx", Thanks), ("to", To), ("today", Now), ("too", Too), ("town", House),
        ("truly", Regards), ("txt", Text), ("txtin", Texting), ("txting", Texting), ("txts", Texts), ("ty", Thanks),
        ("tynnu", Take), ("tynnwch", Take), ("type", Reply), ("u", You), ("ultra", Device), ("un", Un),
        ("unstop", Unstop), ("unsub", Unsubscribe), ("unsubcribe", Unsubscribe), ("unsubscribe", Unsubscribe),
        ("unsubscribed", Unsubscribe), ("unsubscribeme", Unsubscribe), ("unsubscribing", Unsubscribe),
        ("unsubsribe", Unsubscribe), ("unsuscribe", Unsubscribe), ("unwanted", Adjective), ("up", Up),
        ("update", Notice), ("updates", Texts), ("ur", Your), ("us", Me), ("usubscribe", Unsubscribe), ("very", Very),
        ("via", Via), ("village", House), ("want", Want), ("warm", Kind), ("we", I), ("wedi", Have), ("weve", Ive),
        ("whatsapp", Text), ("whatsapps", Texts), ("who", Who), ("whos", Whos), ("wife", Kin), ("will", Can),
        ("windows", Device), ("wish", Want), ("wishes", Regards), ("with", With), ("wnewch", Can), ("woman", Person),
        ("wont", Dont), ("would", Would), ("wrong", Wrong), ("wrth", From), ("wyf", I), ("x", Please),
        ("xperia", Device), ("xx", Please), ("xxx", Please), ("y", The), ("yahoo", Device), ("yma", Sir),
        ("yn", Very), ("yna", Sir), ("yno", Sir), ("you", You), ("your", Your), ("yours", Kind), ("youve", Its),
        ("yr", The),
    ]
};

/// The range of the words with each first letter.
#[allow(clippy::indexing_slicing, reason = "done when compiling, where an index out of bounds is an error")]
static BY_FIRST_LETTER: [(usize, usize); 26] = {
    let mut places = [(0, 0); 26];
    let mut at = 0;
    while at < VOCABULARY.len() {
        let letter = (VOCABULARY[at].0.as_bytes()[0] - b'a') as usize;
        if places[letter].1 == 0 {
            places[letter].0 = at;
        }
        at += 1;
        places[letter].1 = at;
    }
    places
};
