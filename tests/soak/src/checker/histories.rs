//! What the clients wrote down, sorted by the job that it is of.

use std::collections::HashMap;

use serde_json::Value;

use super::{Findings, Invariant, Job};
use crate::history::{Entry, Micros, Seen};

/// What was read so far.
#[derive(Default)]
pub(super) struct Histories {
    jobs: HashMap<String, Job>,
    /// Of questions: when they were sent, and when they were answered.
    pub(super) answered: Vec<(Micros, Micros)>,
    /// Answers that name no job, by the ticket that was asked for.
    by_ticket: Vec<(String, Entry)>,
    /// Whose each ticket is.
    tickets: HashMap<String, String>,
}

impl Histories {
    /// Takes what a client wrote down.
    pub(super) fn add(&mut self, client: &str, entry: Entry, findings: &mut Findings) {
        self.count(&entry, findings);
        let id = match &entry.seen {
            Seen::Journaled { id, .. }
            | Seen::Confirmed { id, .. }
            | Seen::Sent { id }
            | Seen::CancelAsked { id }
            | Seen::Repeated { id, .. } => id.clone(),
            Seen::Told { answer, ticket, .. } => {
                // I11.
                if answer["client"].as_str().is_some_and(|of| of != client) {
                    findings.add(Invariant::I11, client, answer.to_string());
                }
                let Some(id) = answer["job_id"].as_str() else {
                    self.by_ticket.extend(ticket.clone().map(|ticket| (ticket, entry)));
                    return;
                };
                let name = format!("{client}:{id}");
                self.has_its_ticket(&name, answer, ticket.as_deref(), findings);
                id.to_owned()
            }
            _ => return,
        };
        self.jobs.entry(format!("{client}:{id}")).or_default().seen.push(entry);
    }

    fn count(&mut self, entry: &Entry, findings: &mut Findings) {
        let counters = &mut findings.counters;
        match &entry.seen {
            Seen::Repeated { is_lost: true, .. } => counters.lost_confirms += 1,
            Seen::Repeated { is_lost: false, .. } => counters.repeated += 1,
            Seen::Unanswered { .. } => counters.unanswered += 1,
            Seen::NotJournaled { .. } => counters.not_journaled += 1,
            Seen::Told { answer, asked, .. } => {
                counters.answers += usize::from(asked.is_some());
                let word = answer["answer"].as_str().unwrap_or_default();
                *counters.words.entry(word.to_owned()).or_default() += 1;
                counters.duplicates += usize::from(answer["duplicate"] == true);
                self.answered.extend(asked.map(|asked| (asked, entry.at)));
            }
            _ => {}
        }
    }

    /// I3: a ticket is of one job, and whoever asks by one is answered of it.
    fn has_its_ticket(
        &mut self,
        name: &str,
        answer: &Value,
        asked: Option<&str>,
        findings: &mut Findings,
    ) {
        let said = answer["ticket"].as_str();
        if said.zip(asked).is_some_and(|(said, asked)| said != asked) {
            let seen = format!("asked by {asked:?}, answered of {said:?}");
            findings.add(Invariant::I3, name, seen);
        }
        if let Some(known) = said.or(asked)
            && let Some(other) = self.tickets.insert(known.to_owned(), name.to_owned())
            && other != name
        {
            findings.add(Invariant::I3, name, format!("{known} is {other}'s"));
        }
    }

    /// Everything, by job: nobody asks by a ticket that was not heard of before.
    pub(super) fn into_jobs(mut self) -> HashMap<String, Job> {
        for (ticket, entry) in self.by_ticket {
            if let Some(name) = self.tickets.get(&ticket) {
                self.jobs.entry(name.clone()).or_default().seen.push(entry);
            }
        }
        self.jobs
    }
}
