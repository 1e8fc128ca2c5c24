#!/usr/bin/env python3
"""The blocks and the piece map of spec/pieces-v1.md, implemented a second time. Writes the vectors beside itself."""

import hashlib
import hmac
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
UUID = bytes(range(0x10, 0x20))
SET = bytes(range(0x80, 0x90))
VOLUME_KEY = bytes(range(64))
FRONT, PIECES, PIECE_LEN = 1 << 20, 13, 1 << 20
TAIL = FRONT + PIECES * (PIECE_LEN - 4096) - 8192
LENGTH = TAIL + (1 << 20)


def block(role, number):
    head = b"\x89SRPIECES\r\n\x1a\n\0\0\0" + struct.pack("<IIII", 1, role, number, 0) + UUID + SET
    head += struct.pack("<QQQQ", LENGTH, FRONT, TAIL, PIECE_LEN)
    head = head.ljust(4064, b"\0")
    return head + hashlib.sha256(head).digest()


def map_key():
    extracted = hmac.new(UUID, VOLUME_KEY, hashlib.sha512).digest()
    return hmac.new(extracted, b"strongroom/v1/piece-map\x01", hashlib.sha512).digest()


def piece_map(kind, generation, made):
    bits = bytearray(4096)
    for index in made:
        bits[index // 8] |= 1 << index % 8
    head = b"SR piece map".ljust(16, b"\0") + struct.pack("<IIQ", 1, kind, generation) + SET + struct.pack("<Q", PIECES)
    head = head.ljust(4000, b"\0")
    checksum = hashlib.sha256(head + bytes(96) + bits).digest()
    mac = bytes(64)
    if kind == 1:
        mac = hmac.new(map_key(), block(0, 0) + head + checksum + mac + bits, hashlib.sha512).digest()
    return head + checksum + mac + bytes(bits)


if __name__ == "__main__":
    (HERE / "header.block").write_bytes(block(0, 0))
    (HERE / "copy.block").write_bytes(block(1, 0))
    (HERE / "piece-7.block").write_bytes(block(2, 7))
    (HERE / "all.map").write_bytes(piece_map(0, 1, []))
    (HERE / "some.map").write_bytes(piece_map(1, 0x0102030405, [0, 3, 8, 12]))
    (HERE / "map.key").write_bytes(map_key())
