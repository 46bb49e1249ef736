"""HDF5 as Keras uses it: groups of plain arrays and short texts.

Reading follows hard links alone, opens no other file, and takes nothing but arrays that lie in
the file in one piece, uncompressed: no array can have more bytes than the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from handmill.errors import FileFormatError
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.saving.file_range import FileRange, array_in
from handmill.saving.hdf5_heaps import check_texts
from handmill.saving.pieces import Content, ContentFile, Pieces, SparseFile, bytes_of

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BFLOAT16 = "bfloat16"
_LONGEST_TEXT = 1 << 24
_LONGEST_PART = 64_000
_LARGE = 1 << 16  # bytes of an array that is not copied


def h5py() -> Any:
    """Returns the library that reads and writes HDF5.

    Raises:
        ImportError: naming the remedy, if it is not installed.
    """
    try:
        import h5py as library
    except ImportError as error:
        raise ImportError(
            "Keras's files (.keras, .weights.h5, .h5) hold weights as HDF5, which h5py reads and "
            "writes: pip install 'handmill[h5]'. Without it, save to `.hmill` and `.weights.hmill`."
        ) from error
    return library


class Writer:
    """Makes a file in memory."""

    def __init__(self) -> None:
        self._library = h5py()
        self._content = SparseFile()
        self._file = self._library.File(self._content, "w")
        self._large: list[tuple[Any, Array]] = []

    def group(self, path: str, arrays: Mapping[str, Array], notes: Mapping[str, str]) -> None:
        """Adds a group of arrays.

        Args:
            path: where.
            arrays: by name.
            notes: short texts by name.
        """
        group = self._file.require_group(path) if path else self._file
        for name, text in notes.items():
            group.attrs[name] = text
        for name, array in arrays.items():
            if array.nbytes < _LARGE:
                dataset = group.create_dataset(name, data=array)
            else:
                dataset = self._with_room(group, name, array)
                self._large.append((dataset, array))
            if array.dtype == numpy_dtype(_BFLOAT16):
                dataset.attrs["dtype"] = _BFLOAT16

    def texts(self, path: str, name: str, texts: Sequence[str]) -> None:
        """Adds a list of texts beside a group; a long one in parts, as HDF5's limit demands."""
        group = self._file.require_group(path) if path else self._file
        longest = max((len(text.encode()) for text in texts), default=1)
        each = max(1, _LONGEST_PART // longest)
        if len(texts) <= each:
            group.attrs[name] = np.array([text.encode() for text in texts], f"S{longest}")
            return
        for part, start in enumerate(range(0, len(texts), each)):
            rows = [text.encode() for text in texts[start : start + each]]
            group.attrs[f"{name}{part}"] = np.array(rows, f"S{longest}")

    def _with_room(self, group: Any, name: str, array: Array) -> Any:
        """Makes an array whose bytes are not written, but have their place."""
        library = self._library
        properties = library.h5p.create(library.h5p.DATASET_CREATE)
        properties.set_layout(library.h5d.CONTIGUOUS)
        properties.set_alloc_time(library.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(library.h5d.FILL_TIME_NEVER)
        return group.create_dataset(name, array.shape, array.dtype, dcpl=properties)

    def content(self) -> Pieces:
        """Returns the finished file."""
        parts = [(dataset.id.get_offset(), bytes_of(array)) for dataset, array in self._large]
        self._file.close()
        return self._content.pieces(parts)


class Reader:
    """Looks into a file that may be damaged, or made to do harm.

    Args:
        content: the bytes of the file.
        name: what errors call it.

    Raises:
        FileFormatError: if it is not HDF5.
    """

    def __init__(self, content: Content | FileRange, name: str) -> None:
        self._library = h5py()
        self._content = content
        self._reads = ContentFile(content)
        self._name = name
        self._opened: dict[str, Any] = {}
        if content[: len(_SIGNATURE)] != _SIGNATURE:
            raise FileFormatError(f"{name} is not an HDF5 file")
        with self._damage():
            self._file = self._library.File(self._reads, "r")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except FileFormatError:
            raise
        except (
            OSError,
            RuntimeError,
            LookupError,
            ValueError,
            TypeError,
            ArithmeticError,
            AttributeError,
            MemoryError,
        ) as error:
            raise FileFormatError(f"{self._name} is damaged: {error}") from None

    def _refuse(self, path: str, why: str) -> FileFormatError:
        return FileFormatError(f"{self._name}: {path[:80]!r} {why}")

    def has(self, path: str) -> bool:
        """Whether there is a group or array at ``path``."""
        with self._damage():
            return self._at(path) is not None

    def group_at(self, path: str) -> int | None:
        """Where the group that is at ``path`` lies in the file; None for an array.

        Several paths may lead to one group, also from inside of it.
        """
        with self._damage():
            found = self._at(path)
            if not isinstance(found, self._library.Group):
                return None
            return int(self._library.h5o.get_info(found.id).addr)

    def names(self, path: str) -> list[str]:
        """The names in the group at ``path``; none if there is no such group."""
        with self._damage():
            group = self._at(path)
            return [] if group is None else [str(name) for name in self._group(group, path)]

    def arrays(self, path: str) -> dict[str, Array]:
        """The arrays in the group at ``path``; none if there is no such group.

        They are views of the content where they can be.

        Raises:
            FileFormatError: if it holds anything else.
        """
        return {name: self.array(f"{path}/{name}") for name in self.names(path)}

    def array(self, path: str) -> Array:
        """The array at ``path``.

        Raises:
            FileFormatError: if it is not there, or not stored in one piece in this file.
        """
        with self._damage():
            dataset = self._at(path)
            if not isinstance(dataset, self._library.Dataset):
                raise self._refuse(path, "is not an array" if dataset is not None else "is missing")
            return self._array(dataset, path)

    def text(self, path: str, name: str) -> str | None:
        """A text beside the group or array at ``path``; None if there is none."""
        found = self._attribute(path, name)
        if isinstance(found, bytes | str) and len(found) > _LONGEST_TEXT:
            raise self._refuse(f"{path}:{name}", "is longer than 16 MB")
        if isinstance(found, bytes):
            with self._damage():
                return found.decode()
        return found if isinstance(found, str) else None

    def texts(self, path: str, name: str) -> list[str]:
        """A list of texts beside the group at ``path``; long ones are cut into several."""
        found = self._attribute(path, name)
        if found is None:
            found, part = [], 0
            while (more := self._attribute(path, f"{name}{part}")) is not None:
                found += list(np.atleast_1d(more))
                part += 1
        with self._damage():
            rows = np.atleast_1d(found).tolist()
            return [row.decode() if isinstance(row, bytes) else str(row) for row in rows]

    def _attribute(self, path: str, name: str) -> Any:
        library = self._library
        with self._damage():
            owner = self._at(path)
            if owner is None or not library.h5a.exists(owner.id, name.encode()):
                return None
            attribute = library.h5a.open(owner.id, name.encode())
            declared = int(np.prod(attribute.shape, dtype=object)) * attribute.dtype.itemsize
            if declared > min(len(self._content), _LONGEST_TEXT):
                raise self._refuse(f"{path}:{name}", f"claims {declared} bytes")
            dtype = attribute.dtype
            if dtype.kind not in "SfiuO" or (
                dtype.kind == "O" and library.check_string_dtype(dtype) is None
            ):
                raise self._refuse(f"{path}:{name}", f"is of type {dtype}, not text")
            if dtype.kind == "O":
                check_texts(self._content, self._reads.were_read(), name)
            value = owner.attrs[name]
            return value.tolist() if isinstance(value, np.bytes_) else value

    def _group(self, found: Any, path: str) -> Any:
        if not isinstance(found, self._library.Group):
            raise self._refuse(path, "is not a group")
        return found

    def _at(self, path: str) -> Any:
        """What is at ``path``, reached by hard links; None if nothing is."""
        if not path:
            return self._file
        if path not in self._opened:
            owner, _, name = path.rpartition("/")
            # Between the parts of a path is one slash, and none before or after it.
            found = None if path[0] == "/" or not name else self._at(owner)
            self._opened[path] = None if found is None else self._inside(found, name, path)
        return self._opened[path]

    def _inside(self, owner: Any, name: str, path: str) -> Any:
        library, group, part = self._library, self._group(owner, path).id, name.encode()
        if not group.links.exists(part):
            return None
        if group.links.get_info(part).type != library.h5l.TYPE_HARD:
            link = type(owner.get(name, getlink=True)).__name__
            raise self._refuse(path, f"is a {link}, which is not followed")
        found = library.h5o.open(group, part)
        if isinstance(found, library.h5g.GroupID):
            return library.Group(found)
        return library.Dataset(found) if isinstance(found, library.h5d.DatasetID) else found

    def _array(self, dataset: Any, path: str) -> Array:
        layouts = self._library.h5d
        properties = dataset.id.get_create_plist()
        layout = properties.get_layout()
        if layout not in (layouts.CONTIGUOUS, layouts.COMPACT) or properties.get_nfilters():
            raise self._refuse(path, "is chunked, compressed or virtual, which is not read")
        if properties.get_external_count():
            raise self._refuse(path, "lies in another file, which is not opened")
        dtype = dataset.dtype
        is_bfloat16 = dtype == np.dtype("V2") and self.text(path, "dtype") == _BFLOAT16
        if dtype.kind not in "fiub" and not is_bfloat16:
            raise self._refuse(path, f"holds elements of type {dtype}")
        declared = dataset.shape
        shape = tuple(int(n) for n in declared or ())
        size = math.prod(shape) * dtype.itemsize
        if size > len(self._content) or dataset.id.get_storage_size() != size:
            raise self._refuse(path, f"claims {size} bytes that the file does not have")
        if declared is None:
            raise self._refuse(path, "has no elements")
        if not size:
            array = np.zeros(shape, dtype)
        elif layout == layouts.COMPACT:
            array = np.asarray(dataset[()])
        else:
            start = dataset.id.get_offset()
            if start is None or start + size > len(self._content):
                raise self._refuse(path, "does not lie inside the file")
            array = array_in(self._content, start, dtype, shape)
        if is_bfloat16:
            return array.view(numpy_dtype(_BFLOAT16))
        if dtype.kind == "b":
            return np.asarray(np.asarray(array).view(np.uint8) != 0)
        return array if dtype.isnative else np.asarray(array, dtype.newbyteorder("="))
