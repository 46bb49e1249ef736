"""What no public name of Keras gives: handmill's objects behind names of Keras's source."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import os
import shutil
import types
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from keras_tests.foreign import Foreign


def made() -> dict[str, dict[str, Any]]:
    """What no public name of Keras gives: module -> name -> object."""
    import handmill as hm
    from handmill import backend, config, layers, naming, ops, random, saving, tree, utils
    from handmill.callbacks import remote
    from handmill.callbacks.monitor import MonitorCallback
    from handmill.data import downloads
    from handmill.ir.trace import mask_of, with_mask
    from handmill.layers.symbolic import Node
    from handmill.models.model import Functional
    from handmill.runtime.watch import TrackedDict, TrackedList, TrackedSet
    from handmill.saving import objects
    from keras_tests import trainers

    remote.urllib = types.SimpleNamespace(
        parse=urllib.parse,
        error=urllib.error,
        request=types.SimpleNamespace(Request=urllib.request.Request, urlopen=post),
    )
    dtypes = {
        n: getattr(backend, n)
        for n in ("standardize_dtype", "is_float_dtype", "is_int_dtype", "result_type")
    }
    tensors = {"KerasTensor": layers.KerasTensor}
    return {
        "keras.src.backend": {
            **dtypes,
            **tensors,
            "backend": lambda: "handmill",
            "Variable": hm.Variable,
            "SUPPORTS_SPARSE_TENSORS": False,
            "SUPPORTS_RAGGED_TENSORS": False,
            "SUPPORTS_COMPLEX_DTYPES": False,
            "IS_THREAD_SAFE": True,
            "random": random,
            "numpy": ops,
            "math": ops,
            "nn": ops,
            "config": config,
            "name_scope": hm.name_scope,
            "convert_to_tensor": ops.convert_to_tensor,
            "convert_to_numpy": ops.convert_to_numpy,
            "is_tensor": ops.is_tensor,
            "shape": ops.shape,
            "cast": ops.cast,
            "random_seed_dtype": lambda: "int64",
            "get_keras_mask": mask_of,
            "set_keras_mask": with_mask,
        },
        "keras.src.backend.common": {**dtypes, **tensors},
        "keras.src.backend.common.variables": {
            "standardize_dtype": backend.standardize_dtype,
            "KerasVariable": hm.Variable,
        },
        "keras.src.backend.common.keras_tensor": tensors,
        "keras.src.backend.common.masking": {
            "get_keras_mask": mask_of,
            "set_keras_mask": with_mask,
        },
        "keras.src.backend.common.global_state": {
            "clear_session": lambda free_memory=True: utils.clear_session(),
        },
        "keras.src.backend.common.name_scope": {
            "name_scope": hm.name_scope,
            "current_path": naming.current_path,
        },
        "keras.src.utils.python_utils": {"removesuffix": str.removesuffix},
        "keras.src.utils.naming": {
            "auto_name": naming.auto_name,
            "to_snake_case": naming.to_snake_case,
            "uniquify": naming.uniquify,
            "get_object_name": naming.object_name,
        },
        "keras.src.utils.file_utils": {
            "join": os.path.join,
            "exists": os.path.exists,
            "listdir": os.listdir,
            "makedirs": lambda path: Path(path).mkdir(parents=True, exist_ok=True),
            "File": open,
            "isdir": os.path.isdir,
            "rmtree": shutil.rmtree,
            "copy": shutil.copyfile,
            "hash_file": hash_file,
            "validate_file": lambda path, *given: downloads.has_hash(Path(path), *given),
            "extract_archive": extract_archive,
        },
        "keras.src.utils.module_utils": {
            "tensorflow": Foreign("tensorflow"),
            "dmtree": Foreign("dmtree"),
            "optree": types.SimpleNamespace(available=True),
        },
        "keras.src.utils.summary_utils": {
            "print_summary": lambda model, **kwargs: model.summary(**kwargs),
        },
        "keras.src.utils.tracking": {
            "TrackedDict": TrackedDict,
            "TrackedList": TrackedList,
            "TrackedSet": TrackedSet,
            "TrackedOrderedDict": collections.OrderedDict,  # which layers keep as it is
        },
        "keras.src.api_export": {"keras_export": lambda *args, **kwargs: lambda x: x},
        "keras.src.random": {"random": random},
        "keras.src.random.seed_generator": {"make_default_seed": random.next_host_seed},
        "keras.src.ops.node": {"Node": Node},
        "keras.src.tree": {n: getattr(tree, n) for n in dir(tree) if not n.startswith("_")},
        "keras.src.tree.tree_api": {"MAP_TO_NONE": tree.MAP_TO_NONE},
        "keras.src.tree.optree_impl": {n: getattr(tree, n) for n in vars(tree) if n[0] != "_"},
        "keras.src.layers.preprocessing.index_lookup": {"IndexLookup": IndexLookup},
        "keras.src.callbacks": {"MonitorCallback": MonitorCallback},
        "keras.src.models.functional": {"Functional": Functional},
        "keras.src.trainers.trainer": {"Trainer": trainer()},
        "keras.src.trainers.compile_utils": {
            "CompileLoss": trainers.CompileLoss,
            "CompileMetrics": trainers.CompileMetrics,
        },
        "keras.src.trainers.epoch_iterator": {"EpochIterator": trainers.EpochIterator},
        "keras.src.trainers.data_adapters": {
            "get_data_adapter": trainers.DataAdapter,
            "GeneratorDataAdapter": trainers.DataAdapter,
        },
        **{
            f"keras.src.trainers.data_adapters.{module}": {name: trainers.DataAdapter}
            for module, name in (
                ("array_data_adapter", "ArrayDataAdapter"),
                ("generator_data_adapter", "GeneratorDataAdapter"),
                ("py_dataset_adapter", "PyDatasetAdapter"),
            )
        },
        "keras.src.trainers.data_adapters.data_adapter_utils": {
            "class_weight_to_sample_weights": trainers.class_weight_to_sample_weights
        },
        "keras.src.saving.object_registration": {"GLOBAL_CUSTOM_NAMES": objects._custom_names},
        "keras.src.saving.saving_lib": {
            "load_model": saving.load_model,
            "save_model": saving.save_model,
            "load_weights_only": saving.load_weights,
            "save_weights_only": saving.save_weights,
        },
        "keras.src.saving.serialization_lib": {"ObjectSharingScope": objects.shared_objects},
        "keras.src.legacy.saving.legacy_h5_format": {
            "save_model_to_hdf5": saving.save_model,
            "load_model_from_hdf5": saving.load_model,
        },
        "keras.src.testing": {
            f"{name}_uses_{device}".lstrip("_"): lambda: False
            for name, device in itertools.product(
                ("", "jax", "tensorflow", "torch"), ("gpu", "tpu")
            )
        },
    }


def hash_file(path: str, algorithm: str = "sha256") -> str:
    """By which tests of `get_file` know what they should get."""
    return hashlib.new(algorithm, Path(path).read_bytes()).hexdigest()


def extract_archive(path: str, folder: str = ".", archive_format: Any = "auto") -> bool:
    """Unpacks an archive; whether it is one."""
    from handmill.data import archives

    kind = archives.archive_kind(Path(path), archive_format)
    if kind is not None:
        archives.unpack(Path(path), Path(folder), kind)
    return kind is not None


def post(request: Any, timeout: float) -> Any:
    """Keras sends with `requests`, which its tests watch; handmill with `urllib.request`."""
    import requests

    headers = {k: v for k, v in request.header_items() if k != "Content-type"} or None
    if "json" in request.get_header("Content-type", ""):
        body: dict[str, Any] = {"json": json.loads(request.data)}
    else:
        body = {"data": dict(urllib.parse.parse_qsl(request.data.decode()))}
    return requests.post(request.full_url, headers=headers, **body)


def trainer() -> type:
    """Keras's class that a layer becomes a model by: handmill's models are layers themselves."""
    from handmill import models

    class Trainer(models.Model):
        _graph = None

        def __init__(self) -> None:
            super(models.Model, self).__init__()  # the layer's own has run

        def call(self, *args: Any, **kwargs: Any) -> Any:
            return super(models.Model, self).call(*args, **kwargs)

    return Trainer


class IndexLookup:
    """Keras's base class of IntegerLookup and StringLookup stands for whichever is meant."""

    def __new__(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: Any = None,
        oov_token: Any = None,
        vocabulary_dtype: str = "string",
        **kwargs: Any,
    ) -> Any:
        from handmill import layers

        given = {
            "max_tokens": max_tokens,
            "num_oov_indices": num_oov_indices,
            "mask_token": mask_token,
            "oov_token": oov_token,
            **kwargs,
        }
        if "int" in vocabulary_dtype:
            return layers.IntegerLookup(vocabulary_dtype=vocabulary_dtype, **given)
        return layers.StringLookup(**given)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        from handmill import layers

        is_number = "int" in config["vocabulary_dtype"]
        return (layers.IntegerLookup if is_number else layers.StringLookup).from_config(config)
