//! The machine-readable contract of version 1, held against the code: `docs/schemas/v1`,
//! `docs/asyncapi.yaml`, golden messages (`shared/protocol/testdata/v1`) and golden records
//! (`shared/store/testdata/v1`).

mod batches;
mod dump;
mod frozen;
mod internal;
mod messages;
mod records;
mod requests;
mod schemas;
mod topology;
mod traffic;
mod wire;
mod words;
