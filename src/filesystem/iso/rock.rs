//! What a record says of a file as POSIX sees it: SUSP (IEEE P1281) and the Rock Ridge Interchange Protocol (IEEE P1282), both 1.12.

use std::time::SystemTime;

use super::{
    super::{
        Fault, Result,
        bytes::{index, u8_at, u32_at},
    },
    Iso, clock,
    record::Entry,
};

/// All that was found of one file.
#[derive(Debug, Default)]
pub(super) struct Rock {
    /// Mode, links, user, group.
    pub(super) rights: Option<(u32, u32, u32, u32)>,
    /// The upper and lower part of a device's number.
    pub(super) device: Option<(u32, u32)>,
    /// Its own name; none where the record's counts.
    pub(super) name: Option<Vec<u8>>,
    /// Where a link leads.
    pub(super) target: Vec<u8>,
    /// The block of the directory that lies elsewhere, and shows here.
    pub(super) child: Option<u32>,
    /// Whether it is such a directory, in the place where it lies.
    pub(super) is_moved: bool,
    /// Whether its bytes are packed (zisofs), or holes are left out: not read here.
    pub(super) is_packed: bool,
    pub(super) created: Option<SystemTime>,
    pub(super) modified: Option<SystemTime>,
    pub(super) accessed: Option<SystemTime>,
    pub(super) changed: Option<SystemTime>,
    /// Whether the last part of a name, of a link, or of a part of that goes on in another field.
    goes_on: GoesOn,
}

#[derive(Debug, Default)]
struct GoesOn {
    name: bool,
    part: bool,
}

impl Iso {
    /// How many bytes the fields of this volume leave out at their start; `None` where it has none. The root directory's own record
    /// tells.
    pub(super) fn rock_start(&self, root: &Entry) -> Result<Option<usize>> {
        let fields = &root.system_use;
        // CD-ROM XA has 14 bytes of its own before.
        let start = [0, 14].into_iter().find(|start| {
            let field = fields.get(*start..).unwrap_or_default();
            field.starts_with(b"SP") && u8_at(field, 2) >= 7 && field.get(4..6) == Some(&[0xbe, 0xef])
        });
        let Some(start) = start else { return Ok(None) };
        let rock = self.fields(fields, start)?;
        // What each record leaves out.
        let left_out = fields.get(start..).map_or(0, |field| usize::from(u8_at(field, 6)));
        Ok(rock.rights.is_some().then_some(left_out))
    }

    /// The fields of a record.
    pub(super) fn rock(&self, entry: &Entry) -> Result<Rock> {
        let Some(start) = self.rock_start else { return Ok(Rock::default()) };
        // Those of the root begin with the one that tells how many are left out.
        let start = if entry.system_use.starts_with(b"SP") { 0 } else { start };
        self.fields(&entry.system_use, start)
    }

    fn fields(&self, system_use: &[u8], start: usize) -> Result<Rock> {
        let mut rock = Rock::default();
        let mut next = rock.take(system_use.get(start..).unwrap_or_default());
        for _ in 0..MOST_CONTINUATIONS {
            let Some((block, offset, len)) = next else { return Ok(rock) };
            let at = u64::from(block).saturating_mul(self.block_len).saturating_add(offset.into());
            if u64::from(len) > LONGEST_CONTINUATION {
                return Err(Fault::Damaged);
            }
            let mut more = vec![0; index(len)];
            self.device.read_at(&mut more, at)?;
            next = rock.take(&more);
        }
        Err(Fault::Damaged)
    }
}

impl Rock {
    /// Reads fields up to their end, and gives where they go on: a block, an offset and a length.
    fn take(&mut self, mut rest: &[u8]) -> Option<(u32, u32, u32)> {
        let mut next = None;
        while let Some((field, behind)) = rest.split_at_checked(usize::from(u8_at(rest, 2))) {
            if field.len() < HEADER {
                break;
            }
            rest = behind;
            let value = field.get(HEADER..).unwrap_or_default();
            match field.first_chunk() {
                Some(b"CE") => next = Some((u32_at(value, 0), u32_at(value, 8), u32_at(value, 16))),
                Some(b"ST") => break,
                Some(b"PX") => {
                    let of = |at| u32_at(value, at);
                    self.rights = Some((of(0), of(8), of(16), of(24)));
                }
                Some(b"PN") => self.device = Some((u32_at(value, 0), u32_at(value, 8))),
                Some(b"NM") => self.take_name(value),
                Some(b"SL") => self.take_target(value),
                Some(b"CL") => self.child = Some(u32_at(value, 0)),
                Some(b"RE") => self.is_moved = true,
                Some(b"TF") => self.take_times(value),
                Some(b"ZF" | b"SF") => self.is_packed = true,
                _ => {}
            }
        }
        next
    }

    fn take_name(&mut self, value: &[u8]) {
        let flags = u8_at(value, 0);
        let part = value.get(1..).unwrap_or_default();
        if flags & (IS_SELF | IS_ABOVE) != 0 {
            return;
        }
        match &mut self.name {
            Some(name) if self.goes_on.name => name.extend(part),
            // Only the first one counts.
            Some(_) => return,
            None => self.name = Some(part.to_vec()),
        }
        self.goes_on.name = flags & GOES_ON != 0;
    }

    fn take_target(&mut self, value: &[u8]) {
        let mut rest = value.get(1..).unwrap_or_default();
        while let [flags, len, behind @ ..] = rest {
            let Some((part, behind)) = behind.split_at_checked(usize::from(*len)) else { return };
            rest = behind;
            if self.target.len() > LONGEST_TARGET {
                return;
            }
            if !self.goes_on.part && !self.target.is_empty() && !self.target.ends_with(b"/") {
                self.target.push(b'/');
            }
            self.target.extend(match *flags & !GOES_ON {
                0 => part,
                IS_SELF => b".",
                IS_ABOVE => b"..",
                IS_ROOT => b"/",
                _ => &[],
            });
            self.goes_on.part = flags & GOES_ON != 0;
        }
    }

    fn take_times(&mut self, value: &[u8]) {
        let flags = u8_at(value, 0);
        let len = if flags & ARE_LONG != 0 { 17 } else { 7 };
        let mut rest = value.get(1..).unwrap_or_default();
        let places = [&mut self.created, &mut self.modified, &mut self.accessed, &mut self.changed];
        for (bit, place) in (0_u8..).zip(places) {
            if flags.checked_shr(bit.into()).unwrap_or_default() & 1 == 0 {
                continue;
            }
            let Some((stamp, behind)) = rest.split_at_checked(len) else { return };
            rest = behind;
            *place = if len == 7 {
                stamp.first_chunk().copied().and_then(clock::short)
            } else {
                clock::long(stamp)
            };
        }
    }
}

/// The kind of file that a mode names.
pub(super) const fn kind_bits(mode: u32) -> u32 {
    mode & 0o170_000
}

const HEADER: usize = 4;
/// Of names and links.
const GOES_ON: u8 = 0x01;
const IS_SELF: u8 = 0x02;
const IS_ABOVE: u8 = 0x04;
const IS_ROOT: u8 = 0x08;
/// Of times.
const ARE_LONG: u8 = 0x80;
const LONGEST_TARGET: usize = 4096;
const MOST_CONTINUATIONS: usize = 32;
const LONGEST_CONTINUATION: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
        let len = u8::try_from(value.len() + 4).unwrap();
        [name, &[len, 1], value].concat()
    }

    #[test]
    fn a_name_in_parts_is_put_together_and_the_first_counts() {
        let mut rock = Rock::default();
        let fields =
            [field(b"NM", b"\x01long "), field(b"NM", b"\x00name"), field(b"NM", b"\x00other")].concat();
        assert_eq!(rock.take(&fields), None);
        assert_eq!(rock.name.unwrap(), b"long name");
    }

    #[test]
    fn a_link_is_put_together_of_its_parts() {
        for (value, target) in [
            (&b"\x00\x04\x00\x00\x03bin"[..], &b"../bin"[..]),
            (b"\x00\x08\x00\x00\x03etc", b"/etc"),
            (b"\x00\x01\x02us\x00\x02er\x02\x00", b"user/."),
            (b"\x00\x00\x30cut", b""),
        ] {
            let mut rock = Rock::default();
            rock.take(&field(b"SL", value));
            assert_eq!(rock.target, target, "{value:?}");
        }
    }

    #[test]
    fn fields_end_at_what_makes_no_sense() {
        let mut rock = Rock::default();
        rock.take(&[&field(b"RE", b"")[..], b"PX\x00\x01", &[1; 40]].concat());
        assert!(rock.is_moved && rock.rights.is_none());
        rock.take(b"CL\xff\x01\x01");
        assert_eq!(rock.child, None);
    }
}
