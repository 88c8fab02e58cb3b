//! The running system, through its public contracts, on a real RabbitMQ and a real Redis.

mod thread;
