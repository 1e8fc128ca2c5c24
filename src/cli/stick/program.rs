//! The program that travels on a stick: what it needs of the machine that it will run on (ELF-64, System V gABI).

use std::{fs::File, io::Read, path::Path};

use strongroom::{
    error::{Error, ErrorKind, Result},
    text::excerpt,
};

/// A program for Linux, and what it wants.
#[derive(Debug)]
pub(super) struct Program {
    /// All of it.
    pub(super) bytes: Vec<u8>,
    needs: Needs,
}

impl Program {
    /// Reads a program from a file.
    ///
    /// # Errors
    /// `Usage` for what is no program of 64-bit Linux, or too large to be this one; what reading gave.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_LEN + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_LEN) {
            return Err(unfit("it is larger than 256 MiB"));
        }
        let needs = Needs::of(&bytes).ok_or_else(|| unfit("it is not a program for 64-bit Linux"))?;
        Ok(Self { bytes, needs })
    }

    /// The libraries that it wants of the machine; none where it is linked statically.
    pub(super) fn libraries(&self) -> &[String] {
        &self.needs.libraries
    }

    /// Whether it wants nothing but the kernel.
    pub(super) fn is_static(&self) -> bool {
        !self.needs.has_interpreter
    }

    /// The processors that run it, in words.
    pub(super) fn processors(&self) -> &'static str {
        match self.needs.machine {
            62 => "x86-64, as in most PCs",
            183 => "aarch64 (ARM, 64 bits)",
            243 => "RISC-V, 64 bits",
            _ => "of the kind that it was made on",
        }
    }
}

fn unfit(reason: &str) -> Error {
    Error::new(ErrorKind::Usage, reason).with_hint("--program names a strongroom that make static built")
}

/// What the headers say.
#[derive(Debug, PartialEq, Eq)]
struct Needs {
    machine: u16,
    has_interpreter: bool,
    libraries: Vec<String>,
}

impl Needs {
    /// `None` for what is no whole ELF file of 64 bits, little-endian.
    fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let table = usize::try_from(long(bytes, 32)?).ok()?;
        let (size, count) = (usize::from(half(bytes, 54)?), usize::from(half(bytes, 56)?));
        let segments: Vec<Segment> = (0..count)
            .map(|index| Segment::at(bytes, table.checked_add(index.checked_mul(size)?)?))
            .collect::<Option<_>>()?;
        let has_interpreter = segments.iter().any(|segment| segment.kind == INTERPRETER);
        let libraries = if has_interpreter { libraries(bytes, &segments)? } else { Vec::new() };
        Some(Self { machine: half(bytes, 18)?, has_interpreter, libraries })
    }
}

/// A program header: bytes of the file, and where they are in memory.
#[derive(Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    len: u64,
}

impl Segment {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self {
            kind: word(bytes, at)?,
            offset: long(bytes, at.checked_add(8)?)?,
            address: long(bytes, at.checked_add(16)?)?,
            len: long(bytes, at.checked_add(32)?)?,
        })
    }

    fn bytes<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok()?;
        let len = usize::try_from(self.len).ok()?;
        file.get(start..start.checked_add(len)?)
    }
}

/// The names of the libraries that the dynamic section wants.
fn libraries(file: &[u8], segments: &[Segment]) -> Option<Vec<String>> {
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == DYNAMIC) else {
        return Some(Vec::new());
    };
    let entries = dynamic.bytes(file)?.chunks_exact(16).map_while(|entry| {
        let tag = long(entry, 0)?;
        (tag != END).then_some((tag, long(entry, 8)?))
    });
    let entries: Vec<(u64, u64)> = entries.take(MAX_ENTRIES).collect();
    let strings = entries.iter().find(|(tag, _)| *tag == STRINGS)?.1;
    let names = segments.iter().filter(|segment| segment.kind == LOAD).find_map(|segment| {
        let within = usize::try_from(strings.checked_sub(segment.address)?).ok()?;
        segment.bytes(file)?.get(within..)
    })?;
    let needed = entries.iter().filter(|(tag, _)| *tag == NEEDED);
    needed.map(|(_, at)| name_at(names, *at)).collect()
}

fn name_at(names: &[u8], at: u64) -> Option<String> {
    let name = names.get(usize::try_from(at).ok()?..)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(excerpt(&String::from_utf8_lossy(name)))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// More than any build of this program has.
const MAX_LEN: u64 = 256 << 20;
const MAX_ENTRIES: usize = 1024;
/// Kinds of segments.
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
/// Tags of the dynamic section.
const END: u64 = 0;
const NEEDED: u64 = 1;
const STRINGS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of program headers, and what they point to.
    fn elf(segments: &[(u32, u64, u64, u64)], rest: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64, 0);
        bytes[18..20].copy_from_slice(&62_u16.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for (kind, offset, address, len) in segments {
            let mut header = [0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            for (at, value) in [(8, offset), (16, address), (32, len)] {
                header[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            bytes.extend(header);
        }
        bytes.extend(rest);
        bytes
    }

    /// One that wants two libraries: headers of three segments, names, the dynamic section.
    fn linked() -> Vec<u8> {
        let names = b"\0libc.so.6\0libudev.so.1\0........"; // 32 bytes
        let start = 64 + 3 * 56;
        let mut rest = names.to_vec();
        for (tag, value) in
            [(NEEDED, 1_u64), (NEEDED, 11), (STRINGS, 0x5000 + start), (END, 0), (NEEDED, 999)]
        {
            rest.extend(tag.to_le_bytes());
            rest.extend(value.to_le_bytes());
        }
        let whole = start + u64::try_from(rest.len()).unwrap();
        let dynamic = (DYNAMIC, start + 32, 0x5000 + start + 32, 80);
        elf(&[(INTERPRETER, 0, 0, 0), (LOAD, 0, 0x5000, whole), dynamic], &rest)
    }

    #[test]
    fn a_program_tells_the_libraries_that_it_wants() {
        let needs = Needs::of(&linked()).unwrap();
        assert_eq!(needs.libraries, ["libc.so.6", "libudev.so.1"]);
        assert!(needs.has_interpreter && needs.machine == 62);
    }

    #[test]
    fn one_without_an_interpreter_is_static() {
        let needs = Needs::of(&elf(&[(LOAD, 0, 0, 0), (DYNAMIC, u64::MAX, 0, 1)], b"")).unwrap();
        assert_eq!(needs, Needs { machine: 62, has_interpreter: false, libraries: Vec::new() });
    }

    #[test]
    fn what_is_cut_or_points_astray_is_no_program() {
        let whole = linked();
        for len in 0..whole.len() {
            let cut = Needs::of(&whole[..len]);
            assert!(cut.is_none(), "{len}: {cut:?}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            // Whatever it is taken for, it ends.
            let _ = Needs::of(&damaged);
        }
        assert_eq!(Needs::of(b"#!/bin/sh\necho"), None);
    }

    #[test]
    fn this_test_is_a_program() {
        let program = Program::read(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(program.is_static(), program.libraries().is_empty());
    }
}
