"""Bytes on disk: written whole or not at all, hashed, and with errors that name the file.

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

from m3dllm.errors import UserError

_STRANGE = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "mbcs", "oem", "undefined"))
"""What Python calls an encoding of texts, and no file of texts is in; or what is another one on each machine."""


def open_file(path: Path) -> BufferedReader:
    """The file, open to read. Raises OSError, also for a pipe or a device, which may never end or never begin, and for
    a name that no file can have."""
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
    """A folder that comes with the package: in it where it is installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / name if (package / name).is_dir() else package.parent / name


NAME_BYTES = 160
"""Bytes of one name: file systems take 255, and what is added (a hash, a suffix, `.tmp`) needs room."""


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
"""How packed files begin, and what they are."""


def read_text(path: Path) -> str:
    """The file as UTF-8, a byte-order mark dropped, line ends kept. Raises UserError at the line of a wrong byte."""
    return decode_text(read_bytes(path), path)


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a file in UTF-8, one at a time and without their ends: LF, CRLF, or CR as on an old Mac.

    Byte-order marks before lines are dropped, of which joined files have several. Raises UserError as `read_text`.
    """
    try:
        with open_file(path) as file:
            if problem := other_encoding(file.peek()):
                raise UserError.at(path, problem)
            with io.TextIOWrapper(file, encoding="utf-8") as text:
                for line in text:
                    yield line.removesuffix("\n").lstrip("\ufeff")
    except UnicodeDecodeError:
        read_text(path)  # says where
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
    """Why the bytes of a file are surely no UTF-8 text, or None."""
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
    """The text, where `encoding` names an ordinary encoding of texts that Python knows and the bytes are in it."""
    try:
        return None if codecs.lookup(encoding).name in _STRANGE else data.decode(encoding)
    except (LookupError, ValueError):  # no such encoding or none of texts; other bytes, or a name that is none
        return None


def packed(data: bytes) -> str | None:
    """Why the bytes of a file are those of an archive, or None."""
    kind = next((kind for mark, kind in _PACKED.items() if data.startswith(mark)), None)
    if data[257:262] == b"ustar":
        kind = "a tar archive"
    return f"is {kind}: unpack it" if kind else None


def _likely(data: bytes) -> str:
    """What text that is no UTF-8 looks like: the end of a message; "" where nothing is likely."""
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
    """Whether it is one of the characters that GB 2312 has in its first, common half."""
    try:
        data = character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return len(data) == 2 and 0xB0 <= data[0] <= 0xD7


def write_atomic(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Put `data` at `path` in one step. Raises UserError (nothing is changed) where the disk is full or refuses.

    `durable` waits for the disk: what can be made again at once need not be.
    """
    with written_atomic(path, durable=durable) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def written_atomic(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write piece by piece, put at `path` in one step when the block ends well; as `write_atomic`."""
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
    """To sort names by: a number in one counts by its value, clip-2 before clip-10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def check_free(path: Path) -> None:
    """Raises UserError where `path` exists with something in it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError.at(path, "already exists: choose another folder, or delete it")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A fresh folder to fill, moved to `path` when the block ends well and removed when it does not.

    Raises UserError where `path` exists with something in it, or cannot be written.
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
    """Remove what `write_atomic` and `new_folder` leave in `folder`, which is ours alone, when they are killed."""
    for path in folder.glob(".*.*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".tmp":
            path.unlink(missing_ok=True)


def clear_abandoned(folder: Path, *, of: str | None = None) -> None:
    """Remove what `write_atomic` and `new_folder` leave when they are killed in a `folder` that others may write into.

    What a process that still lives is writing stays. `of`: only what is left of the file or folder of that name.
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
"""How a name goes on that `write_atomic`, thumbnails or `new_folder` have made."""


def _lives(pid: str | None) -> bool:
    """Whether another process of that number runs."""
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
    """`name`, or its hash where something added to it would be more than a disk takes."""
    return name if len(os.fsencode(name)) <= NAME_BYTES else sha256(os.fsencode(name))[:16]


def cannot_write(path: Path, error: OSError) -> UserError:
    """The line for a file that the system would not write: a full disk, a folder without permission."""
    return UserError.at(
        error.filename or path, f"cannot be written: {error.strerror}: free up space or choose another location"
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The hash of the file's bytes. Raises UserError where it cannot be read."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError.at(path, f"cannot be read: {error.strerror}") from error


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a pickle, or a zip of them, as torch writes it."""
    return head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def pickle_beside(folder: Path) -> str:
    """The end of a message about weights that are missing: which file of the folder is a pickle; "" where none is."""
    suffixes = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
    found = sorted(path.name for path in folder.iterdir() if path.suffix in suffixes) if folder.is_dir() else []
    return f"; {found[0]} is a pickle, which is never loaded" if found else ""


def inside(root: Path, relative: str) -> Path:
    """`root / relative`, where that stays inside `root`. Raises ValueError for a path that leads out of it."""
    pure = Path(relative)
    if not relative or "\0" in relative or pure.is_absolute() or ".." in pure.parts or "\\" in relative:
        raise ValueError(f"path {relative!r} leads out of the folder: give a relative path without '..'")
    return root / pure


def hard_link(source: Path, target: Path) -> bool:
    """Make `target` a hard link to the file `source`; False where no disk allows it, or they are two."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


LINKED = "is a link to a file outside the corpus: copy the file into it, or pass --linked-frames"


def links_out(root: Path, path: Path, known: dict[Path, Path] | None = None) -> bool:
    """Whether a link leads from `path`, a place in `root`, out of it. `known` keeps where folders really are."""
    known = {} if known is None else known
    try:
        for folder in (root, path.parent):
            if folder not in known:
                known[folder] = folder.resolve()
        real = path.resolve() if path.is_symlink() else known[path.parent] / path.name
    except (OSError, RuntimeError, ValueError):  # links that go in circles; names that no disk takes
        return False
    return not real.is_relative_to(known[root])


def is_within(root: Path, relative: str) -> bool:
    """Whether `root / relative` lies in `root`, whatever links stand on the way."""
    try:
        return inside(root, relative).resolve().is_relative_to(root.resolve())
    except (ValueError, OSError, RuntimeError):  # a name out of the folder or with a NUL; links that go in circles
        return False


def file_name(text: str) -> str:
    """`text` as one safe name of a file or folder: an id such as `../../x` never becomes a path.

    Ordinary ids stay as they are; whatever was changed or cut is told apart by a hash. A name takes at most NAME_BYTES.
    """
    safe = re.sub(r"[^\w.-]+", "_", text).lstrip(".")[:80]
    safe = safe.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore")
    return safe if safe == text else f"{safe or 'id'}-{sha256(text.encode('utf-8', 'surrogatepass'))[:8]}"
