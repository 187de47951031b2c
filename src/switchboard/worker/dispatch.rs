//! Dispatch of claimed messages: at the rate of each account, and with a maximum in flight.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::lanes::{Claims, Queue, Rooms, account_name, account_of};
use super::super::record::{Claimed, Hold, PutOff, Reserved};
use super::super::status::PRIORITY_LAST;
use super::super::suspension::Turn;
use super::super::{Account, Switchboard, account, account_id, lock};
use super::send::{AGAIN, Decided, Ended, LIMITED, Sending, Step};
use super::{caught, log_failure};
use crate::adapter::RETRY_AFTER_MAX;
use crate::model::clock::Timestamp;
use crate::telemetry;

/// Claimed messages of a lane and class that wait for tokens: as many as can be sent in this time, within these bounds.
const AHEAD: Duration = Duration::from_millis(200);
const AHEAD_MIN: u32 = 2;

/// The multiple of the messages in flight that is claimed if a policy decides and there is no rate.
const DECIDING: u32 = 4;

/// The time before an account's next token at which messages are claimed for it.
const EARLY: Duration = Duration::from_secs(2);

/// The validity of a decision: a message whose token comes later is claimed again.
const STALE: Duration = Duration::from_secs(5);

/// The minimum number of messages to claim when only room has become free.
const CLAIM_MIN: u32 = 8;

/// The span for which tokens of a shared account are reserved, and how long an unused token is kept.
const RESERVED: Duration = Duration::from_millis(50);
const TOKEN_KEPT: Duration = Duration::from_secs(1);

/// The minimum time without claims from a lane that can only be sent by others.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The messages that a worker has claimed, by account, and those in flight.
pub(super) struct Dispatch {
    board: Switchboard,
    max_in_flight: u32,
    accounts: BTreeMap<Account, Outgoing>,
    /// The room in each lane and class, with nothing claimed.
    rooms: Rooms,
    /// The number of claimed messages of each lane and class that are not in flight.
    waiting: HashMap<(String, u8), u32>,
    /// The lanes that send nothing before a time.
    paused_lanes: HashMap<String, Duration>,
    deciding: JoinSet<Step>,
    sending: JoinSet<(Account, Ended)>,
    /// More messages were due than there was room for.
    more: bool,
    /// The number of messages that left the room since the last claim.
    left: u32,
}

/// The messages of one account.
#[derive(Default)]
struct Outgoing {
    queue: Queue<Box<Decided>>,
    in_flight: u32,
    /// When its next token is available.
    next_token: Duration,
    /// The interval of the account's rate, if it has one, and whether other workers share the rate.
    interval: Option<Duration>,
    is_shared: bool,
    /// The tokens reserved for this worker, and whether a reservation is in progress.
    tokens: VecDeque<Duration>,
    is_reserving: bool,
    /// The lanes whose messages were sent through it so far.
    lanes: HashSet<String>,
}

impl Outgoing {
    /// Returns the last token taken: another message may use it.
    fn token_is_free(&mut self, now: Duration) {
        if let Some(interval) = self.interval
            && self.next_token <= now.saturating_add(interval)
        {
            self.next_token = now;
            if self.is_shared {
                self.tokens.push_front(now);
            }
        }
    }
}

impl Switchboard {
    /// Reserves tokens of an account that other workers use as well.
    async fn reserve(self, account: Account, each: Duration, count: u32) -> Step {
        let clock = &self.0.clock;
        let reserved = self.0.store.0.reserve(account_id(&account), each, count, clock.now()).await;
        let reserved = log_failure("reserve", reserved);
        let (mono, now) = (clock.monotonic(), clock.now());
        match reserved {
            Some(Reserved { from, count }) => Step::Reserved { account, from: mono + from.since(now), count },
            None => Step::Reserved { account, from: mono + AGAIN, count: 0 },
        }
    }
}

impl Dispatch {
    pub(super) fn new(board: Switchboard) -> Self {
        let (mut accounts, mut rooms) = (BTreeMap::new(), Rooms::default());
        let max_in_flight = board.0.max_in_flight;
        for line in board.0.lines.values() {
            let infos = || line.channels.iter().map(|channel| channel.info());
            for info in infos() {
                let interval = info.capability.rate.map(|rate| rate.interval());
                let is_shared = interval.is_some() && board.0.store.0.has_shared_rates();
                accounts.insert(account(info), Outgoing { interval, is_shared, ..Outgoing::default() });
            }
            let ahead = |rate: Option<crate::model::rate::Rate>| match rate {
                // A policy may be slow for some of them, and the others continue.
                None if board.0.policy.is_some() => max_in_flight.saturating_mul(DECIDING),
                None => max_in_flight,
                Some(rate) => {
                    let many = AHEAD.as_nanos() / rate.interval().as_nanos().max(1);
                    u32::try_from(many).unwrap_or(u32::MAX).clamp(AHEAD_MIN, max_in_flight.max(AHEAD_MIN))
                }
            };
            let of_accounts = infos().map(|info| (account_id(&account(info)), ahead(info.capability.rate)));
            let of_accounts = of_accounts.map(|(id, room)| (account_name(&id).into_owned(), room));
            rooms.accounts.extend(of_accounts);
            let room = infos().map(|info| ahead(info.capability.rate)).max().unwrap_or(AHEAD_MIN);
            rooms.lines.insert(line.id.clone(), room);
        }
        let (waiting, paused_lanes) = (HashMap::new(), HashMap::new());
        let (deciding, sending) = (JoinSet::new(), JoinSet::new());
        Self { board, max_in_flight, accounts, rooms, waiting, paused_lanes, deciding, sending, more: false, left: 0 }
    }

    /// Applies the pauses that gateways required before this worker started.
    pub(super) fn paused(&mut self, pauses: &[(String, Timestamp)]) {
        let clock = &self.board.0.clock;
        let (mono, now) = (clock.monotonic(), clock.now());
        for (name, limit) in &self.board.0.limits {
            if let Some((_, until)) = pauses.iter().find(|(id, _)| *id == account_id(name)) {
                lock(limit).pause_until(mono + until.since(now).min(RETRY_AFTER_MAX));
            }
        }
    }

    /// Returns the room for claims.
    pub(super) fn rooms(&mut self) -> Rooms {
        let now = self.board.0.clock.monotonic();
        self.paused_lanes.retain(|_, until| *until > now);
        self.left = 0;
        let mut rooms = self.rooms.clone();
        for (lane, max) in self.limited(now) {
            for class in 0..=PRIORITY_LAST {
                let room = rooms.room(lane, class).min(max);
                rooms.left.insert((lane.clone(), class), room);
            }
        }
        for (of, waiting) in &self.waiting {
            let room = rooms.room(&of.0, of.1).saturating_sub(*waiting);
            rooms.left.insert(of.clone(), room);
        }
        rooms
    }

    /// Returns the lanes with limited claims: none while all their accounts pause, and one message of each class, as
    /// the probe, while these are suspended.
    fn limited(&self, now: Duration) -> HashMap<&String, u32> {
        let mut limited = HashMap::new();
        for (name, of) in &self.accounts {
            let account_state = self.board.0.account_states.get(name);
            let max = match account_state.is_some_and(|account_state| lock(account_state).suspension().is_some()) {
                // Until its next token is near nothing is decided or claimed.
                _ if of.next_token > now + EARLY => 0,
                true => 1,
                false => u32::MAX,
            };
            for lane in &of.lanes {
                limited.entry(lane).and_modify(|other: &mut u32| *other = max.max(*other)).or_insert(max);
            }
        }
        limited.extend(self.paused_lanes.keys().map(|lane| (lane, 0)));
        limited.retain(|_, max| *max < u32::MAX);
        limited
    }

    /// Accepts claimed messages, and starts the decision about each.
    pub(super) fn admit(&mut self, claims: Claims) {
        let rooms = &self.rooms;
        let mut counts = HashMap::<(String, u8), u32>::new();
        for claimed in claims.claimed {
            let of = (claimed.lane.clone(), claimed.class);
            *counts.entry(of.clone()).or_default() += 1;
            *self.waiting.entry(of).or_default() += 1;
            self.deciding.spawn(self.board.clone().decide(claimed));
        }
        let is_full =
            |((lane, class), count): (&(String, u8), &u32)| rooms.has_lane(lane) && *count >= rooms.room(lane, *class);
        self.more = self.waiting.iter().any(is_full) || counts.iter().any(is_full);
    }

    /// Returns `true` if there is room for more of what was due.
    pub(super) fn can_claim_more(&self) -> bool {
        self.more && self.left >= CLAIM_MIN
    }

    /// Collects finished decisions and sends. Returns `true` if other messages may be claimed now.
    pub(super) fn collect(&mut self) -> bool {
        let mut news = false;
        while let Some(Ok(step)) = self.deciding.try_join_next() {
            news |= self.decided(step);
        }
        while let Some(Ok((account, ended))) = self.sending.try_join_next() {
            news |= self.ended(&account, ended);
        }
        news
    }

    /// Waits for a decision or a send to finish: forever if there is none. Returns `true` if other messages may be
    /// claimed now.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            Some(decided) = self.deciding.join_next() => decided.is_ok_and(|step| self.decided(step)),
            Some(ended) = self.sending.join_next() => {
                ended.is_ok_and(|(account, ended)| self.ended(&account, ended))
            }
            else => std::future::pending().await,
        }
    }

    fn decided(&mut self, step: Step) -> bool {
        match step {
            Step::Ready(decided) => {
                if let Some(of) = self.accounts.get_mut(&decided.supplier.account) {
                    if !of.lanes.contains(&decided.claimed.lane) {
                        of.lanes.insert(decided.claimed.lane.clone());
                    }
                    of.queue.push(decided.claimed.class, decided);
                }
                false
            }
            Step::Released { lane, class } => {
                self.leaves(&lane, class);
                true
            }
            Step::LanePaused { claimed, wait } => {
                let until = self.board.0.clock.monotonic() + wait.max(PAUSE_MIN);
                self.paused_lanes.insert(claimed.lane.clone(), until);
                self.unclaim(claimed.hold, &claimed.lane, claimed.class);
                false
            }
            Step::Reserved { account, from, count } => {
                if let Some(of) = self.accounts.get_mut(&account) {
                    let each = of.interval.unwrap_or_default();
                    of.is_reserving = false;
                    of.tokens.extend((0..count).map(|n| from + each * n));
                    if count == 0 {
                        of.next_token = from;
                    }
                }
                false
            }
        }
    }

    fn ended(&mut self, account: &Account, ended: Ended) -> bool {
        if let Some(of) = self.accounts.get_mut(account) {
            of.in_flight = of.in_flight.saturating_sub(1);
            match ended {
                Ended::NotSent => of.token_is_free(self.board.0.clock.monotonic()),
                Ended::Resumed => {
                    let id = account_id(account);
                    let name = account_name(&id);
                    let is_served = |lane: &String| of.lanes.contains(lane) || account_of(lane) == Some(&*name);
                    self.paused_lanes.retain(|lane, _| !is_served(lane));
                }
                Ended::Sent => {}
            }
        }
        true
    }

    /// Starts the sends for which there are tokens, and returns when the next token is due for a waiting message.
    pub(super) fn start(&mut self) -> Option<Duration> {
        let waiting = self.accounts.iter().filter(|(_, of)| !of.queue.is_empty());
        let names: Vec<_> = waiting.map(|(name, _)| name.clone()).collect();
        let next = names.iter().filter_map(|name| self.start_of(name)).min();
        let now = self.board.0.clock.monotonic();
        let paused_lanes = self.paused_lanes.values().copied().filter(|until| *until > now).min();
        let far = self.accounts.values().map(|of| of.next_token.saturating_sub(EARLY)).filter(|at| *at > now).min();
        [next, paused_lanes, far].into_iter().flatten().min()
    }

    fn start_of(&mut self, name: &Account) -> Option<Duration> {
        let inner = self.board.0.clone();
        let limit = inner.limits.get(name)?;
        let account_state = inner.account_states.get(name)?;
        let now = inner.clock.monotonic();
        loop {
            let of = self.accounts.get_mut(name)?;
            if of.in_flight >= self.max_in_flight {
                return None;
            }
            let far = of.next_token > now + EARLY;
            if of.next_token > now && !far {
                return (!of.queue.is_empty()).then_some(of.next_token);
            }
            let wait = if far { Some(of.next_token - now - EARLY) } else { lock(account_state).wait(now) };
            if let Some(wait) = wait {
                // Others take over from a suspended account; for a token of the preferred one the message waits.
                self.pause_account(name, now + wait, !far);
                return None;
            }
            let (class, decided) = of.queue.pop()?;
            let lease = inner.lease;
            let is_stale = now.saturating_sub(decided.at) > STALE.min(lease / 2);
            // The rest of the lease must suffice for the send.
            if is_stale || now.saturating_sub(decided.claimed_at) > lease / 2 {
                self.unclaim(decided.claimed.hold, &decided.claimed.lane, decided.claimed.class);
                continue;
            }
            if let Some(each) = of.interval.filter(|_| of.is_shared) {
                while of.tokens.front().is_some_and(|at| now.saturating_sub(*at) > TOKEN_KEPT) {
                    of.tokens.pop_front();
                }
                let next = of.tokens.front().copied();
                if next.is_none_or(|at| at > now) {
                    of.queue.put_back(class, decided);
                    if next.is_none() && !of.is_reserving {
                        of.is_reserving = true;
                        let count = u32::try_from(RESERVED.as_nanos() / each.as_nanos().max(1)).unwrap_or(u32::MAX);
                        let count = count.min(of.queue.len()).max(1);
                        self.deciding.spawn(self.board.clone().reserve(name.clone(), each, count));
                    }
                    return next;
                }
            }
            let place = match lock(limit).book(&decided.message.to, now, now) {
                Ok(place) => place,
                Err(late) if late.per_recipient => {
                    let until = inner.clock.now().plus(late.at.saturating_sub(now));
                    self.put_off(*decided, until);
                    continue;
                }
                Err(late) => {
                    of.next_token = late.at;
                    of.queue.put_back(class, decided);
                    return Some(late.at);
                }
            };
            let turn = lock(account_state).turn(decided.claimed.hold.id, now);
            if let Turn::Wait(wait) = turn {
                lock(limit).release(&decided.message.to, place);
                self.paused_lanes.insert(decided.claimed.lane.clone(), now + wait.max(PAUSE_MIN));
                self.unclaim(decided.claimed.hold, &decided.claimed.lane, decided.claimed.class);
                continue;
            }
            of.tokens.pop_front();
            of.next_token = of.interval.map_or(of.next_token, |interval| now.saturating_add(interval));
            of.queue.took_token(class);
            of.in_flight += 1;
            self.leaves(&decided.claimed.lane, decided.claimed.class);
            let (board, name) = (self.board.clone(), name.clone());
            self.sending.spawn(async move {
                let sending = Sending { place, is_probe: turn == Turn::Probe };
                // The slot is freed in any case.
                (name, caught(board.send_decided(*decided, sending)).await.unwrap_or(Ended::Sent))
            });
        }
    }

    /// Releases the messages of an account that sends nothing before a time; `for_others` lets other suppliers of the
    /// line take over.
    fn pause_account(&mut self, name: &Account, until: Duration, for_others: bool) {
        let waiting = self.accounts.get_mut(name).map(|of| of.queue.drain().collect::<Vec<_>>());
        for decided in waiting.unwrap_or_default() {
            self.unclaim(decided.claimed.hold, &decided.claimed.lane, decided.claimed.class);
            if !(for_others && decided.supplier.is_one_of_several) {
                self.paused_lanes.insert(decided.claimed.lane, until);
            }
        }
    }

    /// Releases a message that cannot be sent through this account yet.
    fn unclaim(&mut self, hold: Hold, lane: &str, class: u8) {
        let (board, lane) = (self.board.clone(), lane.to_owned());
        self.deciding.spawn(async move {
            log_failure("unclaim", board.0.store.0.unclaim(hold).await);
            Step::Released { lane, class }
        });
    }

    fn put_off(&mut self, decided: Decided, until: Timestamp) {
        let (board, lane, class) = (self.board.clone(), decided.claimed.lane, decided.claimed.class);
        let (hold, line) = (decided.claimed.hold, decided.claimed.line);
        self.deciding.spawn(async move {
            let off = PutOff { until, why: LIMITED, planned: false };
            if log_failure("put_off", board.0.store.0.put_off(hold, off).await) == Some(true) {
                telemetry::switchboard::postponed(&line, hold.id.0, LIMITED);
            }
            Step::Released { lane, class }
        });
    }

    fn leaves(&mut self, lane: &str, class: u8) {
        self.left = self.left.saturating_add(1);
        let of = (lane.to_owned(), class);
        if let Some(waiting) = self.waiting.get_mut(&of) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&of);
            }
        }
    }

    /// Returns `true` if nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.sending.is_empty() && self.deciding.is_empty()
    }

    /// Releases the messages that wait for a token.
    pub(super) fn give_back(&mut self) {
        let waiting: Vec<_> = self.accounts.values_mut().flat_map(|of| of.queue.drain()).collect();
        for decided in waiting {
            let Claimed { hold, lane, class, .. } = &decided.claimed;
            self.unclaim(*hold, lane, *class);
        }
    }

    /// Aborts the sends in flight, and returns their number.
    pub(super) async fn abort(&mut self) -> usize {
        let unfinished = self.sending.len();
        self.deciding.shutdown().await;
        self.sending.shutdown().await;
        unfinished
    }
}
