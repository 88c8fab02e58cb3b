//! Which store it is, and whether it may have lost a stretch of time.

use protocol::UnixMillis;

use crate::Model;

/// What is recorded of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The layout of the keys.
    pub layout: u32,
    /// How many slots jobs are spread over.
    pub slots: u16,
    /// Grows by one when acknowledged writes may be lost.
    pub epoch: u64,
    /// The Redis process that was seen last.
    pub run_id: String,
    /// The last sign of life.
    pub alive_at: i64,
    /// When the deployment was made.
    pub created_at: i64,
    /// The last stretch of time that may be lost.
    pub lost: Option<(i64, i64)>,
    /// What tickets are derived from.
    pub secret: Vec<u8>,
}

/// What a process finds and brings when it opens a store.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The Redis process.
    pub run_id: String,
    /// Whether every acknowledged write survives its crash.
    pub survives: bool,
    /// The slots that it is set to.
    pub slots: u16,
    /// The layout that it writes.
    pub layout: u32,
    /// A secret, if there is none yet.
    pub secret: Vec<u8>,
    /// The epoch in which it wrote before; 0 if it comes for the first time.
    pub known_epoch: u64,
}

impl Model {
    /// Opens the store; what follows is written in its epoch.
    ///
    /// A new store begins one epoch after the one that was known, so 1 as a rule; whoever knew
    /// another one has lost everything up to now. Another Redis process may have lost what was
    /// acknowledged since the last sign of life, unless every write survives: then there is a new
    /// epoch, and the stretch is recorded.
    pub fn open(&mut self, opening: &Opening, at: UnixMillis) -> Deployment {
        let deployment = self.deployment.get_or_insert_with(|| Deployment {
            layout: opening.layout,
            slots: opening.slots,
            epoch: opening.known_epoch + 1,
            run_id: opening.run_id.clone(),
            alive_at: at.0,
            created_at: at.0,
            lost: (opening.known_epoch > 0).then_some((0, at.0)),
            secret: opening.secret.clone(),
        });
        if deployment.run_id != opening.run_id {
            deployment.run_id.clone_from(&opening.run_id);
            if !opening.survives {
                deployment.epoch += 1;
                deployment.lost = Some((deployment.alive_at, at.0));
            }
        }
        self.epoch = deployment.epoch;
        deployment.clone()
    }

    /// The sign of life that says up to when the store's memory reaches.
    pub fn alive(&mut self, now: UnixMillis) {
        if let Some(deployment) = &mut self.deployment {
            deployment.alive_at = now.0;
        }
    }

    /// What is recorded of the deployment.
    pub fn deployment(&self) -> Option<&Deployment> {
        self.deployment.as_ref()
    }
}
