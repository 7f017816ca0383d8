"""Make `medsam/assets/weights/name_bank.safetensors`: what MiniLM makes of the English names of structures.

    .venv/bin/python scripts/name_bank.py [FILE]      # fetches MiniLM (83 MB) the first time

Run it when `medsam/labels/languages.csv` has new English names. The embeddings are those of all-MiniLM-L6-v2
(Apache-2.0), in half precision.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save

from medsam.files import write_whole
from medsam.labels import english_phrases, nameable
from medsam.models.name_bank import BANK
from medsam.models.text_encoder import phrase_encoder
from medsam.models.weights_file import CARD_KEY


def main(target: Path) -> None:
    entries = [(phrase, name) for name in nameable() for phrase in english_phrases(name)]
    embeddings = phrase_encoder().encode([phrase for phrase, _ in entries])
    card = {"encoder": "all-MiniLM-L6-v2", "licence": "Apache-2.0", "phrases": entries}
    stored = save({"embeddings": embeddings.to(torch.float16)}, {CARD_KEY: json.dumps(card, ensure_ascii=False)})
    with write_whole(target) as path:
        path.write_bytes(stored)
    print(f"{target.name}: {len(entries)} phrases of {len(nameable())} structures, {len(stored):,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BANK)
