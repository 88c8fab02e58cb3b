//! What comes from Redis: a script's reply, a record's fields.

use job::QueueName;
use store::Record;

#[path = "../../../shared/store/src/reply.rs"]
#[allow(dead_code, unreachable_pub, reason = "production's file, as it stands")]
mod answered;

use answered::Reply;

/// What the file above needs of its crate.
#[derive(Debug)]
pub struct Error;

impl Error {
    pub(crate) fn unexpected(what: impl std::fmt::Debug) -> Self {
        drop(format!("{what:?}").chars().take(200).collect::<String>());
        Self
    }
}

/// Any bytes that redis-rs takes for an answer are a reply of which every part can be asked.
pub fn reply(data: &[u8]) {
    let Ok(value) = redis::parse_redis_value(data) else { return };
    drop(answered::bytes(value.clone()));
    let Ok(reply) = Reply::new(value) else { return };
    for index in [0, 1, 2, 3, usize::MAX] {
        let text = reply.text(index).to_owned();
        assert_eq!(reply.optional(index).unwrap_or_default(), text);
        let number: Result<u64, Error> = reply.parse(index);
        assert_eq!(number.is_ok(), text.parse::<u64>().is_ok());
    }
    assert_eq!(reply.word(), reply.text(0));
    reply.into_texts().for_each(drop);
}

/// Any texts in a record's fields give a state, a name, a specification, or none.
pub fn record(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut fields = text.split('\n').map(|field| (!field.is_empty()).then(|| field.to_owned()));
    let mut next = || fields.next().flatten();
    let record = Record {
        record: next(),
        client: next(),
        job_id: next(),
        ticket: next(),
        r#type: next(),
        state: next(),
        revision: next(),
        epoch: next(),
        attempt: next(),
        dispatch: next(),
        fence: next(),
        lease_until: next(),
        notify: next(),
        not_before: next(),
        deadline: next(),
        timeout_ms: next(),
        max_attempts: next(),
        priority: next(),
        keep_ms: next(),
        tags: next(),
        timestamp: next(),
        progress: next(),
        result: next(),
        waits: next(),
        expires_at: next(),
        ..Record::default()
    };
    drop((record.kind(), record.state(), record.ticket(), record.job_type(), record.tags()));
    let instant = Record::instant(&record.deadline);
    assert_eq!(instant, record.spec().deadline);
    if let Some(at) = instant {
        assert!(!at.to_string().is_empty());
    }
    if let Some(name) = record.name() {
        assert_eq!(store::JobName::from_member(&name.member()), Some(name));
    }
    // An instant that is no date, or an epoch beyond AMQP's integers, comes from nobody but who has
    // written into Redis by hand.
    let spec = record.spec();
    let is_a_date =
        |at: protocol::UnixMillis| protocol::UnixMillis::parse(&at.to_string()).is_some();
    if !spec.not_before.into_iter().chain(spec.deadline).all(is_a_date) {
        return;
    }
    if let Some(work) = record.work_message(QueueName::default(), 1, Vec::new())
        && i64::try_from(work.epoch).is_ok()
    {
        let key = job::TicketKey::new(b"secret");
        let read =
            protocol::WorkMessage::read(&work.queue, &work.properties(&key), Vec::new(), &key);
        assert!(read.is_ok(), "what a record dispatches is read: {read:?}");
    }
}
