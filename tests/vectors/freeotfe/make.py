#!/usr/bin/env python3
"""Makes volumes.json: headers of FreeOTFE with what data are encrypted to under them.

Block ciphers and hashes are libgcrypt's; PBKDF2, HMAC, the modes and the layout are written here, from the documentation of
FreeOTFE and LibreCrypt, and share nothing with strongroom. Run it with Python 3 where libgcrypt 1.10 is: it prints the file.
"""

import ctypes
import hashlib
import json

PASSWORD = b"correct horse"
SECTORS = 3
gcrypt = ctypes.CDLL("libgcrypt.so.20")
gcrypt.gcry_check_version.restype = ctypes.c_char_p
gcrypt.gcry_check_version(None)


def stream(seed, length):
    """Bytes that look random, for keys, salts and padding."""
    out, number = b"", 0
    while len(out) < length:
        out += hashlib.sha256(b"%s %d" % (seed.encode(), number)).digest()
        number += 1
    return out[:length]


# Hashes: name -> (libgcrypt's number, digest, block), in bytes.
HASHES = {
    "md4": (301, 16, 64),
    "md5": (1, 16, 64),
    "sha1": (2, 20, 64),
    "ripemd160": (3, 20, 64),
    "tiger": (306, 24, 64),
    "sha224": (11, 28, 64),
    "sha256": (8, 32, 64),
    "sha384": (9, 48, 128),
    "sha512": (10, 64, 128),
    "whirlpool": (305, 64, 64),
    "ripemd160-twice": (None, 40, 64),
}


def digest(name, data):
    if name == "ripemd160-twice":
        return digest("ripemd160", data) + digest("ripemd160", b"A" + data[:129])
    number, length, _ = HASHES[name]
    out = ctypes.create_string_buffer(length)
    gcrypt.gcry_md_hash_buffer(number, out, data, ctypes.c_size_t(len(data)))
    return out.raw


def hmac(name, key, data):
    block = HASHES[name][2]
    if len(key) > block:
        key = digest(name, key)
    key = key.ljust(block, b"\0")
    inner = digest(name, bytes(byte ^ 0x36 for byte in key) + data)
    return digest(name, bytes(byte ^ 0x5C for byte in key) + inner)


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def pbkdf2(name, password, salt, iterations, length):
    out, number = b"", 1
    while len(out) < length:
        last = hmac(name, password, salt + number.to_bytes(4, "big"))
        block = last
        for _ in range(iterations - 1):
            last = hmac(name, password, last)
            block = xor(block, last)
        out += block
        number += 1
    return out[:length]


# Ciphers: (name, key bytes) -> libgcrypt's number.
CIPHERS = {
    ("aes", 16): 7,
    ("aes", 24): 8,
    ("aes", 32): 9,
    ("serpent", 16): 304,
    ("serpent", 24): 305,
    ("serpent", 32): 306,
    ("twofish", 16): 303,
    ("twofish", 32): 10,
    ("blowfish", 16): 4,
    ("blowfish", 20): 4,
    ("blowfish", 24): 4,
    ("blowfish", 32): 4,
    ("blowfish", 56): 4,
    ("cast5", 16): 3,
    ("des3_ede", 24): 2,
    ("des", 8): 302,
}
SMALL = {"blowfish", "cast5", "des3_ede", "des"}


def ecb(cipher, key, data):
    handle = ctypes.c_void_p()
    assert gcrypt.gcry_cipher_open(ctypes.byref(handle), CIPHERS[cipher, len(key)], 1, 0) == 0
    error = gcrypt.gcry_cipher_setkey(handle, key, ctypes.c_size_t(len(key)))
    assert error == 0, (cipher, len(key), error & 0xFFFF)
    out = ctypes.create_string_buffer(len(data))
    size = ctypes.c_size_t(len(data))
    assert gcrypt.gcry_cipher_encrypt(handle, out, size, data, size) == 0
    gcrypt.gcry_cipher_close(handle)
    return out.raw


def cbc(cipher, key, iv, data):
    size = len(iv)
    out = b""
    for at in range(0, len(data), size):
        iv = ecb(cipher, key, xor(iv, data[at : at + size]))
        out += iv
    return out


def xts(cipher, key, number, data):
    half = len(key) // 2
    tweak = int.from_bytes(ecb(cipher, key[half:], number.to_bytes(16, "little")), "little")
    out = b""
    for at in range(0, len(data), 16):
        mask = tweak.to_bytes(16, "little")
        out += xor(mask, ecb(cipher, key[:half], xor(mask, data[at : at + 16])))
        tweak = (tweak << 1) ^ (0x87 if tweak >> 127 else 0)
        tweak &= (1 << 128) - 1
    return out


def product(a, b):
    """In GF(2^128) with the first bit the highest power."""
    result = 0
    while b:
        if b & 1:
            result ^= a
        b >>= 1
        a = (a << 1) ^ ((1 << 128 | 0x87) if a >> 127 else 0)
    return result


def lrw(cipher, key, sector, data):
    key, tweak = key[:-16], int.from_bytes(key[-16:], "big")
    out = b""
    for index, at in enumerate(range(0, len(data), 16)):
        mask = product(tweak, sector * 32 + 1 + index).to_bytes(16, "big")
        out += xor(mask, ecb(cipher, key, xor(mask, data[at : at + 16])))
    return out


def encrypt(case, key, sector, data, iv):
    cipher, mode = case["cipher"].split("-")
    if mode == "xts":
        return xts(cipher, key, sector, data)
    if mode == "lrw":
        return lrw(cipher, key, sector, data)
    return cbc(cipher, key, iv, data)


def sector_iv(case, key, sector, volume_iv):
    size = 8 if case["cipher"].split("-")[0] in SMALL else 16
    low, whole = (sector & 0xFFFFFFFF).to_bytes(4, "little"), sector.to_bytes(8, "little")
    method, name = case["method"], case["hash"]
    if method == 0:
        iv = b""
    elif method == 1:
        iv = low
    elif method == 2:
        iv = whole
    elif method == 3:
        iv = digest(name, low)
    elif method == 4:
        iv = digest(name, whole)
    else:
        salt = digest(name, key)[: len(key)].ljust(len(key), b"\0")
        iv = ecb(case["cipher"].split("-")[0], salt, whole.ljust(size, b"\0"))
    iv = iv[:size].ljust(size, b"\0")
    return xor(iv, volume_iv.ljust(size, b"\0"))


def volume(case, number):
    cipher, mode = case["cipher"].split("-")
    size = 8 if cipher in SMALL else 16
    key_len = case["key_bits"] // 8
    salt = stream(f"salt {number}", case["salt_bits"] // 8)
    key = stream(f"key {number}", key_len)
    volume_iv = stream(f"iv {number}", size) if case["volume_iv"] else b""
    room = (512 - len(salt)) // size * size
    if case["version"] == 1:
        header_key = digest(case["hash"], PASSWORD + salt)[:key_len].ljust(key_len, b"\0")
        check_len = HASHES[case["hash"]][1]
    else:
        header_key = pbkdf2(case["hash"], PASSWORD, salt, case["iterations"], key_len)
        check_len = 64
    details = bytes([case["version"]]) + case["flags"].to_bytes(4, "big")
    details += case["data_len"].to_bytes(8, "big")
    details += case["key_bits"].to_bytes(4, "big") + key + b"Q"
    if case["version"] >= 2:
        details += (8 * len(volume_iv)).to_bytes(4, "big") + volume_iv
    if case["version"] >= 3:
        details += bytes([case["method"]])
    if case["version"] == 5:
        details += (2015).to_bytes(2, "big") + bytes([12, 31])
    details += stream(f"padding {number}", room - check_len - len(details))
    if case["version"] == 1:
        check = digest(case["hash"], details)
    else:
        check = hmac(case["hash"], header_key, details)
    check += stream(f"more padding {number}", check_len - len(check))
    block = encrypt(case, header_key, 0, check + details, bytes(size))
    cdb = salt + block + stream(f"last padding {number}", 512 - len(salt) - len(block))
    first = case["first_sector"]
    plain = stream(f"data {number}", 512 * SECTORS)
    data = b"".join(
        encrypt(case, key, first + index, plain[512 * index : 512 * (index + 1)], sector_iv(case, key, first + index, volume_iv))
        for index in range(SECTORS)
    )
    return case | {
        "cdb": cdb.hex(),
        "plain_sha256": hashlib.sha256(plain).hexdigest(),
        "data_sha256": hashlib.sha256(data).hexdigest(),
        "data_seed": f"data {number}",
    }


def cases():
    def case(cipher, bits, name="sha512", **other):
        usual = {
            "cipher": cipher, "key_bits": bits, "hash": name, "version": 4, "flags": 0, "method": 2, "volume_iv": False,
            "salt_bits": 256, "iterations": 11, "data_len": 512 * SECTORS, "first_sector": 0, "origin": 0,
        }
        return usual | other

    names = list(HASHES)
    count = 0
    for (cipher, length) in CIPHERS:
        modes = ["cbc"] if cipher in SMALL else ["xts", "cbc"] if cipher == "serpent" else ["xts", "lrw", "cbc"]
        for mode in modes:
            bits = {"xts": 16 * length, "lrw": 8 * length + 128, "cbc": 8 * length}[mode]
            yield case(f"{cipher}-{mode}", bits, names[count % len(names)], volume_iv=count % 2 == 0)
            count += 1
    # Every way to make IVs, with and without a volume IV, under hashes shorter and longer than the key.
    for method in range(6):
        yield case("aes-cbc", 256, "sha1", method=method, volume_iv=True)
        yield case("twofish-cbc", 128, "whirlpool", method=method)
        yield case("blowfish-cbc", 448, "tiger", method=method, volume_iv=method > 2)
    # Layouts, with their ways to say how IVs are made.
    for flags, method in ((0, 0), (1, 2), (9, 4)):
        yield case("aes-cbc", 256, "sha256", version=2, flags=flags, method=method, volume_iv=True)
        # The programs took the flags of layout 1 from the fifth byte of the size.
        size = (flags << 24) + 512 * SECTORS
        yield case("aes-cbc", 256, "sha1", version=1, flags=9, method=method, data_len=size)
    yield case("des3_ede-cbc", 192, "tiger", version=1, flags=0, method=0)
    yield case("serpent-cbc", 256, "sha512", version=3, method=3, volume_iv=True)
    yield case("aes-xts", 512, "sha512", version=5)
    yield case("aes-cbc", 128, "sha256", version=5, method=5, volume_iv=True)
    # Sectors numbered from the start of the file: behind the header, and of a volume within its file.
    yield case("aes-cbc", 256, "sha512", flags=2, first_sector=1)
    yield case("aes-xts", 512, "sha512", flags=2, first_sector=4097, origin=4096 * 512)
    # Salts and iterations.
    for salt_bits, iterations in ((0, 1), (8, 3), (128, 2048), (512, 20)):
        yield case("aes-xts", 512, "sha512", salt_bits=salt_bits, iterations=iterations)
        yield case("blowfish-cbc", 128, "ripemd160-twice", salt_bits=salt_bits, iterations=iterations)


if __name__ == "__main__":
    volumes = [volume(case, number) for number, case in enumerate(cases())]
    print("[\n" + ",\n".join(json.dumps(entry) for entry in volumes) + "\n]")
