//! Where a process can be made to crash.

macro_rules! points {
    ($($point:ident $name:literal $what:literal)*) => {
        /// A place around a durable step.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Point {
            $(#[doc = $what] $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Its name in `FAULTS_CRASH_AT`: where, and what has just been done there.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }

            /// What has been done, and what has not.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$point => $what,)* }
            }
        }
    };
}

points! {
    JournalBegun "client.journal-begun"
        "A submission is to be written to the journal; nothing is."
    JournalSynced "client.journal-synced"
        "It is on disk; whoever submits does not know yet, and nothing is sent."
    ClientSending "client.sending"
        "It is about to be published."
    ClientSent "client.sent"
        "It is published; no confirm has come."
    ClientConfirmed "client.confirmed"
        "The broker has confirmed it; the journal does not say so."
    ClientReceived "client.received"
        "A receipt, an event or an answer has come; the journal does not say so, and it is not acknowledged."
    ClientRecorded "client.recorded"
        "The journal says so; the message is not acknowledged."
    ClientAsked "client.asked"
        "Recovery has asked about what is open, and acted on nothing."

    IntakeRead "registrar.read"
        "Deliveries of the line are read; nothing is decided."
    IntakeAccepted "registrar.accepted"
        "Submissions are recorded; none is dispatched."
    IntakeRefused "registrar.refused"
        "Refusals are recorded; nothing else of the chunk is decided."
    IntakeAnswered "registrar.questions-answered"
        "Questions of the line are decided, ids are voided; nothing is sent."
    IntakeDecided "registrar.decided"
        "A chunk is decided; it is not handed to the second task."
    IntakeDispatching "registrar.dispatching"
        "A chunk is about to be dispatched."
    IntakeDispatched "registrar.dispatched"
        "The broker has confirmed the work messages; nothing is acknowledged."
    IntakeAcknowledged "registrar.acknowledged"
        "The chunk is acknowledged; no receipt is sent."
    ReceiptSending "registrar.receipt-sending"
        "Receipts are about to be sent."
    ReceiptSent "registrar.receipt-sent"
        "Receipts are sent; those that failed are not in the outbox."
    DroppedRead "registrar.dropped-read"
        "What the broker dropped is read; nothing is recorded."
    DroppedRecorded "registrar.dropped-recorded"
        "It is recorded, dispatched again, or its run is watched; it is not acknowledged."

    InquiryRead "inquiry.read"
        "Requests are read; nothing is done."
    InquiryDone "inquiry.done"
        "They are carried out; nothing is answered or sent on."
    InquirySentOn "inquiry.sent-on"
        "Questions have joined the line; the requests are not acknowledged."
    InquiryAnswered "inquiry.answered"
        "Answers are sent; the requests are not acknowledged."

    WorkRead "worker.read"
        "Work messages are read; none is claimed."
    WorkClaimed "worker.claimed"
        "Jobs are claimed; no handler has started."
    WorkStarted "worker.started"
        "A handler is about to run."
    WorkRan "worker.ran"
        "A handler has returned; its outcome is not recorded."
    WorkRecorded "worker.recorded"
        "Outcomes are recorded; their messages are not acknowledged."
    WorkAcknowledged "worker.acknowledged"
        "The messages are acknowledged."
    WorkStaged "worker.staged"
        "A stage is recorded; the handler does not know."
    WorkDetached "worker.detached"
        "A run is detached; its message is not acknowledged."
    WorkBeat "worker.beat"
        "Leases are renewed."
    WorkGivenBack "worker.given-back"
        "A run is given back in the store; its message is not returned."
    WorkRebuilt "worker.rebuilt"
        "A record that was lost is written again; its message is not claimed."

    NotifierRead "notifier.read"
        "Entries of the outbox are read; none is sent."
    NotifierSent "notifier.sent"
        "They are sent and confirmed; the outbox still holds them."
    NotifierSettled "notifier.settled"
        "They are out of the outbox."

    TimerTaken "scheduler.taken"
        "A job that is due is taken; it is not dispatched."
    TimerDispatched "scheduler.dispatched"
        "It is dispatched; its payload is still in the store."
    TimerSettled "scheduler.settled"
        "Its payload is out of the store."
    ParkedReleased "scheduler.released"
        "Parked jobs are released; none is dispatched."
    RecordRetired "scheduler.retired"
        "Records are replaced by tombstones."
    WaitsEnded "scheduler.waits-ended"
        "Answers to those who waited are in the outbox."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: std::collections::HashSet<&str> =
            Point::ALL.iter().map(|p| p.as_str()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        assert!(names.len() >= 40, "{}", names.len());
    }
}
