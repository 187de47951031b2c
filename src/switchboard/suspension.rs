//! Suspended accounts, and the probes that resume them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::status::Id;
use crate::model::address::Medium;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Outcome};
use crate::model::id::AccountId;
use crate::model::info::Info;

/// The wait before the first probe; it doubles with each probe that fails, up to five minutes.
const FIRST_PROBE: Duration = Duration::from_secs(2);
const MAX_PROBE: Duration = Duration::from_secs(300);

/// The delay after which a failed message returns, so that another one is the probe.
const STEP_ASIDE: Duration = Duration::from_secs(1);

/// The time that messages wait for a probe in progress.
const PROBE_WAIT: Duration = Duration::from_secs(2);

/// The maximum number of messages that failed by a fault of the account to remember.
const FAULTY_MAX: usize = 10_000;

/// A suspended account, as seen by this process: see [`Stats::suspended`](super::Stats::suspended).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// The gateway.
    pub gateway: &'static str,
    /// The medium.
    pub medium: Medium,
    /// Our account at the gateway.
    pub account: AccountId,
    /// When the first message failed.
    pub since: Timestamp,
    /// The kind of the error, which shows what needs repair.
    pub kind: ErrorKind,
    /// The reason, in plain words.
    pub reason: String,
}

/// The suspension state of an account.
#[derive(Debug, Default)]
pub(super) struct AccountState {
    suspended: Option<Suspended>,
    /// The start of the last send that was accepted.
    accepted: Option<Duration>,
    /// The messages that failed by a fault of the account, and when.
    faulty: HashMap<Id, Duration>,
}

#[derive(Debug)]
struct Suspended {
    suspension: Suspension,
    probes: u32,
    next_probe: Duration,
    is_probing: bool,
    /// The messages that have stepped aside since the last probe.
    stepped_aside: HashSet<Id>,
}

/// The answer to whether a message may be sent through an account now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Go,
    /// It is sent as the probe of a suspended account.
    Probe,
    Wait(Duration),
}

/// The effect of a send on its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AccountEffect {
    /// None: the outcome concerns the message only.
    Unaffected,
    /// The account is resumed.
    Resumed(Suspension),
    /// The account is suspended from now on.
    Suspended(Duration),
    /// The message waits for this long, for a fault that is probably not its own.
    Delay(Duration),
}

impl AccountState {
    /// Returns how long until the account may be tried, if it is suspended.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        let suspended = self.suspended.as_ref()?;
        let wait = suspended.next_probe.saturating_sub(now);
        match suspended.is_probing {
            true => Some(wait.max(PROBE_WAIT)),
            false => Some(wait).filter(|wait| !wait.is_zero()),
        }
    }

    pub(super) fn suspension(&self) -> Option<&Suspension> {
        self.suspended.as_ref().map(|suspended| &suspended.suspension)
    }

    /// Decides whether a message may be sent now.
    pub(super) fn turn(&mut self, id: Id, now: Duration) -> Turn {
        if let Some(wait) = self.wait(now) {
            return Turn::Wait(wait);
        }
        let failed = self.faulty.contains_key(&id);
        let Some(suspended) = &mut self.suspended else { return Turn::Go };
        if failed && suspended.stepped_aside.insert(id) {
            return Turn::Wait(STEP_ASIDE);
        }
        suspended.is_probing = true;
        Turn::Probe
    }

    /// Returns the turn of a probe that was not sent.
    pub(super) fn give_back(&mut self) {
        if let Some(suspended) = &mut self.suspended {
            suspended.is_probing = false;
        }
    }

    /// Records a failed health check, and returns how long messages wait.
    pub(super) fn probe_failed(&mut self, now: Duration) -> Duration {
        let Some(suspended) = &mut self.suspended else { return PROBE_WAIT };
        suspended.postpone(now);
        suspended.next_probe.saturating_sub(now)
    }

    /// Records the end of a send that began at `begun`, as a probe or not.
    pub(super) fn report(
        &mut self,
        id: Id,
        info: &Info,
        probe: bool,
        begun: Duration,
        failed: Option<&Error>,
        (now, at): (Duration, Timestamp),
    ) -> AccountEffect {
        match failed {
            Some(error) if error.is_account_fault() => self.fault(id, info, probe, error, (now, at)),
            Some(error) => {
                self.faulty.remove(&id);
                // The gateway judged the message itself, so the account works.
                let judged = probe && !error.is_retryable() && error.outcome() == Outcome::Rejected;
                match (judged, probe, &mut self.suspended) {
                    (true, _, suspended) => {
                        suspended.take().map_or(AccountEffect::Unaffected, |one| AccountEffect::Resumed(one.suspension))
                    }
                    (false, true, Some(suspended)) => {
                        suspended.postpone(now);
                        AccountEffect::Unaffected
                    }
                    _ => AccountEffect::Unaffected,
                }
            }
            None => {
                self.faulty.remove(&id);
                self.accepted = self.accepted.max(Some(begun));
                // A send that was in flight when the account failed shows nothing about it now.
                let resumes = self.suspended.as_ref().is_some_and(|suspended| probe || begun > suspended.failed_at());
                let resumed = self.suspended.take_if(|_| resumes);
                resumed.map_or(AccountEffect::Unaffected, |suspended| AccountEffect::Resumed(suspended.suspension))
            }
        }
    }

    fn fault(
        &mut self,
        id: Id,
        info: &Info,
        probe: bool,
        error: &Error,
        (now, at): (Duration, Timestamp),
    ) -> AccountEffect {
        let last = self.faulty.remove(&id);
        if last.is_some_and(|last| self.accepted.is_some_and(|accepted| accepted > last)) {
            // Another message was sent since this one failed, so the fault is its own.
            return AccountEffect::Unaffected;
        }
        if self.faulty.len() < FAULTY_MAX {
            self.faulty.insert(id, now);
        }
        match &mut self.suspended {
            Some(suspended) => {
                // Sends in flight at the failure are no probes.
                if probe {
                    suspended.postpone(now);
                }
                AccountEffect::Delay(suspended.next_probe.saturating_sub(now) + STEP_ASIDE)
            }
            None => {
                let suspension = Suspension {
                    gateway: info.gateway,
                    medium: info.medium.clone(),
                    account: info.account.clone(),
                    since: at,
                    kind: error.kind(),
                    reason: error.to_string(),
                };
                let next_probe = now + FIRST_PROBE;
                let stepped_aside = HashSet::new();
                self.suspended =
                    Some(Suspended { suspension, probes: 0, next_probe, is_probing: false, stepped_aside });
                AccountEffect::Suspended(FIRST_PROBE + STEP_ASIDE)
            }
        }
    }
}

impl Suspended {
    /// Postpones the next probe by twice the previous wait.
    fn postpone(&mut self, now: Duration) {
        self.probes = self.probes.saturating_add(1);
        let doubled = FIRST_PROBE.saturating_mul(1_u32.checked_shl(self.probes).unwrap_or(u32::MAX));
        self.next_probe = now + doubled.min(MAX_PROBE);
        self.is_probing = false;
        self.stepped_aside.clear();
    }

    /// Returns when the last relevant failure occurred.
    fn failed_at(&self) -> Duration {
        let doubled = FIRST_PROBE.saturating_mul(1_u32.checked_shl(self.probes).unwrap_or(u32::MAX));
        self.next_probe.saturating_sub(doubled.min(MAX_PROBE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::mock::Mock;

    struct Case {
        account_state: AccountState,
        mock: Mock,
        now: Duration,
    }

    impl Case {
        fn new() -> Self {
            Self { account_state: AccountState::default(), mock: Mock::sms(), now: Duration::from_secs(1_000) }
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
        }

        fn turn(&mut self, id: i64) -> Turn {
            self.account_state.turn(Id(id), self.now)
        }

        /// Sends a message if it is its turn, and reports the end a millisecond later.
        fn send(&mut self, id: i64, failed: Option<&Error>) -> AccountEffect {
            let probe = self.turn(id) == Turn::Probe;
            let begun = self.now;
            self.now += Duration::from_millis(1);
            let at = Timestamp::from_secs(1);
            self.account_state.report(Id(id), self.mock.info(), probe, begun, failed, (self.now, at))
        }
    }

    fn expired() -> Error {
        Error::new(ErrorKind::Unauthenticated, "the token has expired").with_outcome(Outcome::Rejected)
    }

    fn no_such_person() -> Error {
        Error::new(ErrorKind::InvalidRecipient, "nobody is there").with_outcome(Outcome::Rejected)
    }

    #[test]
    fn account_fault_suspends_until_probe_succeeds() {
        let mut case = Case::new();
        assert_eq!(case.send(1, Some(&expired())), AccountEffect::Suspended(FIRST_PROBE + STEP_ASIDE));
        assert_eq!(case.turn(2), Turn::Wait(FIRST_PROBE));
        for doubled in [4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let wait = case.account_state.wait(case.now).unwrap();
            case.wait(wait);
            assert_eq!(case.send(2, Some(&expired())), AccountEffect::Delay(Duration::from_secs(doubled) + STEP_ASIDE));
            case.account_state.faulty.clear();
        }
        case.wait(MAX_PROBE);
        assert!(matches!(case.send(3, None), AccountEffect::Resumed(suspension) if suspension.since.as_secs() == 1));
        assert_eq!((case.turn(1), case.account_state.suspension()), (Turn::Go, None));
    }

    #[test]
    fn one_message_at_a_time_is_the_probe() {
        let mut case = Case::new();
        case.send(1, Some(&expired()));
        case.wait(FIRST_PROBE);
        assert_eq!(case.turn(1), Turn::Wait(STEP_ASIDE), "another one first");
        assert_eq!((case.turn(2), case.turn(3)), (Turn::Probe, Turn::Wait(PROBE_WAIT)));
        case.account_state.give_back();
        assert_eq!(case.turn(1), Turn::Probe, "nobody else came");
    }

    #[test]
    fn faulty_message_is_rejected_once_others_are_sent() {
        let mut case = Case::new();
        assert!(matches!(case.send(1, Some(&expired())), AccountEffect::Suspended(_)));
        case.wait(FIRST_PROBE);
        assert!(matches!(case.send(2, None), AccountEffect::Resumed(_)));
        assert_eq!(case.send(1, Some(&expired())), AccountEffect::Unaffected);
        assert_eq!(case.turn(3), Turn::Go, "the others are not held up");
    }

    #[test]
    fn success_of_an_earlier_send_does_not_resume() {
        let mut case = Case::new();
        let begun = case.now;
        case.wait(Duration::from_millis(5));
        case.send(1, Some(&expired()));
        let late = (case.now, Timestamp::from_secs(2));
        assert_eq!(
            case.account_state.report(Id(2), case.mock.info(), false, begun, None, late),
            AccountEffect::Unaffected
        );
        assert!(case.account_state.suspension().is_some());
        case.wait(FIRST_PROBE);
        case.turn(3);
        assert!(matches!(case.send(1, Some(&expired())), AccountEffect::Delay(_)), "it did not go after the fault");
    }

    #[test]
    fn probe_rejected_for_its_recipient_resumes() {
        let mut case = Case::new();
        case.send(1, Some(&expired()));
        case.wait(FIRST_PROBE);
        assert!(matches!(case.send(2, Some(&no_such_person())), AccountEffect::Resumed(_)));
        case.send(1, Some(&expired()));
        case.wait(FIRST_PROBE);
        let busy = Error::new(ErrorKind::Unavailable, "it does not work").with_outcome(Outcome::Rejected);
        assert_eq!(case.send(2, Some(&busy)), AccountEffect::Unaffected);
        assert!(case.account_state.suspension().is_some());
    }

    #[test]
    fn transient_and_unknown_failures_do_not_suspend() {
        let mut case = Case::new();
        for error in [
            Error::new(ErrorKind::Unavailable, "it does not work"),
            Error::new(ErrorKind::RateLimited, "too many"),
            Error::new(ErrorKind::Unauthenticated, "perhaps").with_outcome(Outcome::Unknown),
            no_such_person(),
        ] {
            assert_eq!(case.send(1, Some(&error)), AccountEffect::Unaffected, "{error:?}");
        }
        assert_eq!(case.turn(1), Turn::Go);
    }
}
