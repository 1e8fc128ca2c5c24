//! CRC-32 (ISO-HDLC): no primitive, but TrueCrypt's headers, keyfiles and CBC have it in them.

/// The register after `bytes`, from the register before; nothing is inverted here.
pub fn crc32_register(register: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(register, |register, &byte| step(register, byte))
}

/// The checksum as zlib has it: the register starts with all ones, and is inverted at the end.
pub fn crc32(bytes: &[u8]) -> u32 {
    !crc32_register(!0, bytes)
}

/// The register after one byte more.
pub fn step(register: u32, byte: u8) -> u32 {
    let [low, ..] = register.to_le_bytes();
    TABLE[usize::from(low ^ byte)] ^ (register >> 8)
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut register: u32 = 0;
    let mut index = 0;
    while index < table.len() {
        table[index] = {
            let (mut value, mut bit) = (register, 0);
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
                bit += 1;
            }
            value
        };
        register += 1;
        index += 1;
    }
    table
}

/// The polynomial, the lowest power in the highest bit.
const POLYNOMIAL: u32 = 0xedb8_8320;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_nine_digits_is_the_one_of_the_catalogue() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32_register(crc32_register(!0, b"1234"), b"56789"), !0xcbf4_3926);
    }
}
