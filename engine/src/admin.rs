//! Commands of an operator to a running pipeline. Each becomes an event of the next epoch, so that a replay does what was
//! done.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long an answer may take: epochs are far shorter.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The version before the live one comes back.
    RollBack,
    /// The online learner, from which an operator went back, competes again.
    Readmit,
}

/// A command with the place for its answer: what will happen, or why nothing will.
pub struct Request {
    /// The command.
    pub command: Command,
    /// Takes one answer.
    pub answer: SyncSender<Result<String, String>>,
}

/// Where operators leave commands.
pub struct Desk {
    requests: Mutex<Sender<Request>>,
    taken: Mutex<Receiver<Request>>,
}

impl Default for Desk {
    fn default() -> Self {
        let (requests, taken) = channel();
        Self {
            requests: Mutex::new(requests),
            taken: Mutex::new(taken),
        }
    }
}

impl Desk {
    /// Asks for something and waits for the answer. Blocks: not for an asynchronous thread.
    ///
    /// # Errors
    /// Why nothing will happen, in a sentence.
    pub fn ask(&self, command: Command) -> Result<String, String> {
        let (answer, answered) = sync_channel(1);
        let request = Request { command, answer };
        let sent = self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(request);
        sent.map_err(|_| "the pipeline has ended".to_owned())?;
        match answered.recv_timeout(ANSWER_MAX) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "the pipeline did not answer within {ANSWER_MAX:?}: it starts, replays or waits for its brokers; see \
                 /readyz"
            )),
            Err(RecvTimeoutError::Disconnected) => Err("the pipeline ended before it answered".to_owned()),
        }
    }

    /// The next command, if there is one.
    pub fn take(&self) -> Option<Request> {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_recv()
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_command_gets_its_answer() {
        let desk = Arc::new(Desk::default());
        assert!(desk.take().is_none());
        let asking = Arc::clone(&desk);
        let asked = std::thread::spawn(move || asking.ask(Command::RollBack));
        let request = loop {
            if let Some(request) = desk.take() {
                break request;
            }
            std::thread::yield_now();
        };
        assert_eq!(request.command, Command::RollBack);
        request.answer.send(Err("no version before".to_owned())).unwrap();
        assert_eq!(asked.join().unwrap(), Err("no version before".to_owned()));
    }
}
