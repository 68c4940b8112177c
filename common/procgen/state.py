"""Saved states of the engine, sealed so that only a fitting and undamaged one is ever handed back.

The engine asserts on every byte of a state: a wrong one ends the process. Worse, a state carries
options (look, difficulty, range of levels) that silently replace those of the engine it is put into.
"""

import struct
import zlib

from common.errors import InputError

_MAGIC = b"kdshift-procgen-1"
_HEADER = struct.Struct("<IH")


def seal_state(payload: bytes, tag: bytes) -> bytes:
    """Put a checksum and ``tag``, the description of the engine it came from, before the engine's bytes."""
    body = struct.pack("<H", len(tag)) + tag + payload
    return _MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def open_state(state: bytes, tag: bytes) -> bytes:
    """Return the engine's bytes.

    Raises:
        InputError: if ``state`` was not sealed here, is damaged, or came from an engine of another ``tag``.
    """
    head = len(_MAGIC)
    if not isinstance(state, bytes) or state[:head] != _MAGIC or len(state) < head + _HEADER.size:
        raise InputError("state is not one that get_state gave; give its list of bytes back unchanged")
    checksum, length = _HEADER.unpack_from(state, head)
    if zlib.crc32(state[head + 4 :]) != checksum:
        raise InputError("state is damaged (its checksum is wrong); give get_state's bytes back unchanged")
    start = head + _HEADER.size
    found = state[start : start + length]
    if found != tag:
        raise InputError(f"state of an engine {found.decode()} cannot be restored into {tag.decode()}")
    return state[start + length :]
