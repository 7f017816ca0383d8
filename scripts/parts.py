"""The parts of an installation: what is installed because of medsam, under which licence, as a list and as an SBOM.

    .venv/bin/python scripts/parts.py                      # a line for each part: name, version, licence
    .venv/bin/python scripts/parts.py --extra serve        # with what an extra brings
    .venv/bin/python scripts/parts.py --sbom FILE.json     # CycloneDX 1.5

Read from the metadata of what is installed; nothing is fetched. A licence is what the metadata says, shortened to its
SPDX expression where it has one. Exit status 1 where a part's licence is not allowed in a default install: the GPL and
its kin without an exception for programs that use it, or none at all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PACKAGE = "medsam-framework"
# the LGPL lets programs use a library; these exceptions do so, too
_COPYLEFT = re.compile(
    r"\bA?GPL|(?<!Lesser )General Public License|Affero|SSPL|Server Side Public|NonCommercial|-NC-", re.I
)
_EXCEPTIONS = re.compile(
    r"GPL[-\w.+ ]*WITH [-\w.]+exception[-\w.]*|\bLGPL[-\w.+]*|Lesser General Public License[^;]*", re.I
)
_LICENCE_FILE = re.compile(r"(?i)(^|/)(licen[cs]e|copying|notice)[^/]*$")


@dataclass(frozen=True)
class Part:
    """An installed distribution. licence: "" where its metadata has none."""

    name: str
    version: str
    licence: str
    home: str

    @property
    def allowed(self) -> bool:
        return is_allowed(self.licence)


def is_allowed(licence: str) -> bool:
    """Whether a default install may hold a part under this licence. Of "A OR B" one is enough."""
    if not licence.strip():
        return False
    return any(not _COPYLEFT.search(_EXCEPTIONS.sub("", choice)) for choice in re.split(r"\bOR\b", licence))


def licence_of(found: Any) -> str:
    """An SPDX expression, else the classifiers, else the first line of the field."""
    if expression := found.get("License-Expression"):
        return str(expression)
    classifiers = [one.rsplit(" :: ", 1)[-1] for one in found.get_all("Classifier") or () if one.startswith("License")]
    said = [one for one in classifiers if one != "OSI Approved"]
    if said:
        return "; ".join(said)
    lines = [line.strip() for line in (found.get("License") or "").splitlines() if line.strip()]
    return lines[0][:100] if lines else ""


def _home_of(found: Any) -> str:
    links = dict(one.split(", ", 1) for one in found.get_all("Project-URL") or () if ", " in one)
    by_name = {name.lower(): link for name, link in links.items()}
    names = ("source", "source code", "repository", "homepage", "github")
    return str(found.get("Home-page") or next((by_name[name] for name in names if name in by_name), ""))


def part_of(found: metadata.Distribution) -> Part:
    return Part(found.name, found.version, licence_of(found.metadata), _home_of(found.metadata))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str = PACKAGE, extras: Iterable[str] = ()) -> list[Part]:
    """A distribution and everything that is installed because of it, by name. What a marker leaves out is left out."""
    found: dict[str, Part] = {}
    todo = [(name, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        this, wanted = todo.pop()
        if (normal(this), wanted) in seen:
            continue
        seen.add((normal(this), wanted))
        distribution = metadata.distribution(this)
        found[normal(this)] = part_of(distribution)
        todo += [(one.name, frozenset(one.extras)) for one in _requirements(distribution, wanted)]
    return [found[key] for key in sorted(found)]


def _requirements(distribution: metadata.Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in distribution.requires or ():
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield one


def sbom(parts: Iterable[Part], name: str = PACKAGE) -> dict[str, Any]:
    """CycloneDX 1.5, the same for the same parts: no time of day, and a number made of its content."""
    parts = list(parts)
    own = next(part for part in parts if normal(part.name) == name)
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{normal(part.name)}@{part.version}",
            "name": part.name,
            "version": part.version,
            "purl": f"pkg:pypi/{normal(part.name)}@{part.version}",
            **({"licenses": [{"license": {"name": part.licence}}]} if part.licence else {}),
            **({"externalReferences": [{"type": "website", "url": part.home}]} if part.home.startswith("http") else {}),
        }
        for part in parts
        if part is not own
    ]
    seed = hashlib.sha256(json.dumps(components, sort_keys=True).encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=seed[:16], version=4)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"pkg:pypi/{name}@{own.version}",
                "name": own.name,
                "version": own.version,
                "licenses": [{"license": {"name": own.licence}}],
            }
        },
        "components": components,
    }


def debian() -> list[dict[str, Any]]:
    """Packages of the system beneath, as CycloneDX; their licences are files of theirs."""
    if shutil.which("dpkg-query") is None:
        return []
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture}\\n"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:deb/debian/{name}@{version}?arch={machine}",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/debian/{name}@{version}?arch={machine}",
            "licenses": [{"license": {"name": f"/usr/share/doc/{name}/copyright"}}],
        }
        for name, version, machine in sorted(line.split() for line in lines if line)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extra", action="append", default=[], help="with what this extra brings")
    parser.add_argument("--sbom", type=Path, help="write CycloneDX there")
    parser.add_argument("--licences", type=Path, help="write the texts of all licences there, one behind the other")
    parser.add_argument("--requirements", type=Path, help="write NAME==VERSION there, a line each, without medsam")
    parser.add_argument("--debian", action="store_true", help="with Debian's packages of this system, where it has any")
    arguments = parser.parse_args()
    parts = needed(extras=arguments.extra)
    for part in parts:
        print(f"{part.name} {part.version}: {part.licence or 'NO LICENCE STATED'}")
    if arguments.requirements is not None:
        arguments.requirements.parent.mkdir(exist_ok=True)
        # builds of torch have a tag that no list of weaknesses knows
        lines = [f"{part.name}=={part.version.split('+')[0]}\n" for part in parts if normal(part.name) != PACKAGE]
        arguments.requirements.write_text("".join(lines))
    if arguments.sbom is not None:
        document = sbom(parts)
        document["components"] += debian() if arguments.debian else []
        arguments.sbom.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.licences is not None:
        arguments.licences.write_text("".join(texts(parts)), encoding="utf-8")
    refused = [part for part in parts if not part.allowed]
    for part in refused:
        print(f"Not allowed in a default install: {part.name} ({part.licence or 'none stated'})", file=sys.stderr)
    return int(bool(refused))


def texts(parts: Iterable[Part]) -> Iterator[str]:
    """The licences' own words, part by part."""
    for part in parts:
        yield f"\n{'=' * 100}\n{part.name} {part.version}: {part.licence}\n{part.home}\n"
        found = metadata.distribution(part.name)
        for name in sorted(str(one) for one in found.files or () if _LICENCE_FILE.search(str(one))):
            file = Path(str(found.locate_file(name)))
            if file.is_file():
                yield f"\n--- {name}\n{file.read_text(encoding='utf-8', errors='replace')}\n"


if __name__ == "__main__":
    sys.exit(main())
