"""Helpers around training: labels, seeds, data sets, progress."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CustomObjectScope": "handmill.saving.objects",
        "FeatureSpace": "handmill.models.feature_space",
        "Progbar": "handmill.callbacks.progbar",
        "PyDataset": "handmill.data.dataset",
        "Sequence": "handmill.data.dataset:PyDataset",
        "array_to_img": "handmill.data.images.files",
        "img_to_array": "handmill.data.images.files",
        "load_img": "handmill.data.images.files",
        "save_img": "handmill.data.images.files",
        "clear_session": "handmill.session",
        "custom_object_scope": "handmill.saving.objects:CustomObjectScope",
        "deserialize_keras_object": "handmill.saving.objects",
        "get_custom_objects": "handmill.saving.objects",
        "get_registered_name": "handmill.saving.objects",
        "get_registered_object": "handmill.saving.objects",
        "pad_sequences": "handmill.data.sequences",
        "normalize": "handmill.data.arrays",
        "register_keras_serializable": "handmill.saving.objects",
        "serialize_keras_object": "handmill.saving.objects",
        "set_random_seed": "handmill.session",
        "to_categorical": "handmill.data.arrays",
        "pack_x_y_sample_weight": "handmill.data.batches",
        "unpack_x_y_sample_weight": "handmill.data.batches",
    },
)
