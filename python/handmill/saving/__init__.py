"""Saving and loading: config dictionaries, and the file format ``.hmill``."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CustomObjectScope": ".objects",
        "KerasFileEditor": ".file_editor",
        "custom_object_scope": ".objects:CustomObjectScope",
        "deserialize_keras_object": ".objects",
        "get_custom_objects": ".objects",
        "get_registered_name": ".objects",
        "get_registered_object": ".objects",
        "load_model": ".model_file",
        "load_weights": ".model_file",
        "register_keras_serializable": ".objects",
        "save_model": ".model_file",
        "save_weights": ".model_file",
        "serialize_keras_object": ".objects",
    },
)
