//! What of the host the user has let the machine have: folders, and ports.
//!
//! A container that starts again mounts and publishes what its record says, and a guest
//! keeps those records. One that has been taken over could write anything there, and
//! would be given it at its next boot: so it gets only what the user has named before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use isolazi_protocol::{PortProtocol, PortRequest};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::machine::MachineError;

/// What was let, ever.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Consent {
    /// Files and folders by their canonical paths, each with whether it may be written to.
    shared: BTreeMap<PathBuf, bool>,
    published: BTreeSet<HostPort>,
}

/// A port of the host's; on all addresses where there is none.
type HostPort = (Option<IpAddr>, u16, PortProtocol);

impl Consent {
    /// What is kept in `file`; nothing where there is none.
    pub(super) fn read(file: &Path) -> Result<Self, MachineError> {
        match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| MachineError::io("understand", file)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(MachineError::io("read", file)(error)),
        }
    }

    fn write(&self, file: &Path) -> Result<(), MachineError> {
        serde_json::to_vec(self)
            .map_err(io::Error::from)
            .and_then(|text| files::replace(file, &text))
            .map_err(MachineError::io("write", file))
    }

    /// Keeps in `file` that the user has shared `path`.
    pub(super) fn share(file: &Path, path: &Path, read_only: bool) -> Result<(), MachineError> {
        let mut consent = Self::read(file)?;
        if consent.covers(path, read_only) {
            return Ok(());
        }
        let writable = consent.shared.entry(path.to_owned()).or_default();
        *writable |= !read_only;
        consent.write(file)
    }

    /// Keeps in `file` that the user has published these ports, whose part of the host is
    /// settled.
    pub(super) fn publish(file: &Path, ports: &[PortRequest]) -> Result<(), MachineError> {
        let mut consent = Self::read(file)?;
        let known = consent.published.len();
        consent.published.extend(ports.iter().filter_map(host_port));
        match consent.published.len() == known {
            true => Ok(()),
            false => consent.write(file),
        }
    }

    /// Refuses ports that the user has not published.
    pub(super) fn check_ports(&self, ports: &[PortRequest]) -> Result<(), MachineError> {
        let is_known =
            |it: &&PortRequest| host_port(it).is_some_and(|port| self.published.contains(&port));
        let Some(other) = ports.iter().find(|it| !is_known(it)) else {
            return Ok(());
        };
        let port = other.host_port.unwrap_or_default();
        Err(MachineError::Failed(format!(
            "port {port} of the host has not been published by you, only the machine's own records say so; make the container anew with -p"
        )))
    }

    /// Whether the user has shared `path`, and for writing unless it is `read_only`.
    fn covers(&self, path: &Path, read_only: bool) -> bool {
        let writable = self.shared.get(path);
        writable.is_some_and(|writable| *writable || read_only)
    }

    /// Refuses what the user has not shared. What has become a link since, which a guest
    /// can have made in a folder that it may write to, leads elsewhere.
    pub(super) fn check(&self, path: &Path, read_only: bool) -> Result<(), MachineError> {
        if !self.covers(path, read_only) {
            let how = if read_only { "" } else { " for writing" };
            return Err(MachineError::Failed(format!(
                "{} has not been shared with the machine{how} by you, only its own records say so; make the container anew with -v",
                path.display()
            )));
        }
        let leads_to = fs::canonicalize(path).map_err(MachineError::io("find", path))?;
        if leads_to == path {
            return Ok(());
        }
        Err(MachineError::Failed(format!(
            "{} leads to {} now, which you have not shared with the machine; make the container anew with -v",
            path.display(),
            leads_to.display()
        )))
    }
}

/// Which of the host's ports it is, where that is settled.
fn host_port(request: &PortRequest) -> Option<HostPort> {
    Some((request.address, request.host_port?, request.target.protocol))
}

#[cfg(test)]
mod tests {
    use isolazi_protocol::ExposedPort;

    use super::*;

    #[test]
    fn only_ports_that_were_published_are_published_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("consent.json");
        let port = |address: Option<&str>, host_port, protocol| PortRequest {
            address: address.map(|it| it.parse().unwrap()),
            host_port,
            target: ExposedPort { port: 80, protocol },
        };
        let own = port(Some("127.0.0.1"), Some(8080), PortProtocol::Tcp);
        Consent::publish(&file, &[own]).unwrap();
        let consent = Consent::read(&file).unwrap();
        consent.check_ports(&[own]).unwrap();
        for other in [
            port(Some("127.0.0.1"), Some(8080), PortProtocol::Udp),
            port(None, Some(8080), PortProtocol::Tcp),
            port(Some("127.0.0.1"), Some(22), PortProtocol::Tcp),
            port(Some("127.0.0.1"), None, PortProtocol::Tcp),
        ] {
            consent.check_ports(&[own, other]).unwrap_err();
        }
    }

    #[test]
    fn only_what_was_given_is_there_and_for_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let file = root.join("consent.json");
        let (read, write) = (root.join("read"), root.join("write"));
        for path in [&read, &write] {
            fs::create_dir(path).unwrap();
        }
        Consent::share(&file, &read, true).unwrap();
        Consent::share(&file, &write, true).unwrap();
        Consent::share(&file, &write, false).unwrap();
        // What was given once stays.
        Consent::share(&file, &write, true).unwrap();
        let consent = Consent::read(&file).unwrap();
        consent.check(&read, true).unwrap();
        consent.check(&write, true).unwrap();
        consent.check(&write, false).unwrap();
        let refused = consent.check(&read, false).unwrap_err().to_string();
        assert!(refused.contains("for writing"), "{refused}");
        for other in [root.clone(), write.join(".."), write.join("below")] {
            consent.check(&other, true).unwrap_err();
        }
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (file, shared) = (root.join("consent.json"), root.join("shared"));
        fs::create_dir(&shared).unwrap();
        Consent::share(&file, &shared, false).unwrap();
        fs::remove_dir(&shared).unwrap();
        std::os::unix::fs::symlink("/", &shared).unwrap();
        let consent = Consent::read(&file).unwrap();
        let refused = consent.check(&shared, true).unwrap_err().to_string();
        assert!(refused.contains("leads to / now"), "{refused}");
        fs::remove_file(&shared).unwrap();
        let gone = anyhow::Error::from(consent.check(&shared, true).unwrap_err());
        assert!(format!("{gone:#}").contains("No such file"), "{gone:#}");
    }

    #[test]
    fn a_file_that_is_not_ours_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("consent.json");
        assert_eq!(Consent::read(&file).unwrap(), Consent::default());
        fs::write(&file, "{").unwrap();
        let error = anyhow::Error::from(Consent::read(&file).unwrap_err());
        assert!(format!("{error:#}").contains("consent.json"));
    }
}
