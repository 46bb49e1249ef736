"""Helpers around training: labels, seeds, data sets, progress."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CustomObjectScope": "handmill.saving.objects",
        "Progbar": ".progbar",
        "PyDataset": ".dataset",
        "Sequence": ".dataset:PyDataset",
        "array_to_img": "handmill.data.images.files",
        "img_to_array": "handmill.data.images.files",
        "load_img": "handmill.data.images.files",
        "save_img": "handmill.data.images.files",
        "clear_session": ".numeric",
        "custom_object_scope": "handmill.saving.objects:CustomObjectScope",
        "deserialize_keras_object": "handmill.saving.objects",
        "get_custom_objects": "handmill.saving.objects",
        "get_registered_name": "handmill.saving.objects",
        "get_registered_object": "handmill.saving.objects",
        "normalize": ".numeric",
        "pack_x_y_sample_weight": ".batches",
        "register_keras_serializable": "handmill.saving.objects",
        "serialize_keras_object": "handmill.saving.objects",
        "set_random_seed": ".numeric",
        "to_categorical": ".numeric",
        "unpack_x_y_sample_weight": ".batches",
    },
)
