"""Reads the parts of an ELF file that the dynamic loader uses, and replaces absolute paths that are compiled into it."""

import re
import struct

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
PF_X, PF_W = 1, 2
DT_NEEDED, DT_STRTAB, DT_RELA, DT_RELASZ = 1, 5, 7, 8
EM_X86_64, R_X86_64_RELATIVE = 62, 8
PAGE = 4096

# lea OFFSET(%rip), %REGISTER: x86-64 code refers to constants with it. The look-ahead also finds overlapping matches.
LEA = re.compile(rb"(?=[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](....))", re.S)


class Segment:
    def __init__(self, data, header):
        self.header = header
        self.kind, self.flags, self.offset, self.address, _, self.size = struct.unpack_from("<IIQQQQ", data, header)


class Elf:
    """A 64-bit little-endian ELF file that is loaded at run time: a program or a shared object."""

    def __init__(self, data):
        self.data = data
        start, = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        self.segments = [Segment(data, start + i * size) for i in range(count)]
        self.has_interpreter = any(s.kind == PT_INTERP for s in self.segments)
        self.dynamic = []
        for segment in self.segments:
            if segment.kind == PT_DYNAMIC:
                entries = data[segment.offset:segment.offset + segment.size // 16 * 16]
                self.dynamic = list(struct.iter_unpack("<QQ", entries))
        strings = self._offset(dict(self.dynamic)[DT_STRTAB]) if self.dynamic else 0
        self.needed = [self._string(strings + value).decode() for tag, value in self.dynamic if tag == DT_NEEDED]

    @staticmethod
    def read(path):
        """Returns the file as Elf, or None if it is not such a file."""
        with open(path, "rb") as file:
            head = file.read(20)
            if head[:6] != b"\x7fELF\x02\x01" or head[16:18] not in (b"\2\0", b"\3\0"):
                return None
            return Elf(bytearray(head + file.read()))

    def _offset(self, address):
        """Returns the offset in the file of an address in memory, or None if the file has no bytes for it."""
        for s in self.segments:
            if s.kind == PT_LOAD and s.address <= address < s.address + s.size:
                return s.offset + address - s.address
        return None

    def _string(self, offset):
        return bytes(self.data[offset:self.data.index(b"\0", offset)])

    def move_strings(self, change):
        """Replaces each text that the program refers to by the result of `change`. A text for which `change`
        returns None stays the same. Returns whether any text was replaced.

        The new text may be longer. It is stored in the unused rest of a segment's last page. The references to the
        old text, which are `lea` instructions and relocated pointers, are changed to the new address. A text that
        the code loads in pieces, without its address, stays the same. Processors other than x86-64 refer to
        constants differently, so this function changes nothing for them."""
        moved = {}
        for address, references in sorted(self._references().items()):
            offset = self._offset(address)
            text = change(self._string(offset)) if offset is not None and self.data[offset] in b"/." else None
            if text is None:
                continue
            if text not in moved:
                moved[text] = self._append(text + b"\0")
            for kind, at in references:
                if kind == "lea":
                    value, = struct.unpack_from("<i", self.data, at)
                    struct.pack_into("<i", self.data, at, value + moved[text] - address)
                else:
                    struct.pack_into("<Q", self.data, at, moved[text])
        return bool(moved)

    def _references(self):
        """Returns the addresses that the program refers to, with their references: {address: [(kind, file offset)]}."""
        found = {}
        if struct.unpack_from("<H", self.data, 18) != (EM_X86_64,):
            return found
        for s in self.segments:
            if s.kind == PT_LOAD and s.flags & PF_X:
                for match in LEA.finditer(self.data, s.offset, s.offset + s.size):
                    after = match.start() + 7 - s.offset + s.address
                    target = after + struct.unpack("<i", match[1])[0]
                    found.setdefault(target, []).append(("lea", match.start() + 3))
        dynamic = dict(self.dynamic)
        if DT_RELA in dynamic:
            table = self._offset(dynamic[DT_RELA])
            for at in range(table, table + dynamic[DT_RELASZ], 24):
                _, info, target = struct.unpack_from("<QQQ", self.data, at)
                if info == R_X86_64_RELATIVE:
                    found.setdefault(target, []).append(("pointer", at + 16))
        return found

    def _append(self, text):
        """Stores text in the unused rest of a read-only segment's last page, which is mapped anyway. Returns the text's address."""
        for s in self.segments:
            if s.kind != PT_LOAD or s.flags & PF_W:
                continue
            end = s.offset + s.size
            room = self.data[end:end + -end % PAGE]
            if len(room) >= len(text) and not any(room[:len(text)]) and not self._is_used(end, len(text)):
                self.data[end:end + len(text)] = text
                s.size += len(text)
                # p_filesz, p_memsz
                struct.pack_into("<QQ", self.data, s.header + 32, s.size, s.size)
                return s.address + s.size - len(text)
        raise ValueError(f"no segment has room for {text!r}")

    def _is_used(self, offset, size):
        return any(s.offset < offset + size and offset < s.offset + s.size for s in self.segments)
