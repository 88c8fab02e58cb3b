use std::sync::Arc;
use std::time::Duration;

use faults::{Point, crash_point};
use job::{JobType, Ticket};
use protocol::UnixMillis;
use protocol::request::ReportToken;
use store::JobName;
use store::change::Right;
use store::report::{Report, Reported};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::books::Books;

/// What a handler knows of its job, and how it reports. Clones speak of the same run.
#[derive(Debug, Clone)]
pub struct Context {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) books: Books,
    pub(crate) name: JobName,
    pub(crate) ticket: String,
    pub(crate) job_type: JobType,
    pub(crate) attempt: u32,
    pub(crate) fence: String,
    pub(crate) deadline: Option<UnixMillis>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Arc<[u8]>,
    /// A client has asked the job to stop.
    pub(crate) cancelled: CancellationToken,
    /// Another attempt has the right to run now.
    pub(crate) lost: CancellationToken,
    /// What the outside world reports with, once the handler has asked for it.
    pub(crate) report_token: OnceCell<ReportToken>,
}

/// Another attempt has the right to run now, or the job is done: stop, nothing more will be
/// written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another attempt of this job has taken over")]
pub struct Lost;

/// The longest stage or note, in bytes: it is to be read at a glance, and travels in events.
const TEXT_BYTES_MAX: usize = 1024;

fn capped(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

impl Context {
    /// The client's identifier.
    pub fn job_id(&self) -> &str {
        self.inner.name.job_id.as_str()
    }

    /// Who owns the job.
    pub fn client(&self) -> &str {
        self.inner.name.client.as_str()
    }

    /// The server's identifier: the same in every attempt, so a good key for idempotent effects.
    pub fn ticket(&self) -> &str {
        &self.inner.ticket
    }

    /// What is to be done.
    pub fn job_type(&self) -> &str {
        self.inner.job_type.as_str()
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// The right to write: its number, before the `-`, grows with each attempt, so that what this
    /// run does elsewhere can be fenced as well.
    pub fn fence(&self) -> &str {
        &self.inner.fence
    }

    /// When the job expires.
    pub fn deadline(&self) -> Option<UnixMillis> {
        self.inner.deadline
    }

    /// MIME type of the body, as the client says.
    pub fn content_type(&self) -> Option<&str> {
        self.inner.content_type.as_deref()
    }

    /// The client's body.
    pub fn body(&self) -> &[u8] {
        &self.inner.body
    }

    /// Says where the processing is, in a free word; recorded, and pushed to whoever wants it.
    ///
    /// # Errors
    /// [`Lost`]: stop.
    ///
    /// # Cancel safety
    /// It may be recorded or not.
    pub async fn stage(&self, stage: impl Into<String>) -> Result<(), Lost> {
        self.report(Report::Stage(capped(stage.into()))).await
    }

    /// Says how far the processing is, in percent, with a note (may be empty).
    ///
    /// # Errors
    /// [`Lost`]: stop.
    ///
    /// # Cancel safety
    /// It may be recorded or not.
    pub async fn progress(&self, percent: u8, note: impl Into<String>) -> Result<(), Lost> {
        self.report(Report::Progress(percent.min(100), capped(note.into()))).await
    }

    /// Whether a client has asked the job to stop. A handler that stops returns
    /// [`crate::Failure::Cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.is_cancelled()
    }

    /// Waits until a client asks the job to stop.
    pub async fn cancelled(&self) {
        self.inner.cancelled.cancelled().await;
    }

    /// The token with which the outside world finishes this job, for a handler that is about to
    /// give it away and then returns [`crate::HandOver`]. Within one attempt it is always the same;
    /// the next attempt's makes it worthless. It is a secret: whoever has it may report.
    ///
    /// A report that arrives before the handler has returned is answered `unavailable`, and is to
    /// be repeated.
    ///
    /// # Errors
    /// [`Lost`]: stop.
    ///
    /// # Cancel safety
    /// Safe; the next call gives a token.
    pub async fn report_token(&self) -> Result<String, Lost> {
        let token = self.inner.report_token.get_or_try_init(|| self.mint()).await?;
        Ok(token.as_str().to_owned())
    }

    pub(crate) fn has_report_token(&self) -> bool {
        self.inner.report_token.get().is_some()
    }

    async fn mint(&self) -> Result<ReportToken, Lost> {
        let ticket = Ticket::parse(&self.inner.ticket).ok_or(Lost)?;
        // Whoever guesses it finishes the job: from the system's source of randomness.
        let token = ReportToken::new(ticket, uuid::Uuid::new_v4().as_u128());
        let hash = token.hash();
        let stored = self
            .until_stored("a report token", || {
                self.inner.books.mint(&self.inner.name, &self.inner.fence, &hash)
            })
            .await?;
        if stored { Ok(token) } else { Err(self.lost()) }
    }

    fn lost(&self) -> Lost {
        self.inner.lost.cancel();
        Lost
    }

    async fn report(&self, report: Report) -> Result<(), Lost> {
        let right = Right::Fence(self.inner.fence.clone());
        let reported = self
            .until_stored("a report", || self.inner.books.report(&self.inner.name, &right, &report))
            .await?;
        crash_point(Point::WorkStaged);
        match reported {
            Reported::Held { cancel_requested } => {
                if cancel_requested {
                    self.inner.cancelled.cancel();
                }
                Ok(())
            }
            Reported::Lost | Reported::NotNow => Err(self.lost()),
        }
    }

    /// Repeats a call until the store answers: a store that is away for a moment is no reason to
    /// fail.
    async fn until_stored<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T, Lost>
    where
        F: Future<Output = Result<T, store::Error>>,
    {
        let mut pause = Duration::from_millis(50);
        loop {
            if self.inner.lost.is_cancelled() {
                return Err(Lost);
            }
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => tracing::debug!(%error, job = self.job_id(), what),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.inner.lost.cancelled() => return Err(Lost),
            }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}
