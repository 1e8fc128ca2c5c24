//! A header file that is gone or damaged is made anew from the other one.

use std::{io, sync::Arc};

use super::{
    COPY_NAME, Folder, Geometry, HEADER_NAME, PieceError, Role, area_offset, block::BLOCK_LEN_U64,
    map::map_len, read_block, read_map,
};
use crate::storage::Storage;

/// Makes the one of the two header files anew whose first block is not whole, as far as the other one tells: what it held of the
/// container is left as it is, or zeros, which the container's format mends. Gives its name where it did anything. For who has
/// locked both.
///
/// # Errors
/// What is wrong with the header file where both are damaged; what reading and writing gave.
pub fn mend(folder: &dyn Folder) -> io::Result<Option<&'static str>> {
    let open = |name| match folder.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    };
    let (header, copy) = (open(HEADER_NAME)?, open(COPY_NAME)?);
    let told = |file: &Option<Arc<dyn Storage>>, role, name| match file {
        Some(file) => read_block(&**file, role, name).map_err(PieceFault::from),
        None => Err(PieceFault::Gone),
    };
    let found = [told(&header, Role::Header, HEADER_NAME), told(&copy, Role::Copy, COPY_NAME)];
    match found {
        [Ok(before), Ok(after)] if before != after => {
            let (Some(header), Some(copy)) = (header, copy) else { return Ok(None) };
            if super::found(&*header, &*copy).is_err() {
                // Whoever opens it is told.
                return Ok(None);
            }
            super::resize::finish(folder, (&*header, &before), (&*copy, &after)).map(Some)
        }
        [Ok(_), Ok(_)] => Ok(None),
        [Ok(geometry), Err(fault)] => {
            let source = header.ok_or(io::ErrorKind::NotFound)?;
            fault.allow()?;
            remake(folder, &geometry, (Role::Copy, COPY_NAME), copy.as_ref(), &*source)
        }
        [Err(fault), Ok(geometry)] => {
            let source = copy.ok_or(io::ErrorKind::NotFound)?;
            fault.allow()?;
            remake(folder, &geometry, (Role::Header, HEADER_NAME), header.as_ref(), &*source)
        }
        [Err(fault), Err(_)] => Err(fault.into()),
    }
}

/// Why a header file tells nothing.
enum PieceFault {
    Gone,
    Told(io::Error),
}

impl From<io::Error> for PieceFault {
    fn from(error: io::Error) -> Self {
        Self::Told(error)
    }
}

impl From<PieceFault> for io::Error {
    fn from(fault: PieceFault) -> Self {
        match fault {
            PieceFault::Gone => io::ErrorKind::NotFound.into(),
            PieceFault::Told(error) => error,
        }
    }
}

impl PieceFault {
    /// A file that is only damaged may be made anew; one of a later version, or that the medium does not give, may not.
    fn allow(self) -> io::Result<()> {
        let Self::Told(error) = self else { return Ok(()) };
        match error.downcast::<PieceError>() {
            Ok(PieceError::Block(_, super::BlockError::Damaged | super::BlockError::NoBlock)) => Ok(()),
            Ok(other) => Err(other.into()),
            Err(error) => Err(error),
        }
    }
}

fn remake(
    folder: &dyn Folder,
    geometry: &Geometry,
    (role, name): (Role, &'static str),
    there: Option<&Arc<dyn Storage>>,
    source: &dyn Storage,
) -> io::Result<Option<&'static str>> {
    let data = geometry.data();
    let held = if role == Role::Header { data.start } else { geometry.container_len() - data.end };
    let len = area_offset(geometry).saturating_add(held);
    let unfinished = format!("{name}.new");
    let file = match there {
        // Whoever has locked it goes on with it.
        Some(file) => Arc::clone(file),
        None => folder.make(&unfinished, len, true)?,
    };
    if file.size()? < len {
        file.set_size(len)?;
    }
    if read_map(&*file, geometry).is_none() && read_map(source, geometry).is_some() {
        let mut map = vec![0; map_len(geometry)];
        source.read_exact_at(&mut map, BLOCK_LEN_U64)?;
        file.write_all_at(&map, BLOCK_LEN_U64)?;
        file.sync_data()?;
    }
    file.write_all_at(&geometry.block(role), 0)?;
    file.sync_data()?;
    if there.is_none() {
        folder.rename(&unfinished, name)?;
        folder.sync()?;
    }
    Ok(Some(name))
}
