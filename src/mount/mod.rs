//! A volume's file system made visible, and everything that this leaves running.
//!
//! One server process a volume: it owns the container's lock, the keys, the FUSE export, the driver and the registry
//! entry. [`start`] makes one, [`unmount`](unmount()) ends one, [`list`] shows them all, [`clean_stale`] takes away what
//! killed ones left.

mod application;
mod asking;
mod bookmark;
mod bus;
mod bystanders;
mod closing;
mod compact;
mod desktop;
mod driver;
mod filesystem;
mod full;
mod growfs;
mod growing;
mod holders;
mod idle;
mod in_use;
mod loan;
mod logind;
mod look;
mod mkfs;
mod mountinfo;
mod mountpoint;
mod namespaces;
mod news;
mod notices;
mod options;
mod others;
mod program;
mod protocol;
mod reencryption;
mod registry;
mod replay;
mod rescued;
mod runtime;
mod save;
mod screen;
mod server;
mod session;
mod stacked;
mod stale;
mod start;
mod sync;
mod twin;
mod udisks;
mod undo;
mod unmount;
mod ways;
mod whereabouts;

pub use application::{Application, Wish, serve_application};
pub use closing::{CloseAt, Closing, Occasion, WhenBusy};
pub use compact::compact;
pub use desktop::{OnDesktop, desktop_program, pinentry, show_folder};
pub use driver::DriverChoice;
pub use full::Full;
pub use growfs::{GrownFilesystem, InProcess, check_growth, grow_in_process, require_tool, way_to_grow};
pub use growing::{GrownMount, check_mounted, grow_mounted};
pub use holders::{Holder, holders_of_file};
pub use loan::{Loan, borrow, can_borrow};
pub use look::{LOOK, REACH, is_reached, look, reach};
pub use mkfs::{FilesystemKind, NewFilesystem, is_available};
pub use mountinfo::check_proc;
pub use mountpoint::{
    is_made as is_made_mountpoint, make as make_mountpoint, remove_made as remove_made_mountpoint,
};
pub use notices::notify;
pub use options::MountOptions;
pub use others::{Other, others};
pub use protocol::Target;
pub use reencryption::MountedReencryption;
pub use registry::{Entry, Protection, Unwritten, as_noted, holding, list, name_for, shown};
pub use rescued::newest_rescued;
pub use save::{Saved, unmount_saving};
pub use server::{SERVE, serve};
pub use stale::clean as clean_stale;
pub use start::{Mounted, Request, check_target, start};
pub use sync::sync;
pub use twin::twin_of;
pub use unmount::{Chosen, Patience, Selection, Unmounted, unmount};
pub use ways::{Means, Part, Way, Ways, ways};
pub use whereabouts::{Body, Lost, LostPieces};
