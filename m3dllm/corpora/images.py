"""Image files: how large they are, and whether they are whole. Pixels are decoded only if there is no quicker check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from m3dllm.pictures import as_png, open_picture, orientation, upright_size

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
"""The suffixes of supported images. Importers write TIFF as PNG, since browsers do not show it."""
TIFF = (".tif", ".tiff")
UNREAD = frozenset((".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".ppm", ".pgm", ".tga", ".ico"))
"""The suffixes of images that are not supported."""
_KINDS = (
    (b"\xff\xd8", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"RIFF", ".webp"),
    (b"BM", ".bmp"),
    (b"GIF8", ".gif"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
)


def image_size(source: Path | bytes) -> tuple[int, int]:
    """(width, height) in pixels of an upright, complete image. Raises ValueError, with the reason, if it is none.

    A JPEG that ends with its end mark and a PNG with correct checksums count as complete; any other file is decoded.
    """
    with _open(source) as image:
        try:
            # Metadata of a PNG may follow its pixels, and checksums are only checked in a file just opened.
            turn = image_turn(source) if image.format == "PNG" else orientation(image, source)
            size = upright_size(image, turn)
            if image.format == "PNG":
                image.verify()
            elif image.format != "JPEG" or not _ends_with(source, b"\xff\xd9"):
                image.load()
        except (OSError, SyntaxError, EOFError, ValueError) as error:
            raise ValueError(f"the image is damaged or truncated ({error}): replace it") from error
    return size


def is_tiff(name: str) -> bool:
    """Whether a file of this name is a TIFF image."""
    return name.lower().endswith(TIFF)


def suffix_of(image: bytes) -> str:
    """The file suffix for this image."""
    return next((suffix for mark, suffix in _KINDS if image.startswith(mark)), ".jpg")


def image_turn(source: Path | bytes) -> int:
    """The orientation of an image that `image_size` has measured: 1 (upright) to 8."""
    with _open(source) as image:
        return orientation(image, source)


def image_as_png(source: Path | bytes) -> bytes:
    """The image, upright, as PNG. Raises ValueError where it cannot be read."""
    try:
        return as_png(source)
    except (OSError, SyntaxError, EOFError, ValueError, MemoryError) as error:
        raise ValueError(f"the image is damaged or truncated ({error}): replace it") from error


def image_problem(source: Path | bytes, size: tuple[int, int]) -> str | None:
    """Why it is not a complete image of `size` pixels, or None."""
    try:
        found = image_size(source)
    except ValueError as error:
        return str(error)
    if found != size:
        turned = " as displayed (its EXIF data rotate it)" if found == size[::-1] else ""
        return f"the image has {_pixels(found)} pixels{turned}; expected {_pixels(size)}: correct the sizes"
    return None


def _open(source: Path | bytes) -> Image:
    """The image with its header read. Raises ValueError."""
    from PIL import Image, UnidentifiedImageError

    try:
        return open_picture(source)
    except UnidentifiedImageError as error:
        raise ValueError("is not in a supported image format: replace it") from error
    except FileNotFoundError as error:
        raise ValueError("the file does not exist: add the image, or remove the frame") from error
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image cannot be read ({error}): replace it") from error


def _ends_with(source: Path | bytes, mark: bytes) -> bool:
    if isinstance(source, bytes):
        return source.endswith(mark)
    with source.open("rb") as file:
        file.seek(-len(mark), 2)
        return file.read() == mark


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
