//! A volume's file system made visible: by a driver at the place that was named, or by udisks where that likes.

use std::os::fd::OwnedFd;

use super::{Place, Server};
use crate::{
    error::{Error, ErrorKind, Result},
    export::{Client, VOLUME_FILE},
    mount::{
        driver::{Builtin, Driver, DriverChoice, Spot, View, Volume as DriverVolume},
        filesystem::{Contents, Superblock},
        mountpoint::{MountPoint, remove_made},
        protocol::{Order, Target},
        replay::{Below, Replay, take_down},
        server::parts::MadeMountPoint,
        session::Session,
        udisks,
        undo::Log,
    },
    volume::{ByteDevice, Container, Volume, missing_end},
};

impl Server {
    /// Makes the file system visible, and gives what tells of the end of what serves it.
    ///
    /// # Errors
    /// Those of the drivers.
    pub(super) fn raise(
        order: &Order,
        place: &Place,
        (container, volume): (&Container, &Volume),
        session: &mut Session,
        log: &Log,
    ) -> Result<OwnedFd> {
        // What cannot be read the driver will tell.
        let container_len = container.storage().size()?;
        let missing_end = missing_end(&*volume.device(), volume.info(), container_len).ok().flatten();
        let options = order.target.options();
        let view = View {
            read_only: order.read_only,
            missing_end: missing_end.as_deref(),
            owners: order.target.owners(),
            share: order.target.share(),
            options: &options,
        };
        let raising = Raising { order, place, volume, view, log };
        let Place::FileSystem(mountpoint, driver) = place else { return raising.by_udisks(true, session) };
        let elsewhere = raising.elsewhere(mountpoint, *driver, session);
        if elsewhere.is_err() && raising.is_made() {
            // It goes, as whoever made it finds it as it was.
            mountpoint.seal()?;
        }
        elsewhere?.map_or_else(|| raising.here(mountpoint, *driver, session), Ok)
    }
}

/// What is to be made visible, and how.
struct Raising<'a> {
    order: &'a Order,
    place: &'a Place,
    volume: &'a Volume,
    view: View<'a>,
    log: &'a Log,
}

impl Raising<'_> {
    /// Whether the mount point was made for this mount.
    fn is_made(&self) -> bool {
        matches!(self.order.target, Target::FileSystem { made: true, .. })
    }

    /// At the place that was named, or made.
    fn here(&self, mountpoint: &MountPoint, driver: Driver, session: &mut Session) -> Result<OwnedFd> {
        let made = self.is_made();
        if made {
            session.note(|record| record.made_mountpoint = true)?;
            session.parts.push(MadeMountPoint::new(mountpoint.path()));
        }
        let device = self.volume.device();
        let builtin = Builtin::of(&device, (self.order.target.driver(), driver));
        let replay = if builtin.as_ref().is_some_and(Builtin::replays_journals) {
            Replay::plan_repair(device, self.view.read_only && self.view.missing_end.is_none())
        } else {
            let only_reads = self.view.read_only || builtin.as_ref().is_some_and(Builtin::only_reads);
            Replay::plan(device, only_reads, driver)
        };
        let raised = replay.raise(session, |below, session| {
            let Some(builtin) = &builtin else {
                let client = self.place.client();
                return self.over_block_file(below, (client, Spot::On(mountpoint, driver)), session);
            };
            let mut repair = |session: &mut Session| Server::repair(self.place, &below, session, self.log);
            builtin.over(&below).mount(self.view, mountpoint, session, self.log, &mut repair)
        });
        if made {
            mountpoint.seal()?;
        }
        raised
    }

    /// Where udisks likes, if nobody named a place, and strongroom does not write what the volume holds. `None` where it is to be tried
    /// here.
    fn elsewhere(
        &self,
        mountpoint: &MountPoint,
        driver: Driver,
        session: &mut Session,
    ) -> Result<Option<OwnedFd>> {
        let is_free =
            matches!(self.order.target, Target::FileSystem { free: true, driver: DriverChoice::Auto, .. });
        // What cannot be read the driver here will tell.
        let contents = Contents::of(&ByteDevice::new(self.volume.device())).unwrap_or(Contents::Unknown);
        if !is_free || !contents.is_for_udisks(driver, self.view.read_only) {
            return Ok(None);
        }
        let before = (session.parts.height(), session.warnings.len());
        let error = match udisks::check().and_then(|()| self.by_udisks(false, session)) {
            Ok(end) => {
                if self.is_made() {
                    // Nothing shows on that folder.
                    mountpoint.seal()?;
                    remove_made(mountpoint.path());
                }
                return Ok(Some(end));
            }
            Err(error) => error,
        };
        take_down(session, before)?;
        session.note(|record| {
            record.entry.mountpoint = self.place.mountpoint();
            self.place.driver().clone_into(&mut record.entry.driver);
            record.entry.read_only = self.order.read_only;
        })?;
        let is_read_here = contents.is_builtin(DriverChoice::Auto, driver);
        match error.kind() {
            ErrorKind::Missing if is_read_here => {}
            ErrorKind::Missing => {
                let reason = format!("no driver mounts {contents} here without root or udisks");
                return Err(Error::new(ErrorKind::Missing, reason).with_hint(WITHOUT_UDISKS));
            }
            ErrorKind::Interrupted => return Err(error),
            _ if !is_read_here => return Err(error),
            _ => {
                let way = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                session.warnings.push(format!("udisks did not mount it: {}{way}", error.reason()));
            }
        }
        Ok(None)
    }

    /// By udisks. With `asks_password` polkit may have the user asked for one.
    fn by_udisks(&self, asks_password: bool, session: &mut Session) -> Result<OwnedFd> {
        let replay = Replay::plan(self.volume.device(), self.view.read_only, Driver::Udisks);
        replay.raise(session, |below, session| {
            let how = (Client::LoopDevice, Spot::Anywhere { asks_password });
            self.over_block_file(below, how, session)
        })
    }

    /// By a driver that sees the volume as a block file.
    fn over_block_file(
        &self,
        below: Below,
        (client, spot): (Client, Spot<'_>),
        session: &mut Session,
    ) -> Result<OwnedFd> {
        Builtin::repair_for_others(&below, self.view, session)?;
        let end = Server::export(self.place, client, below.device, session, self.log)?;
        let block = session.record().block_directory.join(VOLUME_FILE);
        let volume = DriverVolume {
            superblock: Superblock::probe(&block)?,
            block: &block,
            missing_end: self.view.missing_end,
            sector_size: self.volume.info().sector_size,
            read_only: self.view.read_only,
            owner: self.order.owner,
            owners: self.view.owners,
            options: self.view.options,
            can_discard: self.volume.device().geometry().can_discard,
            shadow: below.shadow.as_ref(),
            condition: below.condition,
        };
        Driver::mount(volume, spot, session)?;
        Ok(end)
    }
}

const WITHOUT_UDISKS: &str =
    "install the package udisks2; or mount it as root; or use mount --block to see the volume as a file";
