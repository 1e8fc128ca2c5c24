//! The native format, version 1 (`spec/native-v1.md`).

use crate::{
    error::{Error, ErrorKind, Result},
    format::{Format, Header, Probe},
    storage::Storage,
};

/// The native format.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Format for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn probe(&self, _storage: &dyn Storage) -> Result<Probe> {
        Ok(Probe::NoMatch)
    }

    fn read_header(&self, _storage: &dyn Storage) -> Result<Box<dyn Header>> {
        Err(Error::new(ErrorKind::NotAContainer, "being built"))
    }
}
