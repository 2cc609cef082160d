"""Whether a netCDF-3 file is as long as its header says: netCDF-C reads zeros beyond the end.

A download that broke off would be data otherwise, and zeros of packed numbers are plausible ones.

References
----------
NetCDF user guide, appendix B: file format specifications, classic, 64-bit offset and 64-bit data
formats (CDF-1, CDF-2, CDF-5).
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = ["expected_length"]

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
"""Bytes of a value by the number of its type: byte, char, short ... unsigned 64-bit integer."""
STREAMING = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""Numbers of records of a file that was never closed: the header does not tell."""


class Stored(NamedTuple):
    """Where a variable lies: first byte, bytes of it or of one record of it, and which of them."""

    begin: int
    size: int
    by_record: bool


class Header:
    """Numbers of a header, read one after the other."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        version = self._take(4)[3]
        self.count_bytes = 8 if version == 5 else 4
        self.offset_bytes = 4 if version == 1 else 8

    def _take(self, size: int) -> bytes:
        read = self.stream.read(size)
        if len(read) < size:
            raise ValueError("its header is cut off")
        return read

    def number(self, size: int) -> int:
        """An unsigned integer, the first byte the highest."""
        return int.from_bytes(self._take(size))

    def count(self) -> int:
        """A number of things; of 64 bits in CDF-5."""
        return self.number(self.count_bytes)

    def offset(self) -> int:
        """A place in the file."""
        return self.number(self.offset_bytes)

    def entries(self) -> range:
        """Places in a list, whose tag is passed over."""
        self.number(4)
        return range(self.count())

    def skip(self, size: int) -> None:
        """Pass over bytes, which are filled up to a multiple of four."""
        self._take(size + -size % 4)

    def skip_attributes(self) -> None:
        """Pass over a list of attributes."""
        for _ in self.entries():
            self.skip(self.count())
            kind = self.number(4)
            self.skip(SIZES[kind] * self.count())


def expected_length(local: Path) -> int:
    """Bytes that a netCDF-3 file must have at least, to hold all values of its header.

    Raises
    ------
    ValueError
        If the header itself is cut off.
    """
    with local.open("rb") as stream:
        header = Header(stream)
        records = header.count()
        lengths = []
        for _ in header.entries():
            header.skip(header.count())
            lengths.append(header.count())
        header.skip_attributes()
        variables = [_variable(header, lengths) for _ in header.entries()]
        end = stream.tell()
    by_record = [v for v in variables if v.by_record]
    # A record holds one of each, filled up to four bytes; but for a variable that is alone.
    step = sum(v.size + -v.size % 4 for v in by_record) if len(by_record) > 1 else 0
    step = step or sum(v.size for v in by_record)
    records = 0 if records in STREAMING else records
    ends = [
        v.begin + v.size + (max(records - 1, 0) * step if v.by_record else 0) for v in variables
    ]
    known = [
        e for v, e in zip(variables, ends, strict=True) if v.size and (records or not v.by_record)
    ]
    return max([end, *known])


def _variable(header: Header, lengths: list[int]) -> Stored:
    header.skip(header.count())
    dims = [header.count() for _ in range(header.count())]
    header.skip_attributes()
    value = SIZES[header.number(4)]
    header.count()  # its size as the header has it, which is wrong for large variables
    # The dimension of records has length 0 here.
    by_record = bool(dims) and lengths[dims[0]] == 0
    size = value * prod(lengths[dim] for dim in (dims[1:] if by_record else dims))
    return Stored(header.offset(), size, by_record)
