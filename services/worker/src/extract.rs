//! What a handler can take: each argument is made from the job, in order.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::{Context, Failure};

/// Something that is made from a job.
pub trait FromJob: Sized {
    /// Makes it.
    ///
    /// # Errors
    /// [`Failure::Fail`] if this job will never have it: another attempt would not help.
    fn from_job(job: &Context) -> Result<Self, Failure>;
}

/// The body, read as JSON.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

/// The body as it came.
#[derive(Debug, Clone)]
pub struct Bytes(pub Arc<[u8]>);

impl<T: DeserializeOwned> FromJob for Json<T> {
    fn from_job(job: &Context) -> Result<Self, Failure> {
        serde_json::from_slice(job.body())
            .map(Json)
            .map_err(|error| Failure::fail(format!("the body is not the JSON wanted: {error}")))
    }
}

impl FromJob for Bytes {
    fn from_job(job: &Context) -> Result<Self, Failure> {
        Ok(Self(Arc::clone(&job.inner.body)))
    }
}

impl FromJob for Context {
    fn from_job(job: &Context) -> Result<Self, Failure> {
        Ok(job.clone())
    }
}
