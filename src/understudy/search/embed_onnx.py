"""A local embedding model: a folder with `model.onnx` and `tokenizer.json`.

A text is tokenised once and cut into windows of equal length that the model can read whole; each
window has its own vector, so that nothing of a long chunk is lost. The windows of a query become
one vector.

How far a model understands a text is read off its tokenizer, which was made from the texts that
the model was taught with: a script or language that it saw little of falls to pieces of a letter
or two, or is unknown to it. So the trust in an English model is low for Russian, and that in a
multilingual one is not, without a list of languages.
"""

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from understudy import limits
from understudy.search import Embedded, EmbedderError, Numbers, Vectors
from understudy.search.chunk import mended
from understudy.search.vectors import embedded, normalised

MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
# Letters for which a tokenizer needs one piece, on average: of languages that the model knows
# less and less. English has 4.3 with an English model, German 3.1, Russian 1.2.
LETTERS_KNOWN = 3.0
LETTERS_UNKNOWN = 1.8
LETTERS_OF_IDEOGRAPH = 3.0  # A character of Chinese says as much as so many letters.
UNKNOWN_SHARE = 0.1  # Of the pieces; with more the model understands nothing.
PRIOR_PIECES = 4  # Believed to be understood beforehand: one rare name is no foreign language.


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the folder says about its model."""

    window: int  # Tokens, with the special ones.
    pooling: Literal["mean", "cls"]
    query_prefix: str
    text_prefix: str


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The model, ready to run."""

    session: Any  # onnxruntime has no type information.
    tokenizer: Any  # Loaded late; the type would import it.
    inputs: frozenset[str]
    unknown: int | None
    padding: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Tokens to embed, and the text that they are from."""

    ids: list[int]
    owner: int


def open_onnx(folder: Path) -> "OnnxEmbedder":
    """The embedder of a folder; raises EmbedderError when it cannot be one."""
    for name in (MODEL, TOKENIZER):
        if not (folder / name).is_file():
            raise EmbedderError(f"The folder '{folder}' is no embedding model: it has no {name}.")
    try:
        import onnxruntime  # noqa: F401 -- Fail now, and not at the first file.
        import tokenizers  # noqa: F401
    except ImportError:
        raise EmbedderError(
            "A local embedding model needs onnxruntime and tokenizers: "
            "pip install 'understudy[local]'."
        ) from None
    return OnnxEmbedder(folder)


class OnnxEmbedder:
    """Embeds in threads, one batch at a time, so that a query waits for one batch at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = _settings(folder)
        self._loaded: _Loaded | None = None
        self._loading = threading.Lock()
        self._turn = asyncio.Lock()
        self.name = f"{folder.resolve().name}-{_fingerprint(folder)}"

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """The vectors of the texts; a query has exactly one."""
        prefix = self._settings.query_prefix if is_query else self._settings.text_prefix
        async with self._turn:
            windows, trust = await asyncio.to_thread(self._windows, texts, prefix)
        order = sorted(range(len(windows)), key=lambda at: len(windows[at].ids))
        rows: dict[int, Vectors] = {}
        for batch in _batches(order, windows):
            async with self._turn:
                found = await asyncio.to_thread(self._run, [windows[at].ids for at in batch])
            rows |= zip(batch, found, strict=True)
        return embedded(
            [rows[at] for at in range(len(windows))],
            [window.owner for window in windows],
            trust,
            is_query=is_query,
        )

    async def close(self) -> None:
        """Wait for the batch at work, and let go of the model."""
        async with self._turn:
            self._loaded = None

    def _load(self) -> _Loaded:
        """The model, read at first use: it takes a second and its size in memory."""
        with self._loading:
            if self._loaded is None:
                self._loaded = _load(self._folder)
            return self._loaded

    def _windows(self, texts: Sequence[str], prefix: str) -> tuple[list[_Window], Vectors]:
        """The windows of the texts, and how far each text is understood."""
        loaded = self._load()
        windows: list[_Window] = []
        trust = np.zeros(len(texts), np.float32)
        for owner, text in enumerate(prefix + mended(text) for text in texts):
            encoding = loaded.tokenizer.encode(text)
            trust[owner] = _trust(encoding, text, loaded.unknown)
            windows += [_Window(ids, owner) for ids in _cut(encoding, self._settings.window)]
        return windows, trust

    def _run(self, batch: list[list[int]]) -> Vectors:
        """The vectors of some windows."""
        loaded = self._load()
        width = max(len(ids) for ids in batch)
        ids = np.full((len(batch), width), loaded.padding, np.int64)
        mask = np.zeros((len(batch), width), np.int64)
        for row, window in enumerate(batch):
            ids[row, : len(window)] = window
            mask[row, : len(window)] = 1
        feeds = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.maximum(np.cumsum(mask, axis=1) - 1, 0),
        }
        try:
            output = loaded.session.run(
                None, {name: feeds[name] for name in feeds if name in loaded.inputs}
            )[0]
        except Exception as error:  # noqa: BLE001 -- onnxruntime's errors have no common class.
            raise EmbedderError(f"The local embedding model failed: {error}") from None
        return normalised(_pooled(np.asarray(output, np.float32), mask, self._settings.pooling))


def _pooled(output: Vectors, mask: Numbers, pooling: str) -> Vectors:
    """One vector for each window, of a model that gives one for each window or each token."""
    if output.ndim == 2:
        return output
    if output.ndim != 3:
        raise EmbedderError("The local model is no embedding model: see the shape of its output.")
    if pooling == "cls":
        first: Vectors = output[:, 0]
        return first
    weights = mask[:, :, None].astype(np.float32)
    mean: Vectors = (output * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
    return mean


def _cut(encoding: Any, window: int) -> list[list[int]]:
    """The tokens in windows of equal length, each with the special tokens at its ends."""
    ids: list[int] = encoding.ids
    special: list[int] = encoding.special_tokens_mask
    head = next((at for at, is_special in enumerate(special) if not is_special), len(ids))
    tail = next((at for at, is_special in enumerate(special[::-1]) if not is_special), 0)
    body = ids[head : len(ids) - tail]
    room = max(window - head - tail, 1)
    count = -(-len(body) // room) or 1
    edges = [len(body) * at // count for at in range(count + 1)]
    ends = ids[len(ids) - tail :] if tail else []
    return [ids[:head] + body[start:stop] + ends for start, stop in pairwise(edges)]


def _trust(encoding: Any, text: str, unknown: int | None) -> float:
    """How far the tokenizer's pieces of a text are those of a language that it was made for."""
    pieces = missing = 0
    for id, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
        if start < stop and text[start].isalpha():
            pieces += 1
            missing += id == unknown
    if not pieces:
        return 1.0
    letters = sum(
        LETTERS_OF_IDEOGRAPH if _is_ideograph(letter) else 1 for letter in text if letter.isalpha()
    )
    per_piece = (letters + PRIOR_PIECES * LETTERS_KNOWN) / (pieces + PRIOR_PIECES)
    clear = (per_piece - LETTERS_UNKNOWN) / (LETTERS_KNOWN - LETTERS_UNKNOWN)
    known = 1 - missing / (pieces + PRIOR_PIECES) / UNKNOWN_SHARE
    return max(0.0, min(1.0, clear)) * max(0.0, known)


def _is_ideograph(letter: str) -> bool:
    return "\u3040" <= letter <= "\u9fff"


def _batches(order: list[int], windows: list[_Window]) -> Iterator[list[int]]:
    """Windows of about one length, as many as fit into a batch."""
    batch: list[int] = []
    for at in order:
        if batch and (len(batch) + 1) * len(windows[at].ids) > limits.EMBEDDED_TOKENS:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _load(folder: Path) -> _Loaded:
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = limits.EMBEDDER_THREADS
    options.inter_op_num_threads = 1
    # Threads that spin while they wait would take the processors from the API.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # Warnings are for whoever exported the model.
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        session = onnxruntime.InferenceSession(
            str(folder / MODEL), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 -- neither library's errors have a common class.
        raise EmbedderError(f"The embedding model in '{folder}' cannot be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    unknown = getattr(tokenizer.model, "unk_token", None)
    return _Loaded(
        session=session,
        tokenizer=tokenizer,
        inputs=frozenset(given.name for given in session.get_inputs()),
        unknown=tokenizer.token_to_id(unknown) if unknown else None,
        padding=0,
    )


def _settings(folder: Path) -> _Settings:
    """The model's own word on its windows, its pooling and its prefixes, where it has one."""
    config = _read(folder / "config.json")
    pooling = _read(folder / "1_Pooling" / "config.json")
    prompts = _read(folder / "config_sentence_transformers.json").get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    longest = config.get("max_position_embeddings")
    window = limits.EMBEDDED_WINDOW
    if isinstance(longest, int) and longest > 0:
        window = min(window, longest - 2)  # Some models count positions from 2.
    return _Settings(
        window=max(window, 8),
        pooling="cls" if pooling.get("pooling_mode_cls_token") is True else "mean",
        query_prefix=str(prompts.get("query") or ""),
        text_prefix=str(prompts.get("document") or prompts.get("passage") or ""),
    )


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one: none of these files must be there."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _fingerprint(folder: Path) -> str:
    """Tells this model from another in a folder of the same name, without reading it all."""
    digest = hashlib.blake2b(digest_size=4)
    for path in (*sorted(folder.glob(f"{MODEL}*")), folder / TOKENIZER):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for sample in range(limits.FINGERPRINT_SAMPLES):
                file.seek(size * sample // limits.FINGERPRINT_SAMPLES)
                digest.update(file.read(limits.FINGERPRINT_BYTES))
    return digest.hexdigest()
