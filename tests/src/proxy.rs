//! A proxy between a client and a real Kafka that reads the frames of the protocol, so that a test can lose one chosen
//! answer: the broker has done what was asked, and the client does not know.
//!
//! A request is a length (int32), then API key (int16), API version (int16) and correlation id (int32); an answer a
//! length and the correlation id of its request. Nothing else is looked at, and no byte is changed: brokers advertise
//! the proxy's own addresses on the listener behind it (see `scripts/kafka/kafka`).

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::kafka::{Broker, Proxied};

/// The key of EndTxn, which commits or aborts a transaction.
pub const END_TXN: i16 = 26;
/// The key of OffsetCommit, which publishes group offsets.
pub const OFFSET_COMMIT: i16 = 8;
/// The keys of AddOffsetsToTxn and TxnOffsetCommit, which would put group offsets into a transaction.
pub const OFFSETS_IN_TXN: [i16; 2] = [25, 28];

/// A frame longer than this is no Kafka frame.
const FRAME_BYTES_MAX: u32 = 128 << 20;

/// What becomes of the answer that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is lost: once the broker has answered, both connections are cut. The client may connect again.
    Cut,
    /// As `Cut`, and from the same moment new connections are refused until [`Proxy::refuse`] allows them.
    CutAndRefuse,
    /// It waits, with all that follows it on its connection, until [`Proxy::release`]; or for ever, when the client
    /// gives up first.
    Keep,
}

/// A proxy before every node of a cluster. It ends, and cuts what it carries, with the value.
pub struct Proxy {
    shared: Arc<Shared>,
    bootstrap: String,
    threads: Vec<JoinHandle<()>>,
    /// The advertised addresses are few: one proxy of a process at a time.
    _turn: MutexGuard<'static, ()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Connections by number; both ends of each.
    open: HashMap<u64, [TcpStream; 2]>,
    accepted: u64,
    refusing: bool,
    frozen: bool,
    hold: Option<Hold>,
    held: u32,
    released: bool,
    requests: BTreeMap<i16, u64>,
}

#[derive(Clone, Copy)]
struct Hold {
    api_key: i16,
    times: u32,
    then: Then,
}

impl Proxy {
    /// Stands before a cluster; `None`, and said by [`crate::not_run`], where its nodes have no listener for that.
    pub fn before(broker: &Broker) -> Option<Self> {
        let nodes = broker.proxied();
        if nodes.is_empty() {
            crate::not_run("no proxy can stand before a Kafka that scripts/kafka does not run");
            return None;
        }
        Some(Self::start(&nodes))
    }

    fn start(nodes: &[Proxied]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        // A test that failed with the proxy in its hands leaves nothing behind that the next one could stumble on.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = Arc::new(Shared::default());
        let accept = |node: &Proxied| {
            let (listener, shared, upstream) = (bind(&node.advertised), Arc::clone(&shared), node.listen.clone());
            spawn(move || accept(&listener, &shared, &upstream))
        };
        let threads = nodes.iter().map(accept).collect();
        let bootstrap = nodes
            .iter()
            .map(|node| node.advertised.as_str())
            .collect::<Vec<_>>()
            .join(",");
        Self {
            shared,
            bootstrap,
            threads,
            _turn: turn,
        }
    }

    /// `host:port` of the proxy before every node, separated by commas: what the client is configured with.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Holds back the next `times` answers to requests of an API key.
    pub fn hold(&self, api_key: i16, times: u32, then: Then) {
        let mut state = self.shared.lock();
        state.hold = Some(Hold { api_key, times, then });
        state.released = false;
    }

    /// How many answers have been held back so far.
    pub fn held(&self) -> u32 {
        self.shared.lock().held
    }

    /// Waits until that many answers have been held back.
    ///
    /// # Panics
    /// When `limit` passes.
    pub fn wait_held(&self, times: u32, limit: Duration) {
        self.wait(&format!("{times} answers held back"), limit, |state| {
            state.held >= times
        });
    }

    /// Waits until that many connections have been made in all.
    ///
    /// # Panics
    /// When `limit` passes.
    pub fn wait_accepted(&self, connections: u64, limit: Duration) {
        self.wait(&format!("{connections} connections"), limit, |state| {
            state.accepted >= connections
        });
    }

    /// How many connections have been made so far; refused ones do not count.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// How many requests of an API key have passed so far.
    pub fn requests(&self, api_key: i16) -> u64 {
        self.shared.lock().requests.get(&api_key).copied().unwrap_or(0)
    }

    /// Lets the kept answers go, and holds none from here on.
    pub fn release(&self) {
        let mut state = self.shared.lock();
        state.hold = None;
        state.released = true;
        self.shared.changed.notify_all();
    }

    /// Cuts all connections; the client may connect again.
    pub fn cut_all(&self) {
        self.shared.lock().cut_all();
    }

    /// Refuses new connections, or allows them again. Those that are open stay.
    pub fn refuse(&self, refuse: bool) {
        self.shared.lock().refusing = refuse;
    }

    /// Stops passing anything in either direction, with all connections open, or goes on.
    pub fn freeze(&self, freeze: bool) {
        self.shared.lock().frozen = freeze;
        self.shared.changed.notify_all();
    }

    fn wait(&self, what: &str, limit: Duration, reached: impl Fn(&State) -> bool) {
        let until = Instant::now() + limit;
        let mut state = self.shared.lock();
        while !reached(&state) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the proxy did not see within {limit:?}: {what}");
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.lock().cut_all();
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there has failed what it carried, and so the test, already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits while the proxy is frozen.
    fn pass(&self) {
        let mut state = self.lock();
        while state.frozen && !self.stopping() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Decides about an answer to a request of this key, in one step with all that follows from it. False when it is lost.
    fn let_through(&self, api_key: Option<i16>) -> bool {
        let mut state = self.lock();
        let Some(hold) = state
            .hold
            .filter(|hold| Some(hold.api_key) == api_key && hold.times > 0)
        else {
            return true;
        };
        state.hold = Some(Hold {
            times: hold.times - 1,
            ..hold
        });
        state.held += 1;
        state.refusing |= hold.then == Then::CutAndRefuse;
        self.changed.notify_all();
        if hold.then != Then::Keep {
            return false;
        }
        while !state.released && !self.stopping() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

impl State {
    fn cut_all(&mut self) {
        for (_, ends) in self.open.drain() {
            cut(&ends);
        }
    }
}

fn cut(ends: &[TcpStream; 2]) {
    for end in ends {
        // The other side may have closed it before us.
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// The address may be in use for a moment still: by the proxy of a test in another process.
fn bind(address: &str) -> TcpListener {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                sleep(Duration::from_millis(100));
            }
            Err(error) => panic!("the proxy cannot listen on {address}: {error}"),
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, upstream: &str) {
    listener.set_nonblocking(true).expect("a listener can be polled");
    while !shared.stopping() {
        match listener.accept() {
            Ok((client, _)) => carry(client, shared, upstream),
            Err(_) => sleep(Duration::from_millis(5)),
        }
    }
}

/// Joins a client to the broker by two threads, unless connections are refused or the broker does not answer: then the
/// client's is closed.
fn carry(client: TcpStream, shared: &Arc<Shared>, upstream: &str) {
    if shared.lock().refusing {
        return;
    }
    let Ok(broker) = TcpStream::connect(upstream) else {
        return;
    };
    client.set_nonblocking(false).expect("a stream can block");
    for end in [&client, &broker] {
        end.set_nodelay(true).expect("TCP has no delay");
    }
    let both = || {
        [
            client.try_clone().expect("a handle"),
            broker.try_clone().expect("a handle"),
        ]
    };
    let number = {
        let mut state = shared.lock();
        state.accepted += 1;
        let number = state.accepted;
        state.open.insert(number, both());
        shared.changed.notify_all();
        number
    };
    let asked: Arc<Mutex<HashMap<[u8; 4], i16>>> = Arc::default();
    let ([from_client, to_broker], [to_client, from_broker]) = (both(), both());
    let (up, asks) = (Arc::clone(shared), Arc::clone(&asked));
    spawn(move || {
        pump(from_client, to_broker, &up, |frame| {
            if let Some((api_key, correlation)) = request(frame) {
                asks.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(correlation, api_key);
                *up.lock().requests.entry(api_key).or_default() += 1;
            }
            true
        });
        up.lock().open.remove(&number);
    });
    let down = Arc::clone(shared);
    spawn(move || {
        pump(from_broker, to_client, &down, |frame| {
            let correlation = frame.first_chunk();
            let api_key = correlation.and_then(|id| asked.lock().unwrap_or_else(PoisonError::into_inner).remove(id));
            down.let_through(api_key)
        });
    });
}

/// API key and correlation id of a request.
fn request(frame: &[u8]) -> Option<(i16, [u8; 4])> {
    Some((
        i16::from_be_bytes(*frame.first_chunk()?),
        *frame.get(4..)?.first_chunk()?,
    ))
}

/// Passes frames on until one end is closed or `look` loses one; then closes both.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, mut look: impl FnMut(&[u8]) -> bool) {
    while let Some(frame) = read_frame(&mut from) {
        shared.pass();
        if !look(&frame[4..]) || to.write_all(&frame).is_err() {
            break;
        }
    }
    cut(&[from, to]);
}

/// A frame with its length; `None` at the end of the stream, and for what is no frame.
fn read_frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let bytes = u32::from_be_bytes(length);
    if bytes > FRAME_BYTES_MAX {
        return None;
    }
    let mut frame = vec![0; 4 + bytes as usize];
    frame[..4].copy_from_slice(&length);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that answers every request with its correlation id and one byte; its address.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                spawn(move || {
                    while let Some(frame) = read_frame(&mut stream) {
                        let mut answer = vec![0, 0, 0, 5];
                        answer.extend([&frame[8..12], &[7]].concat());
                        if stream.write_all(&answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn proxy() -> Proxy {
        let advertised = format!("127.0.0.1:{}", crate::daemon::free_port());
        Proxy::start(&[Proxied {
            listen: echo(),
            advertised,
        }])
    }

    fn ask(stream: &mut TcpStream, api_key: i16, correlation: u8) {
        let mut frame = vec![0, 0, 0, 10];
        frame.extend(api_key.to_be_bytes());
        frame.extend([0, 3, 0, 0, 0, correlation, 0xff, 0xff]);
        stream.write_all(&frame).unwrap();
    }

    fn answer(stream: &mut TcpStream) -> Option<u8> {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        read_frame(stream).map(|frame| frame[7])
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.bootstrap()).unwrap()
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn the_chosen_answer_alone_is_lost() {
        let proxy = proxy();
        let mut client = connect(&proxy);
        proxy.hold(END_TXN, 1, Then::Cut);
        ask(&mut client, 0, 1);
        assert_eq!(answer(&mut client), Some(1));
        ask(&mut client, END_TXN, 2);
        proxy.wait_held(1, LIMIT);
        assert_eq!(answer(&mut client), None, "the connection is cut");

        let mut again = connect(&proxy);
        ask(&mut again, END_TXN, 3);
        assert_eq!(answer(&mut again), Some(3), "one answer was to be held, not two");
        assert_eq!((proxy.held(), proxy.requests(END_TXN), proxy.requests(0)), (1, 2, 1));
    }

    #[test]
    fn after_a_cut_connections_are_refused_until_allowed() {
        let proxy = proxy();
        let mut client = connect(&proxy);
        proxy.hold(END_TXN, 1, Then::CutAndRefuse);
        ask(&mut client, END_TXN, 1);
        assert_eq!(answer(&mut client), None);
        let mut refused = connect(&proxy);
        ask(&mut refused, 0, 2);
        assert_eq!(answer(&mut refused), None);
        proxy.refuse(false);
        let mut allowed = connect(&proxy);
        ask(&mut allowed, 0, 3);
        assert_eq!(answer(&mut allowed), Some(3));
        assert_eq!(proxy.accepted(), 2, "the refused one does not count");
    }

    #[test]
    fn a_kept_answer_comes_when_released() {
        let proxy = proxy();
        let mut client = connect(&proxy);
        proxy.hold(END_TXN, 1, Then::Keep);
        ask(&mut client, END_TXN, 1);
        proxy.wait_held(1, LIMIT);
        ask(&mut client, 0, 2);
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(
            client.read_exact(&mut [0]).is_err(),
            "nothing may overtake the kept answer"
        );
        proxy.release();
        assert_eq!((answer(&mut client), answer(&mut client)), (Some(1), Some(2)));
    }

    #[test]
    fn frozen_is_silent_and_cut_is_closed() {
        let proxy = proxy();
        let mut client = connect(&proxy);
        ask(&mut client, 0, 1);
        assert_eq!(answer(&mut client), Some(1));
        proxy.freeze(true);
        ask(&mut client, 0, 2);
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(client.read_exact(&mut [0]).is_err());
        proxy.freeze(false);
        assert_eq!(answer(&mut client), Some(2));
        proxy.cut_all();
        assert_eq!(answer(&mut client), None);
    }

    #[test]
    fn what_is_no_frame_is_cut() {
        let proxy = proxy();
        let mut client = connect(&proxy);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(answer(&mut client), None);
    }
}
