"""Read, hash and atomically write files; errors name the file.

A file is replaced by write, fsync, rename, so that a kill leaves the old one or the new one. A folder is built beside
its place and renamed into it.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from m3dllm.errors import UserError, remedy

_STRANGE = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "mbcs", "oem", "undefined"))
"""Python codecs that no text file uses, or that differ between machines."""


def open_file(path: Path) -> BufferedReader:
    """The file, open for reading. Raises OSError, also for a pipe or device, which may never end, and for an invalid
    name."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "embedded null byte", str(path))
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, os.strerror(code) if code == errno.EISDIR else "it is a pipe or a device", str(path))
    return file


def shipped(name: str) -> Path:
    """A folder that comes with the package: in it if installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / name if (package / name).is_dir() else package.parent / name


BEGINNING = 2**18
"""The bytes at the beginning of a file by which it is known what it is."""
NAME_BYTES = 160
"""The most bytes of a name: file systems allow 255, minus room for a hash, a suffix and `.tmp`."""


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises UserError where it cannot be read."""
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise UserError.at(path, f"cannot be read: {error.strerror}") from error


_PACKED = {
    b"\x1f\x8b": "gzipped",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ\x00": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
}
"""The first bytes of packed files -> their kind."""


def read_text(path: Path) -> str:
    """The file as UTF-8, a byte-order mark dropped, line ends kept. Raises UserError at the line of a wrong byte."""
    return decode_text(read_bytes(path), path)


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, one at a time and without line ends (LF, CRLF, or CR as on old Macs).

    Byte-order marks before lines, of which joined files have several, are dropped. Raises UserError as `read_text`.
    """
    try:
        with open_file(path) as file:
            if problem := other_encoding(file.peek()):
                raise UserError.at(path, problem)
            with io.TextIOWrapper(file, encoding="utf-8") as text:
                for line in text:
                    yield line.removesuffix("\n").lstrip("\ufeff")
    except UnicodeDecodeError:
        read_text(path)  # its error names the line
        raise
    except OSError as error:
        raise UserError.at(path, f"cannot be read: {error.strerror}") from error


def decode_text(data: bytes, path: Path) -> str:
    """`data` of the file `path` as UTF-8. Raises UserError at the line of a wrong byte."""
    if problem := other_encoding(data):
        raise UserError.at(path, problem)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8{_likely(data)}"
        raise UserError.at(path, message, line=line) from error


def other_encoding(data: bytes) -> str | None:
    """Why the bytes of a file are certainly not UTF-8 text, or None."""
    if problem := packed(data):
        return problem
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16; expected UTF-8: save it as UTF-8"
    head = data[: len(data) // 2 * 2][:256]
    for zeros, others in ((head[1::2], head[::2]), (head[::2], head[1::2])):
        if len(head) >= 8 and zeros.count(0) > 0.8 * len(zeros) and not others.count(0):
            return "is UTF-16 without a byte-order mark; expected UTF-8: save it as UTF-8"
    return None


def decoded_as(data: bytes, encoding: str) -> str | None:
    """The text, if `encoding` names an ordinary text encoding that Python knows, and the bytes are valid in it."""
    try:
        return None if codecs.lookup(encoding).name in _STRANGE else data.decode(encoding)
    except (LookupError, ValueError):  # unknown encoding, or not one of text; invalid bytes or name
        return None


def packed(data: bytes) -> str | None:
    """Why the bytes of a file are those of an archive, or None."""
    kind = next((kind for mark, kind in _PACKED.items() if data.startswith(mark)), None)
    if data[257:262] == b"ustar":
        kind = "a tar archive"
    return f"is {kind}: unpack it" if kind else None


def _likely(data: bytes) -> str:
    """The likely encoding of text that is not UTF-8, as the end of a message; "" if unknown."""
    for encoding, name in (("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("gb18030", "GBK")):
        try:
            text = data[: 4096 // 2 * 2].decode(encoding, "ignore" if len(data) > 4096 else "strict")
        except UnicodeDecodeError:
            continue
        beyond = [c for c in text if c > "\x7f"]
        common = sum("\u4e00" <= c <= "\u9fff" or c in "\u3000，。、！？：；“”（）《》" for c in beyond)
        if name == "GBK" and 0 < len(beyond) <= 3 and all(map(_is_common, beyond)):
            return " (it looks like GBK)"
        if len(beyond) > 3 and common > 0.9 * len(beyond) and text.replace("\n", "").replace("\t", "").isprintable():
            return f" (it looks like {name})"
    return ""


def _is_common(character: str) -> bool:
    """Whether the character is in the first, common half of GB 2312."""
    try:
        data = character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return len(data) == 2 and 0xB0 <= data[0] <= 0xD7


def write_atomic(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Write `data` to `path` atomically. Raises UserError, with nothing changed, if it cannot be written.

    `durable` waits for the disk (fsync); not needed for files that can be made again.
    """
    with written_atomic(path, durable=durable) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def written_atomic(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write piece by piece, put at `path` when the block succeeds; otherwise as `write_atomic`."""
    if path.exists() and not path.is_file():
        what = "is a folder" if path.is_dir() else "is a pipe or a device"
        raise UserError.at(path, f"{what}; expected a file to write: choose another")
    temporary = path.with_name(f".{_short(path.name)}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def natural(name: str) -> list[str | int]:
    """A sort key for names: numbers count by their value, clip-2 before clip-10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def check_free(path: Path) -> None:
    """Raises UserError if `path` exists and is not empty, or is a link to nothing."""
    if path.is_symlink() and not path.exists():
        raise UserError.at(path, "is a link to nothing: choose another folder, or delete it")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError.at(path, "already exists: choose another folder, or delete it")


def check_replaces(path: Path, what: str, *words: bytes) -> None:
    """Raises UserError if there is a file at `path` that is not `what`: its beginning lacks one of the `words`."""
    try:
        with path.open("rb") as file:
            head = file.read(BEGINNING)
    except OSError:  # there is none, or it cannot be replaced either: writing tells
        return
    if head and not all(word in head for word in words):
        raise UserError.at(path, f"is not {what} and would be overwritten: choose another place, or delete it")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, moved to `path` if the block succeeds and removed otherwise.

    Raises UserError if `path` exists and is not empty, or cannot be written.
    """
    check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path.parent, of=path.name)
        temporary = Path(tempfile.mkdtemp(prefix=f".{_short(path.name)}.{os.getpid()}.", dir=path.parent))
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        temporary.chmod(0o755)
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.rename(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what killed calls of `write_atomic` and `new_folder` left in `folder`, which no other process uses."""
    for path in folder.glob(".*.*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".tmp":
            path.unlink(missing_ok=True)


def clear_abandoned(folder: Path, *, of: str | None = None) -> None:
    """Remove what killed calls of `write_atomic` and `new_folder` left in a `folder` that other processes may use.

    Files of processes that still run are kept. `of`: only the leftovers of the file or folder of that name.
    """
    begin = "." if of is None else f".{_short(of)}."
    for path in folder.glob(".*.*") if folder.is_dir() else ():
        left = path.name.startswith(begin) and _LEFT.fullmatch(path.name, len(begin) - 1)
        if not left or _lives(left["pid"] or left["by"]):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".tmp":
            with suppress(OSError):
                path.unlink()


_LEFT = re.compile(
    r".*\.(?:(?P<pid>[0-9]+)\.(?:[0-9]+\.)?tmp|(?P<by>[0-9]+)\.[a-z0-9_]{8}|(?=[a-z]*[0-9_])[a-z0-9_]{8})", re.DOTALL
)
"""The ends of names that `write_atomic`, thumbnails or `new_folder` make."""


def _lives(pid: str | None) -> bool:
    """Whether another process with that id is running."""
    if pid is None or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _short(name: str) -> str:
    """`name`, or its hash if it is too long for a suffix to be added."""
    return name if len(os.fsencode(name)) <= NAME_BYTES else sha256(os.fsencode(name))[:16]


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error for a file that cannot be written: a full disk, a folder without permission."""
    return UserError.at(error.filename or path, f"cannot be written: {error.strerror}: {remedy(error)}")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of the file in hexadecimal. Raises UserError if it cannot be read."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError.at(path, f"cannot be read: {error.strerror}") from error


def is_pickle(head: bytes) -> bool:
    """Whether a file with these first bytes is a pickle, or a zip of them, as torch writes it."""
    return head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def pickle_beside(folder: Path) -> str:
    """The end of a message about missing weights: the pickle file in the folder; "" if there is none."""
    suffixes = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
    found = sorted(path.name for path in folder.iterdir() if path.suffix in suffixes) if folder.is_dir() else []
    return f"; {found[0]} is a pickle, which is never loaded" if found else ""


def inside(root: Path, relative: str) -> Path:
    """`root / relative`. Raises ValueError if it leads out of `root`."""
    pure = Path(relative)
    if not relative or "\0" in relative or pure.is_absolute() or ".." in pure.parts or "\\" in relative:
        raise ValueError(f"path {relative!r} leads out of the folder: give a relative path without '..'")
    return root / pure


def hard_link(source: Path, target: Path) -> bool:
    """Make `target` a hard link to the file `source`; False if the file systems do not allow it, or differ."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


LINKED = "is a link to a file outside the corpus: copy the file into it, or pass --linked-frames"


def links_out(root: Path, path: Path, known: dict[Path, Path] | None = None) -> bool:
    """Whether a link leads from `path`, inside `root`, out of it. `known` caches the resolved folders."""
    known = {} if known is None else known
    try:
        for folder in (root, path.parent):
            if folder not in known:
                known[folder] = folder.resolve()
        real = path.resolve() if path.is_symlink() else known[path.parent] / path.name
    except (OSError, RuntimeError, ValueError):  # circular links; invalid names
        return False
    return not real.is_relative_to(known[root])


def is_within(root: Path, relative: str) -> bool:
    """Whether `root / relative` lies in `root`, links resolved."""
    try:
        return inside(root, relative).resolve().is_relative_to(root.resolve())
    except (ValueError, OSError, RuntimeError):  # a path out of the folder or with a NUL; circular links
        return False


def file_name(text: str) -> str:
    """`text` as one safe name of a file or folder: an id such as `../../x` never becomes a path.

    Ordinary ids are unchanged; changed or cut ones get a hash. A name takes at most NAME_BYTES.
    """
    safe = re.sub(r"[^\w.-]+", "_", text).lstrip(".")[:80]
    safe = safe.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore")
    return safe if safe == text else f"{safe or 'id'}-{sha256(text.encode('utf-8', 'surrogatepass'))[:8]}"
