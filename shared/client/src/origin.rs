//! Finds out what makes this machine's identifiers differ.

use job::Origin;

use crate::Error;

/// The origin that a setting names: `ip` is the machine's first address that is not loopback, or
/// its name where there is none; anything else is a label.
///
/// # Errors
/// [`Error::InvalidId`] if the label is outside its alphabet.
pub fn find(setting: &str) -> Result<Origin, Error> {
    if setting != "ip" {
        return Ok(Origin::label(setting)?);
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let address = interfaces.iter().map(if_addrs::Interface::ip).find(|ip| !ip.is_loopback());
    Ok(match address {
        Some(address) => Origin::ip(address),
        None => Origin::host_name(&host_name()),
    })
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| "host".to_owned(), |name| name.trim().to_owned())
}
