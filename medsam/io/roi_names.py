"""Names of structures as an RTSTRUCT can hold them: unique, of 64 characters, or of 16 for planning systems.

DICOM takes 64 characters (VR LO). Planning systems take fewer, often 16, which is why AAPM TG-263 allows no more; they
refuse or cut what is longer, so that two names may become one. Shortened names follow TG-263: the structure first,
words run together, the side last ("GluteusMaximus_L"); and they are its own where it has one.

Source: AAPM Task Group 263, "Standardizing Nomenclatures in Radiation Oncology" (2018).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from medsam.io.structure_names import one_line
from medsam.labels import canonical_name, has_words

_LONGEST, _TPS = 64, 16
# TG-263's own, by canonical name without its side, of those that are too long as they are
_TG_263 = {
    "adrenal_gland": "Glnd_Adrenal",
    "submandibular_gland": "Glnd_Submand",
    "lacrimal_gland": "Glnd_Lacrimal",
    "femoral_head": "Femur_Head",
    "heart_atrium": "Atrium",
    "heart_ventricle": "Ventricle",
    "inferior_vena_cava": "V_Venacava_I",
    "superior_vena_cava": "V_Venacava_S",
    "lung_upper_lobe_left": "Lung_LUL",
    "lung_lower_lobe_left": "Lung_LLL",
    "lung_upper_lobe_right": "Lung_RUL",
    "lung_middle_lobe_right": "Lung_RML",
    "lung_lower_lobe_right": "Lung_RLL",
}
_NUMBERED = re.compile(r"\d")
_SIDES = {"left": "_L", "right": "_R"}
_SHORT = {
    "artery": "A",
    "vein": "V",
    "gland": "Glnd",
    "muscle": "Musc",
    "inferior": "Inf",
    "superior": "Sup",
    "anterior": "Ant",
    "posterior": "Post",
    "and": "",
    "of": "",
    "the": "",
}


def roi_names(names: Sequence[str], tps: bool = False) -> list[str]:
    """For each structure the name of its region, all of them different but for case.

    tps: of at most 16 characters. Names that fit are kept as they are.
    """
    longest = _TPS if tps else _LONGEST
    chosen: list[str] = []
    taken = {name.casefold() for name in map(one_line, names) if name and len(name) <= longest}
    used: set[str] = set()
    for number, name in enumerate(map(one_line, names), start=1):
        short = name or f"ROI_{number}"
        if len(short) > longest:
            short = _shortened(short) if tps and has_words(short) else short[:longest].rstrip()
        elif name and name.casefold() not in used:
            # its own, whatever another is shortened to
            taken.discard(name.casefold())
        chosen.append(_unlike(short, used | taken, longest))
        used.add(chosen[-1].casefold())
    return chosen


def _unlike(name: str, others: set[str], longest: int) -> str:
    """`name`, or with the first number at its end that makes it another than all of `others`."""
    found, number = name, 1
    # which side it is on stays at the end
    side = name[-2:] if name.endswith(("_L", "_R")) else ""
    stem = name.removesuffix(side)
    while found.casefold() in others:
        number += 1
        end = f"_{number}{side}"
        found = stem[: longest - len(end)] + end
    return found


def _shortened(name: str) -> str:
    """A name of at most 16 characters that can still be read."""
    plain = canonical_name(name)
    *words, last = plain.split("_")
    side = _SIDES.get(last, "") if words else ""
    if plain in _TG_263:
        return _TG_263[plain]
    if not side:
        words.append(last)
    elif known := _TG_263.get("_".join(words)):
        return known + side
    # GTV stays GTV
    upper = {word.lower(): word for word in re.findall(r"\w+", name) if word.isupper()}
    parts = [upper.get(word) or _SHORT.get(word, word[:1].upper() + word[1:]) for word in words]
    return "".join(_squeezed(parts, _TPS - len(side))) + side


def _squeezed(words: list[str], room: int) -> list[str]:
    """Words without as many letters as it takes to have no more than `room`.

    The longest lose their vowels first, the last one of those, then their ends. Those with numbers, which tell teeth
    and ribs apart, are spared as long as there are others.
    """
    words = list(words)
    while sum(map(len, words)) > room:
        at = max(range(len(words)), key=lambda n: (bool(words[n]) and not _NUMBERED.search(words[n]), len(words[n]), n))
        vowels = [n for n, letter in enumerate(words[at]) if n > 0 and letter in "aeiouy"]
        gone = vowels[-1] if vowels else len(words[at]) - 1
        words[at] = words[at][:gone] + words[at][gone + 1 :]
    return words
