//! Fixed phrases around a request.

use super::vocabulary::Word;

/// Courtesies, emphasis and conjunctions of requests, longer phrases first.
pub(super) const COURTESIES: &[&[Word]] = {
    use self::Word::*;
    &[
        &[Please],
        &[Thanks, You, Very, Much],
        &[Thanks, Very, Much],
        &[Thanks, You],
        &[Thanks],
        &[Many, Thanks],
        &[No, Thanks, You],
        &[No, Thanks],
        &[Hello, Sir],
        &[Hello, Council],
        &[Hello, Name, Council],
        &[Hello, Name, Name, Council],
        &[Dear, Name, Council],
        &[Dear, Name, Name, Council],
        &[Hello],
        &[Dear, Sir],
        &[Dear, Council],
        &[Dear, All],
        &[Good, Morning],
        &[Now],
        &[Anymore],
        &[The, More],
        &[Right, Now],
        &[Right, Away],
        &[At, Once],
        &[At, All],
        &[For, Good],
        &[By, Text],
        &[Via, Text],
        &[From, Now, On],
        &[Os, Gwelwch, Very, Dda],
        &[And],
    ]
};

pub(super) const REASONS: &[&[Word]] = {
    use self::Word::*;
    &[
        &[Wrong, Number],
        &[Wrong, Person],
        &[Wrong, No],
        &[Rhif, Anghywir],
        &[Not, The, Right, Person],
        &[Not, The, Right, Number],
        &[Not, Tenant],
        &[Not, The, Tenant],
        &[Not, And, Tenant],
        &[No, Longer, Tenant],
        &[No, Longer, The, Tenant],
        &[No, Longer, And, Tenant],
        &[No, Longer, Want, These],
        &[No, Longer, Want, This],
        &[Changed, My, Number],
        &[Changed, Number],
        &[My, Number, Has, Changed],
        &[New, Number],
        &[Too, Many, Texts],
        &[Moved, House],
        &[Adjective],
        &[Dont, Want, These],
        &[Dont, Want, This],
        &[Do, Not, Want, These],
        &[Do, Not, Want, This],
        &[Not, Interested],
        &[No, Longer, Interested],
        &[Who, Is, This],
        &[Whos, This],
        &[Who, Are, You],
    ]
};

/// Phrases that may precede a reason.
pub(super) const BEFORE_REASON: &[&[Word]] = {
    use self::Word::*;
    &[
        &[This, Is],
        &[Its],
        &[It, Is],
        &[You, Have],
        &[Have],
        &[Got],
        &[I, Am],
        &[I, Think],
        &[I],
        &[Im],
        &[Ive],
        &[The],
        &[And],
    ]
};
