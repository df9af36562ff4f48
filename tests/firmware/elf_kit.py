"""A small ELF file as a linker for a 32-bit core makes it."""

import struct

FUNCTION, OBJECT = 2, 1


def image() -> bytes:
    """An ELF file with five sections and two functions, of which one is not defined."""
    strings = b"\0main\0memcpy\0table\0"
    names = b"\0.text\0.model\0.symtab\0.strtab\0.shstrtab\0.bss\0"
    symbols = b"".join(
        struct.pack("<IIIBBH", strings.index(name + b"\0"), 0, 4, kind, 0, section)
        for name, kind, section in ((b"main", FUNCTION, 1), (b"memcpy", FUNCTION, 0), (b"table", OBJECT, 1))
    )
    bodies = [(b"", b"", 0, 0), (b".text", bytes(40), 1, 0), (b".model", bytes(24), 1, 0), (b".symtab", symbols, 2, 4),
              (b".strtab", strings, 3, 0), (b".shstrtab", names, 3, 0)]  # fmt: skip
    at, rows, content = 52, [], b""
    for name, body, kind, linked in bodies:
        rows.append((names.index(name + b"\0"), kind, 0, 0, at + len(content), len(body), linked, 0, 0, 0))
        content += body
    rows.append((names.index(b".bss\0"), 8, 0, 0, at + len(content), 512, 0, 0, 0, 0))
    head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 40, 1, 0, 0, at + len(content), 0, 52, 0, 0, 40,
                       len(rows), 5)  # fmt: skip
    return head + content + b"".join(struct.pack("<10I", *row) for row in rows)
