"""TensorBoard event files without TensorBoard: scalars only, appended record by record.

A record is length, masked CRC of the length, bytes, masked CRC of the bytes; the bytes are an `Event`
protocol buffer, of which four fields are needed. Writing them by hand keeps protobuf and its closure
out of every trainer's requirement set.
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bit-reversed


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """The mask of the TFRecord format: a CRC of data that holds CRCs would be weak."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def _varint(number: int) -> bytes:
    out = bytearray()
    number &= 0xFFFFFFFFFFFFFFFF  # negative int64 as protobuf writes it
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _event(at: float, step: int, rest: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", at) + b"\x10" + _varint(step) + rest  # 1: wall_time, 2: step


def version_event(at: float) -> bytes:
    return _event(at, 0, _field(3, b"brain.Event:2"))  # 3: file_version, which every file begins with


def scalar_event(at: float, step: int, tag: str, value: float) -> bytes:
    scalar = _field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)  # 1: tag, 2: simple_value
    return _event(at, step, _field(5, _field(1, scalar)))  # 5: summary, in it 1: value


class EventFile:
    """One attempt's event file; TensorBoard reads all files of the folder together."""

    def __init__(self, folder: Path, at: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stamp = f"events.out.tfevents.{int(at):010d}.trainer"
        number = sum(1 for _ in folder.glob("events.out.tfevents.*"))
        self.path = folder / f"{stamp}.{number}"
        self._out: BinaryIO = open(self.path, "xb")  # noqa: SIM115 (close() closes it)
        self._out.write(record(version_event(at)))

    def scalar(self, at: float, step: int, tag: str, value: float) -> None:
        self._out.write(record(scalar_event(at, step, tag, value)))

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        self._out.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
