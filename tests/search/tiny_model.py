"""A real ONNX model of a few kilobytes and its tokenizer, written by hand: one table look-up.

`tokens` models give a vector for each token, `pooled` models one for each text.
"""

import json
import struct
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

DIMENSIONS = 16
WORDS = ["cat", "dog", "garden", "flower", "the", "a", "of", "purr", "##ing", "bark", "##s", "un"]
_INT64, _FLOAT = 7, 1


def build(folder: Path, *, kind: str = "tokens", seed: int = 0) -> Path:
    """Write the model into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{x}" for x in letters)]
    vocabulary = {piece: at for at, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)  # As sold: to be switched off.
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 34}))
    table = np.random.default_rng(seed).standard_normal((len(vocabulary), DIMENSIONS))
    if kind == "pooled":
        table[0] = -100  # The greatest number of each place: padding must never have it.
    (folder / "model.onnx").write_bytes(_model(table.astype("<f4"), kind))
    return folder


def _model(table: np.ndarray, kind: str) -> bytes:
    output = "vectors" if kind == "tokens" else "summed"
    nodes = _field(1, _node("Gather", ["table", "input_ids"], "vectors"))
    if kind == "pooled":
        nodes += _field(1, _node("ReduceMax", ["vectors"], "summed", axes=[1]))
    shape = 3 if kind == "tokens" else 2
    graph = (
        nodes
        + _field(2, b"tiny")
        + _field(5, _tensor("table", table))
        + _field(11, _value("input_ids", _INT64, 2))
        + _field(11, _value("attention_mask", _INT64, 2))
        + _field(11, _value("token_type_ids", _INT64, 2))
        + _field(12, _value(output, _FLOAT, shape))
    )
    return _number(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, 13))


def _node(operator: str, inputs: list[str], output: str, *, axes: list[int] | None = None) -> bytes:
    node = b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode())
    node += _field(4, operator.encode())
    if axes is not None:
        node += _field(
            5, _field(1, b"axes") + b"".join(_number(8, a) for a in axes) + _number(20, 7)
        )
        node += _field(5, _field(1, b"keepdims") + _number(3, 0) + _number(20, 2))
    return node


def _tensor(name: str, values: np.ndarray) -> bytes:
    sizes = b"".join(_number(1, size) for size in values.shape)
    return sizes + _number(2, _FLOAT) + _field(8, name.encode()) + _field(9, values.tobytes())


def _value(name: str, kind: int, dimensions: int) -> bytes:
    sizes = b"".join(_field(1, _field(2, f"d{at}".encode())) for at in range(dimensions))
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, kind) + _field(2, sizes)))


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += struct.pack("B", value & 127 | 128)
        value >>= 7
    return found + struct.pack("B", value)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content
