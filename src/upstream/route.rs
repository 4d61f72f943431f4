//! Who answers clients: Redis, the server within the process, or the proxy that leads, and the moments in which that changes.
//!
//! A change goes through [`To::Nobody`]: connections are ended, or run empty first when nobody has failed, and
//! who connects meanwhile waits. So no command is sent to one server whose client has a reply outstanding from the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc, watch};

use super::Peer;
use crate::traces;

/// The way to the server within the process.
pub type Local = mpsc::UnboundedSender<DuplexStream>;

/// Who answers.
#[derive(Clone, Debug)]
pub enum To {
    Redis,
    Local(Local),
    /// The proxy that leads.
    Peer(Arc<Peer>),
    /// It is being decided.
    Nobody(Leave),
}

impl To {
    pub fn as_str(&self) -> &'static str {
        match self {
            To::Redis => "Redis",
            To::Local(_) => "PostgreSQL",
            To::Peer(_) => "the proxy that leads",
            To::Nobody(_) => "nobody",
        }
    }
}

/// How the connections of before end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// At once: who has answered until now is gone.
    Cut,
    /// When their replies have come.
    Drained,
}

/// One state of the route.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Counts the changes.
    pub number: u64,
    pub to: To,
}

/// Shared by all who connect, and by who decides.
#[derive(Debug)]
pub struct Route {
    now: watch::Sender<Turn>,
    /// Clients' new commands wait.
    held: AtomicBool,
    /// For how long nobody has answered in former turns, and since when nobody does.
    pauses: Mutex<(Duration, Option<Instant>)>,
    /// For each worker the last turn at which none of its connections of before was left.
    left: Mutex<Vec<Arc<AtomicU64>>>,
    /// Who cannot connect waits for a turn instead of failing.
    patient: AtomicBool,
    /// Somebody could not connect, or lost a connection.
    pub trouble: Notify,
}

impl Route {
    pub fn new(to: To) -> Arc<Route> {
        let nobody = matches!(to, To::Nobody(_));
        Arc::new(Route {
            held: AtomicBool::new(nobody),
            pauses: Mutex::new((Duration::ZERO, nobody.then(Instant::now))),
            now: watch::Sender::new(Turn { number: 0, to }),
            left: Mutex::default(),
            patient: AtomicBool::new(false),
            trouble: Notify::new(),
        })
    }

    /// Decides. After [`To::Nobody`], [`Route::left`] waits for the end of the connections of before.
    pub fn turn(&self, to: To) {
        {
            let (total, since) = &mut *self.pauses.lock();
            let nobody = matches!(to, To::Nobody(_));
            match (nobody, *since) {
                (true, None) => *since = Some(Instant::now()),
                (false, Some(began)) => {
                    (*total, *since) = (*total + began.elapsed(), None);
                    traces::record("lead change", began.elapsed(), true, || {
                        [("tandem.server", to.as_str().into())]
                    });
                }
                _ => {}
            }
        }
        self.held.store(matches!(to, To::Nobody(Leave::Drained)), Ordering::Relaxed);
        self.now.send_modify(|turn| *turn = Turn { number: turn.number + 1, to });
    }

    /// For how long nobody has answered, all changes together.
    pub fn held_for(&self) -> Duration {
        self.pauses.lock().0
    }

    /// True while clients' new commands have to wait, so that connections run empty.
    pub fn held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub fn is_local(&self) -> bool {
        matches!(self.now.borrow().to, To::Local(_))
    }

    /// The proxy that answers, if one does.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        match &self.now.borrow().to {
            To::Peer(peer) => Some(Arc::clone(peer)),
            _ => None,
        }
    }

    pub fn number(&self) -> u64 {
        self.now.borrow().number
    }

    pub fn watch(&self) -> watch::Receiver<Turn> {
        self.now.subscribe()
    }

    /// Who answers, as soon as that is decided.
    pub async fn settled(&self) -> To {
        let mut now = self.now.subscribe();
        match now.wait_for(|turn| !matches!(turn.to, To::Nobody(_))).await {
            Ok(turn) => turn.to.clone(),
            // The sender lives as long as `self`.
            Err(_) => To::Redis,
        }
    }

    /// A worker's note of the last turn that its connections have left for.
    pub fn leaving(&self) -> Leaving {
        let left = Arc::<AtomicU64>::default();
        self.left.lock().push(Arc::clone(&left));
        Leaving(left)
    }

    /// Waits until no connection of before the present turn is left.
    pub async fn left(&self) {
        let number = self.number();
        while self.left.lock().iter().any(|left| left.load(Ordering::Acquire) < number) {
            tokio::time::sleep(TICK).await;
        }
    }

    /// Whether who cannot connect waits a while, because somebody else may come to answer.
    pub fn set_patient(&self, patient: bool) {
        self.patient.store(patient, Ordering::Relaxed);
    }

    pub fn is_patient(&self) -> bool {
        self.patient.load(Ordering::Relaxed)
    }
}

/// See [`Route::leaving`]. Nobody waits for a worker that has ended.
#[derive(Debug)]
pub struct Leaving(Arc<AtomicU64>);

impl Leaving {
    pub fn done(&self, turn: u64) {
        self.0.store(turn, Ordering::Release);
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::Release);
    }
}

/// How often workers are asked whether their connections have ended.
const TICK: Duration = Duration::from_millis(1);
