"""A project of the data engine in its folder.

PROJECT/store/        the store of a server: people, sessions, tasks, masks (`medsam.store`)
PROJECT/rounds/N/     what round N read and wrote: manifest, labels, fit, evaluations
PROJECT/embeddings/   of slices, for training; they stay good as long as the encoder does
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from medsam.annotation.settings import Settings
from medsam.data.manifest import Case
from medsam.data.manifest_json import case_of
from medsam.errors import InputError
from medsam.store.postgres import look
from medsam.store.project_records import Project, StoredModel, StoredScan
from medsam.store.readers import Reader
from medsam.store.store import Store


class AnnotationProject:
    """A project that is open. store: its own, which a server may run on at the same time.

    Made by `create` and `open`; ended by `close`, or at the end of a `with` block.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        structures: Sequence[str],
        settings: Settings,
        by: Reader | None = None,
        *,
        url: str | None = None,
        weights: str | None = None,
    ) -> Self:
        """A new project, in a folder that is empty or not there yet. url: see `Store.open`. weights: digest of those of
        the model that it begins with.

        Raises InputError where there is one (also in that database: `open` makes another site of it), for a folder that
        cannot be used, and for structures that will not do.
        """
        checked = [one.strip() for one in structures]
        if not checked or not all(checked) or len({one.casefold() for one in checked}) != len(checked):
            raise InputError("Name the `structures` to be drawn, each once.", parameter="structures")
        if url is not None and project_in(url) is not None:
            raise InputError("The `database` holds a project already.", parameter="database")
        store = Store.open(folder / "store", serving=False, url=url)
        if store.project() is not None:
            store.close()
            raise InputError(f"{folder.name} holds a project already.", parameter="project")
        store.set_project(name, checked, settings.to_dict(), by)
        store.put_model("started", settings.model, weights, by=by)
        return cls(folder, store)

    @classmethod
    def open(cls, folder: Path, url: str | None = None) -> Self:
        """The project in `folder`. url: see `Store.open`: a folder that is not there becomes another site's of the
        project in that database. Raises InputError where there is none."""
        if url is None and not (folder / "store").is_dir():
            raise InputError(f"{folder} holds no project: `medsam annotate init` makes one.", parameter="project")
        store = Store.open(folder / "store", serving=False, url=url)
        if store.project() is None:
            store.close()
            raise InputError(f"{folder} holds no project: `medsam annotate init` makes one.", parameter="project")
        return cls(folder, store)

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    @property
    def asked(self) -> Project:
        """What is asked for, as it is now."""
        project = self.store.project()
        if project is None:
            raise InputError("This store holds no project.", parameter="project")
        return project

    @property
    def settings(self) -> Settings:
        """As they are now."""
        return Settings.from_dict(self.asked.settings)

    def change(self, settings: Settings, by: Reader | None = None) -> None:
        """Settings of another kind from now on; those of before stay in the store.

        Raises InputError for another axis once there is a mask or a choice of slices: they are counted along it.
        """
        project = self.asked
        if settings.axis != self.settings.axis and (
            self.store.last_annotation() or any(task.slices is not None for task in self.store.tasks())
        ):
            raise InputError("Slices are counted along the `axis` that there is: it stays.", parameter="axis")
        self.store.set_project(project.name, project.structures, settings.to_dict(), by)

    @property
    def labels(self) -> dict[str, int]:
        """Structure -> its value in label maps."""
        return {name: number for number, name in enumerate(self.asked.structures, start=1)}

    def case(self, scan: StoredScan) -> Case:
        """A scan as the entry of a manifest that it came from; its side is its split."""
        return case_of({**scan.document, "split": scan.side}, self.folder, self.asked.name, f"scan {scan.name}")

    def model(self) -> tuple[str, StoredModel]:
        """What answers now: a known name or the path of a checkpoint, and since when and why.

        Raises InputError as `file_of`.
        """
        stored = self.store.model()
        if stored is None:
            raise InputError("This project has no model.", parameter="project")
        return self.file_of(stored), stored

    def file_of(self, model: StoredModel) -> str:
        """A known name, or the path of a checkpoint. Raises InputError where it was made at another site."""
        path = self.folder / model.path
        if self.store.site and Path(model.path).parts[:1] == ("rounds",) and not path.is_file():
            raise InputError(
                f"The model {model.path} was made at another site: copy it to {self.folder.name}.", parameter="project"
            )
        return str(path) if path.is_file() else model.path


def project_in(url: str) -> Project | None:
    """The project of a database of PostgreSQL (`Store.open`), of which nothing is changed; None where there is none.

    Raises InputError for one that cannot be used.
    """
    if look(url) is None:
        return None
    # whoever looks is no site
    with TemporaryDirectory() as folder, Store.open(Path(folder) / "store", serving=False, url=url) as store:
        return store.project()
