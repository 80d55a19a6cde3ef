"""Takes out of an image's packages what no service uses, then compiles the rest. Usage: trim.py SITE_PACKAGES

Google's packages bring every version of every API, wheels bring sources and debugging symbols. A folder that is named
here and is not there is an error, so that the list follows the packages; a service that misses something does not
start, which the compose tests see.
"""

import compileall
import shutil
import struct
import sys
from pathlib import Path

# By the package whose presence says that the others came with it.
UNUSED = {
    "google/cloud/aiplatform_v1": [
        "agentplatform",
        "google/cloud/aiplatform",
        "google/cloud/aiplatform_v1beta1",
        "google/genai",
        "vertexai",
    ],
    "google/cloud/speech_v2": [
        "google/cloud/speech",  # only imports speech_v1
        "google/cloud/speech_v1",
        "google/cloud/speech_v1p1beta1",
    ],
}
# Sources of what is compiled, types for editors, and definitions that were already turned into Python.
SOURCES = {".c", ".cpp", ".h", ".pxd", ".pxi", ".pyi", ".pyx", ".proto"}
ELF_64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"


def trim(packages: Path) -> None:
    for sign, folders in UNUSED.items():
        if (packages / sign).is_dir():
            for folder in folders:
                shutil.rmtree(packages / folder)
    for path in [path for path in packages.rglob("*") if path.is_file()]:
        if path.suffix in SOURCES:
            path.unlink()
        elif ".so" in path.suffixes:
            strip(path)


def strip(library: Path) -> None:
    """Cut off what follows the last loaded byte, as `strip` would, which slim images have not: symbols and sections.

    Source: elf(5); the dynamic loader reads program headers only. uvloop's library is 13.6 MB with them, 1.6 without.
    """
    content = bytearray(library.read_bytes())
    if not content.startswith(ELF_64_LITTLE_ENDIAN):
        return
    (table,) = struct.unpack_from("<Q", content, 32)
    entry_size, entries = struct.unpack_from("<HH", content, 54)
    end = table + entry_size * entries
    for entry in range(table, end, entry_size):
        offset, _, _, size = struct.unpack_from("<4Q", content, entry + 8)
        end = max(end, offset + size)
    if end < 0.9 * len(content):
        struct.pack_into("<Q", content, 40, 0)  # where the section headers are: nowhere
        struct.pack_into("<3H", content, 58, 0, 0, 0)
        library.write_bytes(content[:end])


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
    sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, workers=0))
