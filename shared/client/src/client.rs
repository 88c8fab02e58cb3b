use std::sync::Arc;
use std::time::Duration;

use job::Origin;
use protocol::Answer;
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::inbox::{Inbox, Progress};
use crate::journal::{Appended, Horizon, Journal};
use crate::link::{Link, Send};
use crate::outgoing::Outgoing;
use crate::{Error, Settings, Submission};

/// Submits, asks and listens for one client. Clones share journal and connection.
///
/// The connection is kept in the background, made anew when it fails, and needs not be there when
/// something is submitted.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) journal: Journal,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) sender: mpsc::Sender<Send>,
    pub(crate) refused: watch::Receiver<Option<String>>,
    stop: CancellationToken,
    link: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Sends that may wait for the connection; beyond it `submit` waits, with its entry on disk.
const WAITING_MAX: usize = 4096;
/// How long a connection may take to close.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);

impl Client {
    /// Opens the journal and starts to connect.
    ///
    /// # Errors
    /// [`Error::Journal`], or settings that cannot be. A broker that is away is no error.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let name = settings.amqp.user()?;
        job::ClientName::parse(&name)?;
        let journal = Journal::open(&settings.client, &name)?;
        let origin = crate::origin::find(&settings.client.origin)?;
        let inbox = Arc::new(Inbox::new(journal.clone()));
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let (refused_sender, refused) = watch::channel(None);
        let stop = CancellationToken::new();
        let link = Link {
            settings: settings.clone(),
            client: name.clone(),
            origin: origin.clone(),
            queue: format!("reply.{name}.{}", uuid::Uuid::new_v4().simple()),
            inbox: Arc::clone(&inbox),
            waiting,
            refused: refused_sender,
            stop: stop.clone(),
            has_worked: false,
        };
        let link = Mutex::new(Some(tokio::spawn(link.run())));
        let inner = Inner { settings, name, origin, journal, inbox, sender, refused, stop, link };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes what is left to write and closes the connection. What has no receipt yet stays in the
    /// journal; [`Self::recover`] sends it.
    pub async fn close(&self) {
        self.inner.journal.flush().await;
        self.inner.stop.cancel();
        let link = self.inner.link.lock().await.take();
        if let Some(link) = link
            && tokio::time::timeout(CLOSES_WITHIN, link).await.is_err()
        {
            tracing::debug!("the connection did not close in time");
        }
    }

    /// The client's name: the user of the connection.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.inner.journal
    }

    /// Submits a job. When this returns, identifier and job are on disk; they are sent until a
    /// receipt or a refusal arrives, by this process or by one that recovers the journal.
    ///
    /// # Errors
    /// Nothing was written and nothing will be sent. After [`Error::NotSynced`] it is not known
    /// whether it was written, and it is sent only if it was.
    ///
    /// # Cancel safety
    /// The job may be on disk or not; [`Self::recover`] sends what is.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, Error> {
        let mut submitted = self.submit_many(vec![submission]).await?;
        submitted.pop().ok_or(Error::Closed)
    }

    /// Submits many jobs with one sync of the disk.
    ///
    /// # Errors
    /// As [`Self::submit`]; all of them or none.
    pub async fn submit_many(&self, submissions: Vec<Submission>) -> Result<Vec<Submitted>, Error> {
        let journaled = self.write(submissions).await?;
        let mut submitted = Vec::with_capacity(journaled.len());
        for outgoing in journaled {
            submitted.push(self.send(outgoing).await?);
        }
        Ok(submitted)
    }

    /// Writes many jobs to the journal with one sync of the disk, and returns their identifiers
    /// without waiting for the connection: what it does not take at once is sent by
    /// [`Self::recover`].
    ///
    /// # Errors
    /// As [`Self::submit_many`].
    pub async fn journal_many(&self, submissions: Vec<Submission>) -> Result<Vec<String>, Error> {
        let mut ids = Vec::with_capacity(submissions.len());
        for outgoing in self.write(submissions).await? {
            ids.push(outgoing.job_id.clone());
            // Only what is expected is sent again.
            let Ok(place) = self.inner.sender.try_reserve() else { continue };
            drop(self.inner.inbox.expect_receipt(&outgoing.job_id));
            place.send(Send::Submission(Box::new(outgoing)));
        }
        Ok(ids)
    }

    /// Gives each submission its identifier and puts all of them on disk.
    async fn write(&self, submissions: Vec<Submission>) -> Result<Vec<Outgoing>, Error> {
        let mut entries = Vec::with_capacity(submissions.len());
        for mut submission in submissions {
            let job_id = submission.take_id(&self.inner.origin)?.as_str().to_owned();
            entries.push(Appended { job_id, submission });
        }
        let times = self.inner.journal.append(entries.clone()).await?;
        let outgoing = |(entry, journaled_at_ms): (Appended, i64)| Outgoing {
            job_id: entry.job_id,
            journaled_at_ms,
            job_type: entry.submission.job_type,
            body: entry.submission.body,
            options: entry.submission.options,
        };
        Ok(entries.into_iter().zip(times).map(outgoing).collect())
    }

    /// Hands a journaled submission to the connection; waits while too many others do.
    pub(crate) async fn send(&self, outgoing: Outgoing) -> Result<Submitted, Error> {
        let job_id = outgoing.job_id.clone();
        let progress = self.inner.inbox.expect_receipt(&job_id);
        let refused = self.inner.refused.clone();
        let horizon = self.inner.journal.horizon().clone();
        let submitted = Submitted { job_id, progress, refused, horizon };
        // A connection that is refused for good takes nothing; the entry stays in the journal.
        if self.inner.sender.send(Send::Submission(Box::new(outgoing))).await.is_err() {
            tracing::debug!(job_id = submitted.job_id, "kept in the journal");
        }
        Ok(submitted)
    }

    /// The changes that are pushed to this process's own queue, from now on.
    pub fn events(&self) -> broadcast::Receiver<Answer> {
        self.inner.inbox.events()
    }

    /// Why RabbitMQ refuses this client for good, if it does.
    pub fn refused(&self) -> Option<String> {
        self.inner.refused.borrow().clone()
    }

    pub(crate) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.settings.client.answer_timeout_ms)
    }
}

/// A submission that is on disk.
#[derive(Debug, Clone)]
pub struct Submitted {
    job_id: String,
    progress: watch::Receiver<Progress>,
    refused: watch::Receiver<Option<String>>,
    horizon: Horizon,
}

impl Submitted {
    /// The identifier.
    pub fn job_id(&self) -> &str {
        &self.job_id
    }

    /// Waits until the broker has it, for as long as it takes.
    ///
    /// # Errors
    /// [`Error::Answered`] if it was refused; [`Error::Refused`] if RabbitMQ refuses the client;
    /// [`Error::TooOld`] if it waited for longer than it may be sent.
    pub async fn confirmed(&self) -> Result<(), Error> {
        match self.wait(|progress| !matches!(progress, Progress::Journaled)).await? {
            Progress::Refused(answer) => Err(Error::Answered(answer)),
            Progress::TooOld => Err(self.too_old()),
            _ => Ok(()),
        }
    }

    /// Waits for the receipt, for as long as it takes; also while it is refused for a reason that
    /// may pass ([`Self::answered`] does not).
    ///
    /// # Errors
    /// [`Error::Answered`] if it was refused for good; [`Error::Refused`] if RabbitMQ refuses the
    /// client; [`Error::TooOld`] if it waited for longer than it may be sent.
    pub async fn accepted(&self) -> Result<Answer, Error> {
        let settled = |p: &Progress| {
            !matches!(p, Progress::Journaled | Progress::Confirmed | Progress::Delayed(_))
        };
        self.settled(self.wait(settled).await?)
    }

    /// Waits for the receipt or for any refusal, even one that may pass (`retryable`), for as long
    /// as it takes. After such a one the submission is still sent, again and again.
    ///
    /// # Errors
    /// As [`Self::accepted`].
    pub async fn answered(&self) -> Result<Answer, Error> {
        let settled = |p: &Progress| !matches!(p, Progress::Journaled | Progress::Confirmed);
        self.settled(self.wait(settled).await?)
    }

    fn settled(&self, progress: Progress) -> Result<Answer, Error> {
        match progress {
            Progress::Accepted(receipt) => Ok(*receipt),
            Progress::Refused(answer) | Progress::Delayed(answer) => Err(Error::Answered(answer)),
            Progress::TooOld => Err(self.too_old()),
            Progress::Journaled | Progress::Confirmed => Err(Error::Closed),
        }
    }

    fn too_old(&self) -> Error {
        self.horizon.too_old(&self.job_id)
    }

    async fn wait(&self, until: impl Fn(&Progress) -> bool) -> Result<Progress, Error> {
        let (mut progress, mut refused) = (self.progress.clone(), self.refused.clone());
        tokio::select! {
            biased;
            progress = progress.wait_for(until) => {
                progress.map(|progress| progress.clone()).map_err(|_| Error::Closed)
            }
            refused = refused.wait_for(Option::is_some) => match refused {
                Ok(why) => Err(Error::Refused(why.clone().unwrap_or_default())),
                Err(_) => Err(Error::Closed),
            }
        }
    }
}
