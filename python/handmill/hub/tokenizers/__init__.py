"""Tokenizers under KerasHub's names: texts to ids and back, exact to the bit."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BertTokenizer": ".bert_tokenizer",
        "BytePairTokenizer": ".byte_pair_tokenizer",
        "ByteTokenizer": ".byte_tokenizer",
        "GPT2Tokenizer": ".gpt2_tokenizer",
        "PackageTokenizer": ".package_tokenizer",
        "StreamingDetokenizer": ".streaming",
        "Tokenizer": ".tokenizer",
        "UnicodeCodepointTokenizer": ".unicode_codepoint_tokenizer",
        "WordPieceTokenizer": ".word_piece_tokenizer",
        "compute_word_piece_vocabulary": ".word_piece_training",
        "train_byte_pair": ".byte_pair_training",
    },
)
