//! The private nodes of tests and campaigns.

use harness::workspace;
use nodes::{RabbitMq, ports};

/// What was killed listened for a little longer. So one that only started was taken for one that
/// worked, and the campaign's next command to it failed.
#[test]
fn a_broker_that_was_killed_works_when_it_is_said_to_be_there_again() -> anyhow::Result<()> {
    let port = ports::free(1)?[0];
    // Of another version's node, as `make lanes` leaves one, this one could not use the data.
    let directory = workspace().join("target/private-nodes");
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    let mut rabbitmq = RabbitMq::start(&directory, port, "{}", false)?;
    rabbitmq.kill();
    assert!(!ports::is_open(port));
    rabbitmq.start_again()?;
    // A node that only starts refuses it.
    rabbitmq.control(&["set_disk_free_limit", "50MB"])?;
    Ok(())
}
