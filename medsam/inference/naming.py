"""A typed name -> the structure that is meant, or a question.

Names of four languages are in a table (`labels.languages`). English phrases that are not are put beside the names of
the bank by what MiniLM makes of them; a phrase is believed only where it is all but a name, for "neck of the femur" is
near to "femoral head", and another thing. Whatever else is typed is answered with the names nearest to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medsam.errors import AssetError, PromptError
from medsam.labels import english, nameable, named, nearest, sides_agree
from medsam.models.name_bank import name_bank
from medsam.models.text_encoder import PhraseEncoder, phrase_encoder

# cosine of a phrase with a name, and how much nearer that is than the next structure (33 phrases tried by hand)
_BELIEVED, _APART = 0.9, 0.02


@dataclass(frozen=True)
class UnderstoodName:
    """text: as typed. name: the structure, canonical. similarity: 1.0 for a name of the table, of a phrase the cosine
    with the name that it was read as."""

    text: str
    name: str
    similarity: float = 1.0

    @property
    def note(self) -> str:
        """What should be said of the reading; "" where the table has the name."""
        if self.similarity == 1.0:
            return ""
        return f"{self.text!r} is no name we know; read as {english(self.name)} (similarity {self.similarity:.2f})."


def understand(
    text: str,
    known: tuple[str, ...] | None = None,
    encoder: Callable[[], PhraseEncoder] = phrase_encoder,
) -> UnderstoodName:
    """The structure that a name means. known: those that may be proposed instead; default every one with a name.

    encoder: called only for an English phrase that is in no table, and near to none by its letters.
    Raises PromptError with the nearest names and a question, for a name without a letter or digit too.
    """
    if not any(sign.isalnum() for sign in text):
        raise PromptError("A name is needed: text without a letter or digit names no structure.", parameter="text")
    if name := named(text):
        return UnderstoodName(text, name)
    spelt = nearest(text, known)
    if not _may_be_english(text) or nearest(text, None, 1, 0.8):
        raise _question(text, spelt, known)
    try:
        found = name_bank().nearest(encoder().encode([text])[0])
    except AssetError as error:
        raise _question(text, spelt, known, f" Phrases are read by MiniLM, which is not here. {error}") from error
    (name, cosine), (_, next_cosine), *_ = found
    # a phrase's likeness says too little of its side
    if cosine >= _BELIEVED and cosine - next_cosine >= _APART and sides_agree(text, name):
        return UnderstoodName(text, name, round(cosine, 4))
    wanted = nameable() if known is None else known
    near = [name for name, similarity in found if similarity >= 0.5 and name in wanted]
    raise _question(text, tuple(dict.fromkeys((*near, *spelt)))[:3], known)


def _may_be_english(text: str) -> bool:
    return text.isascii() and any(sign.isalpha() for sign in text)


def _question(text: str, near: tuple[str, ...], known: tuple[str, ...] | None, why: str = "") -> PromptError:
    if near:
        meant = f"Did you mean {' or '.join(repr(english(name)) for name in near)}?"
    elif known:
        meant = f"Which of these is meant: {', '.join(english(name) for name in known)}?"
    else:
        meant = "Which structure is meant?"
    return PromptError(f"No structure is known by the name {text!r}. {meant}{why}", parameter="text")
