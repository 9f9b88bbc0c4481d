"""Reads a PyTorch checkpoint of the format before 1.6 (a stream of pickles, then raw storages) without PyTorch.

The unpickler resolves only the names that a dictionary of tensors needs; anything else is refused, so a hostile
file cannot run code.
"""

import collections
import io
import pickle
import struct

import numpy as np

_DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: (storage, offset, size, stride)
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"the checkpoint names {module}.{name}, which a dictionary of tensors does not need")

    def persistent_load(self, pid):
        _, dtype, key, _, count, *_ = pid
        self.storages[key] = (dtype, count)
        return key


def load(data):
    """The tensors by name."""
    file = io.BytesIO(data)
    storages = {}
    for _ in range(3):  # magic number, protocol, system information
        _Unpickler(file, storages).load()
    tensors = _Unpickler(file, storages).load()
    arrays = {}
    for key in _Unpickler(file, storages).load():
        dtype, count = storages[key]
        stated = struct.unpack("<q", file.read(8))[0]
        if stated != count:
            raise ValueError(f"storage {key} says {stated} elements where its tensors say {count}")
        arrays[key] = np.frombuffer(file.read(count * np.dtype(dtype).itemsize), dtype)
    result = {}
    for name, (key, offset, size, stride) in tensors.items():
        array = arrays[key]
        strides = [s * array.itemsize for s in stride]
        result[name] = np.lib.stride_tricks.as_strided(array[offset:], size, strides).copy()
    return result
