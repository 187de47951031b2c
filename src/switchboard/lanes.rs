//! Lanes: the queues in which messages wait, and the order in which they leave.
//!
//! A lane holds the queued messages of a line that share a kind of address, and so the same channels. Messages that only
//! one account can send next wait in a lane of that account, where they hold up no others of the line. A worker claims no
//! more of each lane and class than it can soon send: the rest wait in the store, unchanged.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use super::record::{Claimed, New};
use super::status::PRIORITY_LAST;
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;

/// The number of classes: emergencies, replies, notices, marketing.
const CLASSES: usize = PRIORITY_LAST as usize + 1;

/// The number of tokens in a row that others may take while a class waits. With three such classes each still has one
/// in twenty.
const PASSED_OVER_MAX: u32 = 15;

/// Returns the lane of a new message.
pub(super) fn lane_of(new: &New) -> String {
    let lane = lane(&new.line, &new.message.to);
    new.account.as_deref().map_or_else(|| lane.clone(), |account| bound_lane(&lane, account))
}

/// Returns the lane of messages to an address of this kind.
fn lane(line: &str, to: &Address) -> String {
    format!("{line}/{}", kind_of(to))
}

/// Returns the kind of an address, as a lane has it.
pub(super) fn kind_of(to: &Address) -> String {
    match to {
        Address::Conversation(conversation) => format!("conversation/{}", conversation.medium()),
        Address::Other(other) => format!("other/{}", other.medium()),
        Address::Messenger(_) => "messenger".to_owned(),
        Address::Phone(_) => "phone".to_owned(),
        Address::SenderName(_) => "sender_name".to_owned(),
        Address::ShortCode(_) => "short_code".to_owned(),
        Address::WhatsApp(_) => "whatsapp".to_owned(),
        Address::X(_) => "x".to_owned(),
    }
}

/// Returns the kind of the addresses of a lane.
pub(super) fn kind_of_lane(lane: &str) -> &str {
    unbound_lane(lane).split_once('/').map_or("", |(_, kind)| kind)
}

/// What separates a lane from the account to which its messages are bound.
const VIA: &str = " via ";

/// The maximum length of the name of an account in a lane.
const ACCOUNT_MAX: usize = 200;

/// Returns the lane of those messages of a lane that are bound to an account.
pub(super) fn bound_lane(lane: &str, account: &str) -> String {
    format!("{}{VIA}{}", unbound_lane(lane), account_name(account))
}

/// Returns the lane without its account, if it has one.
pub(super) fn unbound_lane(lane: &str) -> &str {
    lane.split_once(VIA).map_or(lane, |(lane, _)| lane)
}

/// Returns the account of a lane whose messages are bound to one, as [`account_name`] writes it.
pub(super) fn account_of(lane: &str) -> Option<&str> {
    lane.split_once(VIA).map(|(_, account)| account)
}

/// Returns the name of an account in a lane: a digest, if a store could not index it.
pub(super) fn account_name(account: &str) -> Cow<'_, str> {
    if account.len() > ACCOUNT_MAX || account.contains('\0') {
        return Digest::sha256(account.as_bytes()).to_string().into();
    }
    account.into()
}

/// Returns the line of a lane.
pub(super) fn line_of(lane: &str) -> &str {
    lane.split_once('/').map_or(lane, |(line, _)| line)
}

/// The number of messages that a worker may claim, by lane and class.
#[derive(Clone, Debug, Default)]
pub(super) struct Rooms {
    /// The room in each lane and class of a line, unless `left` has another. Other lines are not served.
    pub(super) lines: HashMap<String, u32>,
    /// The room in each lane and class of an account, if that is less.
    pub(super) accounts: HashMap<String, u32>,
    /// The room left in a lane and class.
    pub(super) left: HashMap<(String, u8), u32>,
}

impl Rooms {
    /// Returns how many messages of this lane and class may be claimed.
    pub(super) fn room(&self, lane: &str, class: u8) -> u32 {
        let of_line = self.lines.get(line_of(lane)).copied().unwrap_or(0);
        let of_account = account_of(lane).and_then(|account| self.accounts.get(account)).copied();
        let of_lane = of_account.map_or(of_line, |room| room.min(of_line));
        // The usual case, without the allocation of the key.
        if of_line == 0 || self.left.is_empty() {
            return of_lane;
        }
        self.left.get(&(lane.to_owned(), class)).copied().unwrap_or(of_lane)
    }

    pub(super) fn has_lane(&self, lane: &str) -> bool {
        self.lines.contains_key(line_of(lane))
    }
}

/// Claimed messages, and when the next is due.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The messages, the most urgent class of each lane first.
    pub(super) claimed: Vec<Claimed>,
    /// When the next scheduled message is due.
    pub(super) next_due: Option<Timestamp>,
}

#[cfg(feature = "postgres")]
impl Claims {
    /// Takes this due time into account.
    pub(super) fn due(&mut self, at: Timestamp) {
        self.next_due = Some(self.next_due.map_or(at, |next| next.min(at)));
    }
}

/// The messages that wait for a token of one account.
///
/// An emergency takes the next token. Every other waiting class gets at least one token in twenty; otherwise replies
/// precede notices, and notices precede marketing.
#[derive(Debug)]
pub(super) struct Queue<T> {
    classes: [VecDeque<T>; CLASSES],
    passed_over: [u32; CLASSES],
    /// The last token went to an emergency.
    after_emergency: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { classes: Default::default(), passed_over: Default::default(), after_emergency: false }
    }
}

impl<T> Queue<T> {
    /// Adds a message behind those of its class.
    pub(super) fn push(&mut self, class: u8, message: T) {
        if let Some(queue) = self.classes.get_mut(usize::from(class.min(PRIORITY_LAST))) {
            queue.push_back(message);
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.classes.iter().map(|queue| u32::try_from(queue.len()).unwrap_or(u32::MAX)).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(VecDeque::is_empty)
    }

    /// Removes and returns the message that takes the next token.
    ///
    /// Call [`took_token`](Self::took_token) once it has taken one: a message that turns out not to be sent takes none.
    pub(super) fn pop(&mut self) -> Option<(u8, T)> {
        let class = self.next_class()?;
        let message = self.classes.get_mut(usize::from(class))?.pop_front()?;
        Some((class, message))
    }

    /// Returns a message to the front of its class.
    pub(super) fn put_back(&mut self, class: u8, message: T) {
        if let Some(queue) = self.classes.get_mut(usize::from(class)) {
            queue.push_front(message);
        }
    }

    /// Records that a message of this class took a token.
    pub(super) fn took_token(&mut self, class: u8) {
        self.after_emergency = class == 0;
        for (n, (queue, passed_over)) in self.classes.iter().zip(&mut self.passed_over).enumerate() {
            *passed_over = if n == usize::from(class) || queue.is_empty() { 0 } else { *passed_over + 1 };
        }
    }

    /// Removes all messages.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.classes.iter_mut().flat_map(|queue| queue.drain(..)).collect::<Vec<_>>().into_iter()
    }

    fn next_class(&self) -> Option<u8> {
        let waiting = || (0..=PRIORITY_LAST).filter(|class| self.count(*class) > 0);
        let passed_over = |class: &u8| self.passed_over.get(usize::from(*class)).copied().unwrap_or(0);
        let owed =
            waiting().filter(|class| *class > 0 && passed_over(class) >= PASSED_OVER_MAX).max_by_key(passed_over);
        match (waiting().next(), owed) {
            // Even a flood of emergencies leaves the others their share.
            (Some(0), owed) if self.after_emergency => owed.or(Some(0)),
            (Some(0), _) => Some(0),
            (first, owed) => owed.or(first),
        }
    }

    fn count(&self, class: u8) -> usize {
        self.classes.get(usize::from(class)).map_or(0, VecDeque::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;

    fn taken(queue: &mut Queue<u32>, tokens: usize) -> Vec<u8> {
        let mut classes = Vec::new();
        for _ in 0..tokens {
            let Some((class, _)) = queue.pop() else { break };
            queue.took_token(class);
            classes.push(class);
        }
        classes
    }

    fn filled(classes: &[u8], each: u32) -> Queue<u32> {
        let mut queue = Queue::default();
        for class in classes {
            (0..each).for_each(|n| queue.push(*class, n));
        }
        queue
    }

    #[test]
    fn emergency_takes_the_next_token() {
        let mut queue = filled(&[1, 2, 3], 1_000);
        for tokens in 0..100 {
            taken(&mut queue, tokens % 23);
            queue.push(0, 0);
            assert_eq!(taken(&mut queue, 1), [0], "after {tokens} tokens");
        }
    }

    #[test]
    fn every_waiting_class_has_one_token_in_twenty() {
        for classes in [&[0, 1, 2, 3][..], &[1, 2, 3], &[0, 3], &[1, 2], &[2, 3], &[0, 2, 3]] {
            let mut queue = filled(classes, 2_000);
            let taken = taken(&mut queue, 1_000);
            for window in taken.windows(20) {
                let missing = classes.iter().find(|class| !window.contains(class));
                assert_eq!(missing, None, "of {classes:?} in {window:?}");
            }
            let first = taken.iter().filter(|class| **class == classes[0]).count();
            assert!(first >= 800, "{classes:?}: only {first} of the most urgent");
        }
    }

    #[test]
    fn class_leaves_in_order_of_arrival() {
        let mut queue = filled(&[2], 100);
        let mut order = Vec::new();
        while let Some((class, n)) = queue.pop() {
            // A message that cannot be sent yet keeps its place.
            if n % 7 == 0 && order.last() != Some(&n) && queue.count(2) > 0 {
                queue.put_back(class, n);
                let (class, again) = queue.pop().unwrap();
                assert_eq!((class, again), (2, n));
            }
            queue.took_token(class);
            order.push(n);
        }
        assert_eq!(order, (0..100).collect::<Vec<_>>());
        assert!(queue.is_empty());
    }

    #[test]
    fn lane_names_line_and_kind_of_address() {
        let phone = Address::phone("07700 900123").unwrap();
        assert_eq!(lane("bins", &phone), "bins/phone");
        assert_eq!(line_of("bins/phone"), "bins");
        assert_eq!(line_of("bins/other/rcs"), "bins");
    }

    #[test]
    fn bound_lane_names_its_account() {
        let bound = bound_lane("bins/phone", "mock/sms/desk via a");
        assert_eq!((unbound_lane(&bound), account_of(&bound)), ("bins/phone", Some("mock/sms/desk via a")));
        assert_eq!((unbound_lane("bins/phone"), account_of("bins/phone")), ("bins/phone", None));
        assert_eq!((bound_lane(&bound, "other"), line_of(&bound)), ("bins/phone via other".to_owned(), "bins"));
        let long = "a".repeat(5_000);
        assert_eq!(account_of(&bound_lane("bins/phone", &long)), Some(&*account_name(&long)));
        assert_eq!(account_name(&long).len(), 64);
    }

    #[test]
    fn rooms_cover_own_lines_only() {
        let rooms = Rooms {
            lines: HashMap::from([("bins".to_owned(), 4)]),
            accounts: HashMap::from([("mock/sms/slow".to_owned(), 2), ("mock/sms/fast".to_owned(), 9)]),
            left: HashMap::from([(("bins/phone".to_owned(), 2), 1)]),
        };
        let of = |lane, class| rooms.room(lane, class);
        assert_eq!((of("bins/phone", 2), of("bins/phone", 1), of("parks/phone", 2)), (1, 4, 0));
        assert!(rooms.has_lane("bins/x") && !rooms.has_lane("parks/phone"));
        let of_account = |account| rooms.room(&bound_lane("bins/phone", account), 2);
        assert_eq!((of_account("mock/sms/slow"), of_account("mock/sms/fast"), of_account("gone")), (2, 4, 4));
    }

    #[test]
    fn next_due_is_the_earliest() {
        let mut claims = Claims::default();
        [5, 3, 9].into_iter().for_each(|at| claims.due(Timestamp::from_secs(at)));
        assert_eq!(claims.next_due, Some(Timestamp::from_secs(3)));
    }
}
