"""The Xet storage of the simulated Hub: xorbs, which hold compressed chunks, and shards, which
describe files as ranges of chunks.

The formats are those of the Xet Protocol Specification 1.1 (https://huggingface.co/docs/xet), as
hf-xet 1.8 writes them. hf-xet 1.8 asks for a grant, stores the xorb at the granted URL, and commits
it; the specification describes only the direct upload.
"""

import struct
from itertools import pairwise

import pyarrow as pa

_ENTRY = 48
"""Size of every entry of a shard in bytes, and of its header."""
_END = b"\xff" * 32
_VERIFIED, _HAS_SHA256 = 1 << 31, 1 << 30


def files_in(shard, xorbs):
    """Return the contents of the files that a shard describes. Raises KeyError without a xorb."""
    entries = (shard[at : at + _ENTRY] for at in range(_ENTRY, len(shard), _ENTRY))
    contents = []
    while (head := next(entries))[:32] != _END:
        flags, n = struct.unpack("<II", head[32:40])
        content = b""
        for _ in range(n):
            entry = next(entries)
            _, size, first, last = struct.unpack("<IIII", entry[32:])
            part = b"".join(chunks_of(xorbs[_hash(entry[:32])])[first:last])
            assert len(part) == size
            content += part
        for _ in range(n * bool(flags & _VERIFIED) + bool(flags & _HAS_SHA256)):
            next(entries)
        contents.append(content)
    return contents


def chunks_of(xorb):
    """Return the chunks of a xorb. Its footer, if it has one, is ignored."""
    chunks, at = [], 0
    while at < len(xorb) and xorb[at : at + 7] != b"XETBLOB":
        size, kind, raw = _u24(xorb, at + 1), xorb[at + 4], _u24(xorb, at + 5)
        data = xorb[at + 8 : at + 8 + size]
        if kind:
            data = pa.Codec("lz4").decompress(data, raw, asbytes=True)
        chunks.append(_joined(data) if kind == 2 else data)
        at += 8 + size
    return chunks


def _joined(data):
    """Restore bytes that were grouped by their place in words of four bytes."""
    ends = [0]
    for place in range(4):
        ends.append(ends[-1] + (len(data) - place + 3) // 4)
    restored = bytearray(len(data))
    for place, (start, end) in enumerate(pairwise(ends)):
        restored[place::4] = data[start:end]
    return bytes(restored)


def _u24(data, at):
    return int.from_bytes(data[at : at + 3], "little")


def _hash(raw):
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))
