"""Text models: backbones, and tasks on top of them."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Backbone": ".backbone",
        "BertBackbone": ".bert",
        "BertMaskedLM": ".bert",
        "BertMaskedLMPreprocessor": "handmill.hub.preprocessing",
        "BertTextClassifier": ".bert",
        "BertTextClassifierPreprocessor": "handmill.hub.preprocessing",
        "BertTokenizer": "handmill.hub.tokenizers",
        "CausalLM": ".causal_lm",
        "CausalLMPreprocessor": "handmill.hub.preprocessing",
        "GPT2Backbone": ".gpt2",
        "GPT2CausalLM": ".gpt2",
        "GPT2CausalLMPreprocessor": "handmill.hub.preprocessing",
        "GPT2Tokenizer": "handmill.hub.tokenizers",
        "LlamaBackbone": ".llama",
        "LlamaCausalLM": ".llama",
        "MaskedLM": ".task",
        "Task": ".task",
        "TextClassifier": ".task",
        "Tokenizer": "handmill.hub.tokenizers",
    },
)
