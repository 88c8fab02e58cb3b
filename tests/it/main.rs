//! The running system, through its public contracts, on a real RabbitMQ and a real Redis.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod claim_table;
mod claims;
mod commands;
mod contract;
mod dead_letters;
mod differential;
mod documents;
mod duplicates;
mod fences;
mod foreign;
mod full_line;
mod handed_over;
mod horizon;
mod interleavings;
mod journal;
mod journal_disks;
mod journal_files;
mod line;
mod lists;
mod lost_stretches;
mod numbered;
mod operate;
mod order_desk;
mod package;
mod program;
mod promises;
mod raw_bytes;
mod refusals;
mod refused_requests;
mod replays;
mod reply_queues;
mod retention;
mod rights;
mod rolled_back;
mod shared_store;
mod subscriptions;
mod thread;
mod tidy;
mod timers;
mod versions;
mod waits;
mod work_queues;
mod worker;
