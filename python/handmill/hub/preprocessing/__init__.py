"""Texts made ready for models: tokens packed with start and end, masked, padded, and labels."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BertMaskedLMPreprocessor": ".masked_lm_preprocessor",
        "BertTextClassifierPreprocessor": ".text_classifier_preprocessor",
        "CausalLMPreprocessor": ".causal_lm_preprocessor",
        "GPT2CausalLMPreprocessor": ".causal_lm_preprocessor",
        "MaskedLMMaskGenerator": ".masked_lm_mask_generator",
        "MultiSegmentPacker": ".multi_segment_packer",
        "StartEndPacker": ".start_end_packer",
    },
)
