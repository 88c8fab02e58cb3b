//! What comes back: receipts, refusals, events and answers, each to whoever waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use broker::Delivery;
use faults::{Bug, is_seeded};
use protocol::{Answer, AnswerWord, Batch, Code, Kind, Properties, Refusal, batch};
use tokio::sync::{broadcast, mpsc, watch};

use crate::journal::{Journal, Mark, Standing};

/// How far a submission has come.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    Journaled,
    Confirmed,
    /// Refused for a reason that may pass: it is sent again.
    Delayed(Box<Answer>),
    Accepted(Box<Answer>),
    Refused(Box<Answer>),
    /// It waited for longer than it may be sent.
    TooOld,
}

/// Who waits for what.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) journal: Journal,
    submissions: Mutex<HashMap<String, watch::Sender<Progress>>>,
    questions: Mutex<HashMap<String, mpsc::UnboundedSender<Answer>>>,
    events: broadcast::Sender<Answer>,
    /// Whether several submissions in one message come to nothing with this broker or server.
    goes_alone: AtomicBool,
}

/// Events that a slow listener may be behind.
const EVENTS_BEHIND_MAX: usize = 4096;

impl Inbox {
    pub(crate) fn new(journal: Journal) -> Self {
        Self {
            journal,
            submissions: Mutex::default(),
            questions: Mutex::default(),
            events: broadcast::channel(EVENTS_BEHIND_MAX).0,
            goes_alone: AtomicBool::new(false),
        }
    }

    /// Whether each submission goes in a message of its own.
    pub(crate) fn goes_alone(&self) -> bool {
        self.goes_alone.load(Ordering::Relaxed)
    }

    /// From now on each submission goes in a message of its own.
    pub(crate) fn send_alone(&self) {
        if !self.goes_alone.swap(true, Ordering::Relaxed) {
            tracing::warn!("several submissions in one message are not taken: sent one by one");
        }
    }

    /// Waits for a submission's receipt.
    pub(crate) fn expect_receipt(&self, job_id: &str) -> watch::Receiver<Progress> {
        lock(&self.submissions)
            .entry(job_id.to_owned())
            .or_insert_with(|| watch::channel(Progress::Journaled).0)
            .subscribe()
    }

    /// Waits for the answers to a question.
    pub(crate) fn expect_answers(&self, correlation_id: &str) -> mpsc::UnboundedReceiver<Answer> {
        let (sender, answers) = mpsc::unbounded_channel();
        lock(&self.questions).insert(correlation_id.to_owned(), sender);
        answers
    }

    pub(crate) fn forget_question(&self, correlation_id: &str) {
        lock(&self.questions).remove(correlation_id);
    }

    /// Whether somebody still waits for the answers to a question.
    pub(crate) fn is_asking(&self, correlation_id: &str) -> bool {
        lock(&self.questions).contains_key(correlation_id)
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Answer> {
        self.events.subscribe()
    }

    /// Whether a submission still has neither receipt nor refusal.
    pub(crate) fn is_open(&self, job_id: &str) -> bool {
        lock(&self.submissions).contains_key(job_id)
    }

    /// The broker has confirmed a submission.
    pub(crate) fn confirmed(&self, job_id: &str) {
        if let Some(progress) = lock(&self.submissions).get(job_id) {
            // Of a second sending: what the first was told stands.
            progress.send_if_modified(|progress| {
                let is_first = matches!(progress, Progress::Journaled);
                if is_first {
                    *progress = Progress::Confirmed;
                }
                is_first
            });
        }
        self.journal.mark(Mark {
            job_id: job_id.to_owned(),
            standing: match is_seeded(Bug::ClearedByConfirm) {
                true => Standing::Done,
                false => Standing::Confirmed,
            },
            ticket: None,
            outcome: None,
        });
    }

    /// A submission is not sent any more; in the journal it stays open, for it is not known what
    /// became of it.
    pub(crate) fn too_old(&self, job_id: &str) {
        if let Some(waiting) = lock(&self.submissions).remove(job_id) {
            tracing::warn!(job_id, "not sent: older than horizon_ms");
            waiting.send_replace(Progress::TooOld);
        }
    }

    /// The broker itself refuses a submission, whoever asks: no server will ever see it.
    pub(crate) fn too_large(&self, job_id: &str) {
        let message = "the body is longer than RabbitMQ takes (max_message_size)";
        let refusal = Refusal::new(Code::PayloadTooLarge, message);
        let job_id = Some(job_id.to_owned());
        self.settle(Answer { job_id, ..Answer::refused(&refusal) }, Progress::Refused);
    }

    /// Routes a message, or each that is in it. What cannot be read is somebody else's, and said.
    pub(crate) fn receive(&self, delivery: &Delivery) {
        let Properties { kind, correlation_id, .. } = &delivery.properties;
        if kind.as_deref() != Some(batch::TO_CLIENT) {
            let answer = serde_json::from_slice::<Answer>(&delivery.body);
            return self.receive_one(Kind::of(&delivery.properties), correlation_id, answer);
        }
        let Ok(batch) = Batch::read(&delivery.body) else {
            tracing::warn!("a batch that cannot be read was passed over");
            return;
        };
        for message in batch.messages {
            self.receive_one(message.kind(), &message.correlation_id, message.answer());
        }
    }

    fn receive_one(
        &self,
        kind: Option<Kind>,
        correlation_id: &Option<String>,
        answer: Result<Answer, serde_json::Error>,
    ) {
        let Ok(answer) = answer else {
            tracing::warn!(?kind, "a message that is no answer was passed over");
            return;
        };
        let question =
            correlation_id.as_ref().and_then(|id| lock(&self.questions).get(id).cloned());
        if let Some(question) = question {
            // The refusal of a question says nothing of the submission that it was about.
            if kind != Some(Kind::Refusal) {
                self.note(&answer);
            }
            // Who asked may have stopped waiting.
            question.send(answer).ok();
            return;
        }
        // Submissions have no correlation id: this is for a question that nobody waits for any
        // more.
        if correlation_id.is_some() {
            return;
        }
        match kind {
            Some(Kind::Receipt) => self.settle(answer, Progress::Accepted),
            // Of several submissions as a whole: each is sent again, and told what is wrong then.
            Some(Kind::Refusal) if answer.job_id.is_none() => self.send_alone(),
            Some(Kind::Refusal) if answer.retryable == Some(true) => self.delayed(answer),
            Some(Kind::Refusal) => self.settle(answer, Progress::Refused),
            Some(Kind::Event) => {
                self.note(&answer);
                // Nobody may be listening.
                self.events.send(answer).ok();
            }
            Some(Kind::Status) | None => {}
        }
    }

    /// It stays open, and is sent again when it has waited as long as for a receipt.
    fn delayed(&self, answer: Answer) {
        let Some(job_id) = &answer.job_id else { return };
        let submissions = lock(&self.submissions);
        let Some(waiting) = submissions.get(job_id) else { return };
        let is_first = !matches!(*waiting.borrow(), Progress::Delayed(_));
        if is_first {
            let code = answer.code.as_deref().unwrap_or_default();
            tracing::warn!(job_id, code, "refused for now: it is sent again");
        }
        waiting.send_replace(Progress::Delayed(Box::new(answer)));
    }

    fn settle(&self, answer: Answer, progress: fn(Box<Answer>) -> Progress) {
        self.note(&answer);
        let Some(job_id) = answer.job_id.clone() else { return };
        if let Some(waiting) = lock(&self.submissions).remove(&job_id) {
            waiting.send_replace(progress(Box::new(answer)));
        }
    }

    /// Notes in the journal what an answer says of a job.
    pub(crate) fn note(&self, answer: &Answer) {
        if let Some(horizon_ms) = answer.horizon_ms {
            self.journal.learn_horizon(horizon_ms);
        }
        let Some(job_id) = answer.job_id.clone() else { return };
        let standing = match answer.answer {
            // Its record is retired; it was done, and how is known still.
            AnswerWord::Forgotten if answer.outcome.is_some() => Standing::Done,
            AnswerWord::Found if answer.done == Some(true) => Standing::Done,
            AnswerWord::Found => Standing::Accepted,
            AnswerWord::Refused | AnswerWord::Voided | AnswerWord::Forgotten => {
                // A refusal that may pass ends nothing.
                if answer.retryable == Some(true) {
                    return;
                }
                Standing::Refused
            }
            AnswerWord::Unknown | AnswerWord::Unavailable | AnswerWord::Pending => return,
        };
        self.journal.mark(Mark {
            job_id,
            standing,
            ticket: answer.ticket.clone(),
            outcome: [&answer.state, &answer.outcome, &answer.code]
                .into_iter()
                .find_map(Clone::clone),
        });
    }

    /// What was learnt by asking settles a submission as well as a receipt would.
    pub(crate) fn learnt(&self, answer: &Answer) {
        match answer.answer {
            AnswerWord::Found => self.settle(answer.clone(), Progress::Accepted),
            AnswerWord::Refused if answer.retryable == Some(true) => {}
            AnswerWord::Refused | AnswerWord::Voided | AnswerWord::Forgotten => {
                self.settle(answer.clone(), Progress::Refused);
            }
            AnswerWord::Unknown | AnswerWord::Unavailable | AnswerWord::Pending => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
