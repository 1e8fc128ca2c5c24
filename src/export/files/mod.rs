//! The files of a volume over FUSE, by a driver in this process.

mod attributes;
mod callers;
mod pace;
mod requests;
mod server;
mod session;
mod share;

pub use attributes::Owners;
pub use pace::Promptness;
pub use session::{FilesExport, FilesMount};
pub use share::Share;
