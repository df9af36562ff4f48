"""A small ELF file as a linker for a 32-bit core makes it."""

import struct

FUNCTION, OBJECT, GLOBAL = 2, 1, 16
ALLOCATED, NO_BITS = 2, 8
ABSOLUTE = 0xFFF1
# Places in the header.
TYPE, MACHINE = 16, 18


def image(mark: str = "mark") -> bytes:
    """An ELF file with seven sections, a segment for each that is stored, two functions, of which one is not defined,
    and the absolute symbol `mark`.

    .text and .model are at 0x1000 and 0x1028, .data at 0x2000, loaded from 0x1040, .bss at 0x2008.
    """
    symbols, strings = b"", b"\0"
    for name, kind, section in (("main", GLOBAL | FUNCTION, 1), ("memcpy", FUNCTION, 0), ("table", OBJECT, 1),
                                (mark, GLOBAL, ABSOLUTE)):  # fmt: skip
        symbols += struct.pack("<IIIBBH", len(strings), 0, 4, kind, 0, section)
        strings += name.encode() + b"\0"
    names = b"\0.text\0.model\0.symtab\0.strtab\0.shstrtab\0.data\0.bss\0"
    stored = [(b".text", 0x1000, 0x1000, bytes(40)), (b".model", 0x1028, 0x1028, bytes(24)),
              (b".data", 0x2000, 0x1040, bytes(range(8)))]  # fmt: skip
    bodies = [(name, 1, ALLOCATED, at, body, 0) for name, at, _, body in stored]
    bodies = [(b"", 0, 0, 0, b"", 0), *bodies, (b".symtab", 2, 0, 0, symbols, 5), (b".strtab", 3, 0, 0, strings, 0),
              (b".shstrtab", 3, 0, 0, names, 0)]  # fmt: skip
    at, rows, segments, content = 52 + 32 * len(stored), [], b"", b""
    for name, kind, flags, run_at, body, linked in bodies:
        place = at + len(content)
        rows.append((names.index(name + b"\0"), kind, flags, run_at, place, len(body), linked, 0, 0, 0))
        for _, address, load_at, _ in (one for one in stored if one[0] == name):
            segments += struct.pack("<8I", 1, place, address, load_at, len(body), len(body), 5, 4)
        content += body
    rows.append((names.index(b".bss\0"), NO_BITS, ALLOCATED, 0x2008, at + len(content), 512, 0, 0, 0, 0))
    head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 40, 1, 0, 52, at + len(content), 0, 52, 32,
                       len(stored), 40, len(rows), 6)  # fmt: skip
    return head + segments + content + b"".join(struct.pack("<10I", *row) for row in rows)
