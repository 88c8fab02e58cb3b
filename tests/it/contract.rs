//! The machine-readable contract of version 1, held against the code: `docs/schemas/v1`,
//! `docs/asyncapi.yaml`, the golden messages in `shared/protocol/testdata/v1` and the golden records
//! in `shared/store/testdata/v1`.

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
