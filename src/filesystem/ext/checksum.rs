//! The checksums of ext4 and of its journal: CRC-32C, the CRC-16 of old descriptors, the CRC-32 of old commits.

/// The CRC-32C register after `bytes`; nothing is inverted, as everywhere in this format.
pub(super) fn crc32c(register: u32, bytes: &[u8]) -> u32 {
    let mut register = register;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mixed = (u64::from_le_bytes(*word) ^ u64::from(register)).to_le_bytes();
        let looked_up = mixed.iter().zip(TABLES.iter().rev());
        register = looked_up.fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)]);
    }
    for byte in rest {
        let [low, ..] = register.to_le_bytes();
        register = TABLES[0][usize::from(low ^ byte)] ^ (register >> 8);
    }
    register
}

/// The same over parts that follow each other.
pub(super) fn crc32c_of(register: u32, parts: &[&[u8]]) -> u32 {
    parts.iter().fold(register, |register, part| crc32c(register, part))
}

/// CRC-16 (ARC), as descriptors have it without `metadata_csum`.
pub(super) fn crc16(register: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(register, |register, &byte| {
        (0..8).fold(register ^ u16::from(byte), |register, _| {
            if register & 1 == 1 { (register >> 1) ^ 0xa001 } else { register >> 1 }
        })
    })
}

/// CRC-32 with the highest bit first, as journals have it whose checksums are of the first kind.
pub(super) fn crc32_be(register: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(register, |register, &byte| {
        let [high, ..] = register.to_be_bytes();
        BIG_ENDIAN[usize::from(high ^ byte)] ^ (register << 8)
    })
}

/// The table at `n` advances a byte over `n` bytes more.
static TABLES: [[u32; 256]; 8] = tables();
static BIG_ENDIAN: [u32; 256] = big_endian();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut index = 0;
    let mut start: u32 = 0;
    while index < 256 {
        let (mut value, mut bit) = (start, 0);
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        tables[0][index] = value;
        index += 1;
        start += 1;
    }
    let mut table = 1;
    while table < 8 {
        index = 0;
        while index < 256 {
            let before = tables[table - 1][index];
            let [low, ..] = before.to_le_bytes();
            tables[table][index] = (before >> 8) ^ tables[0][low as usize];
            index += 1;
        }
        table += 1;
    }
    tables
}

const fn big_endian() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    let mut start: u32 = 0;
    while index < 256 {
        let (mut value, mut bit) = (start << 24, 0);
        while bit < 8 {
            value = if value >> 31 == 1 { (value << 1) ^ 0x04c1_1db7 } else { value << 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
        start += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gives_its_catalogued_check_value() {
        let digits = b"123456789";
        assert_eq!(!crc32c(!0, digits), 0xe306_9283);
        assert_eq!(crc16(0, digits), 0xbb3d);
        // CRC-32/MPEG-2.
        assert_eq!(crc32_be(!0, digits), 0x0376_e6e7);
    }

    #[test]
    fn parts_give_what_the_whole_gives() {
        let bytes: Vec<u8> = (0..=255).collect();
        let whole = crc32c(7, &bytes);
        for cut in [0, 1, 7, 8, 9, 100, 256] {
            assert_eq!(crc32c_of(7, &[&bytes[..cut], &bytes[cut..]]), whole);
        }
    }
}
