//! Segments of the metadata, and which of them make the volume.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    error::HeaderError,
    json,
    limited::number64,
    metadata::{Digest, Metadata, wrong},
};
use crate::{
    error::{Error, ErrorKind, Result},
    format::{
        luks::{self, UNIT, digest::KeyDigest, way_in},
        no_keyslot_left,
    },
    text::excerpt,
    units::SectorSize,
};

/// A run of the container's bytes.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) index: u32,
    /// In bytes.
    pub(super) offset: u64,
    /// In bytes; `None` to the container's end.
    pub(super) size: Option<u64>,
    pub(super) kind: Kind,
    pub(super) flags: Vec<String>,
}

/// What a segment holds.
#[derive(Debug)]
pub(super) enum Kind {
    Crypt(Crypt),
    /// Anything else, by its name.
    Other(String),
}

/// Encrypted data.
#[derive(Debug)]
pub(super) struct Crypt {
    pub(super) iv_tweak: u64,
    pub(super) encryption: String,
    pub(super) sector_size: SectorSize,
    /// The kind of tags beside the data, where there are any.
    pub(super) integrity: Option<String>,
}

impl Segment {
    pub(super) fn parse(raw: &json::Segment, index: u32) -> std::result::Result<Self, HeaderError> {
        let name = index.to_string();
        let wrong = |field, value: &str| wrong("segment", &name, field, value);
        // L2-SEG-01
        let offset = number64(&raw.offset).filter(|offset| offset.is_multiple_of(UNIT));
        let offset = offset.ok_or_else(|| wrong("offset", &raw.offset))?;
        let size = match raw.size.as_str() {
            "dynamic" => None,
            text => {
                let size = number64(text).filter(|size| *size > 0 && size.is_multiple_of(UNIT));
                Some(size.ok_or_else(|| wrong("size", text))?)
            }
        };
        let kind = match raw.kind.as_str() {
            "crypt" => Kind::Crypt(Crypt::parse(raw).map_err(|(field, value)| wrong(field, &value))?),
            other => Kind::Other(excerpt(other)),
        };
        Ok(Self { index, offset, size, kind, flags: raw.flags.0.iter().map(|flag| excerpt(flag)).collect() })
    }

    /// Whether it only remembers how the container was before a re-encryption.
    pub(super) fn is_backup(&self) -> bool {
        self.flags.iter().any(|flag| flag.starts_with("backup-"))
    }
}

impl Crypt {
    /// L2-SEG-02
    fn parse(raw: &json::Segment) -> std::result::Result<Self, (&'static str, String)> {
        let tweak = raw.iv_tweak.as_deref().unwrap_or("none");
        let iv_tweak = number64(tweak).ok_or_else(|| ("iv_tweak", tweak.to_owned()))?;
        let encryption = raw.encryption.clone().ok_or_else(|| ("encryption", "none".to_owned()))?;
        let sector_size = raw.sector_size.unwrap_or_default();
        let sector_size =
            SectorSize::try_from(sector_size).map_err(|_| ("sector_size", sector_size.to_string()))?;
        let integrity = raw.integrity.as_ref().map(|integrity| excerpt(&integrity.kind));
        Ok(Self { iv_tweak, encryption, sector_size, integrity })
    }
}

/// What makes the volume.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// In volume order; at least one.
    pub(super) segments: Vec<(&'a Segment, &'a Crypt)>,
    pub(super) digest: &'a Digest,
    pub(super) key: &'a KeyDigest,
}

impl Metadata {
    /// Decides what makes the volume (L2-OPEN-01 to -06).
    ///
    /// # Errors
    /// `Unsupported` with the reason for what is not opened.
    pub(super) fn plan(&self) -> Result<Plan<'_>> {
        self.check_requirements()?;
        let mut segments = Vec::new();
        for segment in self.segments.iter().filter(|segment| !segment.is_backup()) {
            segments.push((segment, usable(segment, self.is_detached)?));
        }
        let Some((first, _)) = segments.first() else {
            return Err(Error::new(ErrorKind::Damaged, "the header names no data"));
        };
        let digest = self.digest_of(first.index)?;
        if segments.iter().any(|(segment, _)| !digest.segments.contains(&segment.index)) {
            return Err(unsupported("its segments are under different keys").with_hint(way_in::KERNEL));
        }
        if digest.slots.is_empty() {
            return Err(no_keyslot_left());
        }
        let key = digest.key.as_ref().map_err(|reason| unsupported(reason).with_hint(way_in::NEWER))?;
        Ok(Plan { segments, digest, key })
    }

    fn check_requirements(&self) -> Result<()> {
        if self.is_in_reencryption() {
            return Err(
                unsupported("a re-encryption by cryptsetup is under way").with_hint(way_in::REENCRYPTION)
            ); // L2-OPEN-02
        }
        if let Some(requirement) = self.requirements.first() {
            let (reason, way) = match requirement.as_str() {
                "opal" => ("the drive itself encrypts it (OPAL)".to_owned(), way_in::OPAL),
                "inline-hw-tags" => {
                    ("its integrity tags lie in the drive's own sectors".to_owned(), way_in::DRIVE_TAGS)
                }
                other => (format!("it has the unknown requirement {other}"), way_in::NEWER),
            };
            return Err(unsupported(reason).with_hint(way)); // L2-OPEN-01
        }
        Ok(())
    }

    /// Whether a re-encryption was begun and not ended.
    pub(super) fn is_in_reencryption(&self) -> bool {
        let required =
            |name: &String| name.starts_with("online-reencrypt") || name.starts_with("offline-reencrypt");
        let is_moving = |segment: &Segment| {
            segment.is_backup() || segment.flags.iter().any(|flag| flag == "in-reencryption")
        };
        self.requirements.iter().any(required) || self.segments.iter().any(is_moving)
    }

    /// L2-OPEN-05
    fn digest_of(&self, segment: u32) -> Result<&Digest> {
        let mut digests = self.digests.values().filter(|digest| digest.segments.contains(&segment));
        match (digests.next(), digests.next()) {
            (Some(digest), None) => Ok(digest),
            _ => {
                Err(Error::new(ErrorKind::Damaged, format!("segment {segment} belongs to no single digest")))
            }
        }
    }
}

/// L2-OPEN-03, -04, -06
fn usable(segment: &Segment, is_detached: bool) -> Result<&Crypt> {
    let index = segment.index;
    let crypt = match &segment.kind {
        Kind::Crypt(crypt) => crypt,
        Kind::Other(kind) if kind == "linear" => {
            return Err(unsupported(format!("segment {index} is not encrypted")).with_hint(way_in::KERNEL));
        }
        Kind::Other(kind) if kind.starts_with("hw-opal") => {
            return Err(unsupported(format!("the drive itself encrypts segment {index} (OPAL)"))
                .with_hint(way_in::OPAL));
        }
        Kind::Other(kind) => {
            return Err(unsupported(format!("segment {index} is of the unknown type {kind}"))
                .with_hint(way_in::NEWER));
        }
    };
    if let Some(kind) = &crypt.integrity {
        let reason =
            format!("segment {index} has integrity tags ({kind}, dm-integrity), which are not supported");
        return Err(unsupported(reason).with_hint(way_in::KERNEL));
    }
    if let Some(flag) = segment.flags.first() {
        return Err(
            unsupported(format!("segment {index} has the unknown flag {flag}")).with_hint(way_in::NEWER)
        );
    }
    if segment.offset == 0 && !is_detached {
        return Err(luks::detached());
    }
    Ok(crypt)
}

fn unsupported(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, reason)
}
