import ast
import importlib
import subprocess
import sys
from pathlib import Path

import medsam


def test_all_is_what_can_be_had():
    assert sorted(medsam.__all__) == medsam.__all__ == sorted(medsam._HOMES)
    for name in medsam.__all__:
        public = getattr(medsam, name)
        assert public is getattr(importlib.import_module(medsam._HOMES[name]), name)
        assert public.__doc__


def test_help_lists_every_public_name_with_its_own_words():
    import pydoc

    assert set(medsam.__all__) <= set(dir(medsam))
    shown = pydoc.plain(pydoc.render_doc(medsam))
    for name in medsam.__all__:
        assert f" {name}(" in shown, name
        assert getattr(medsam, name).__doc__.splitlines()[0].strip() in shown


def test_type_checkers_are_told_the_same_names():
    stub = ast.parse((Path(medsam.__file__).parent / "__init__.pyi").read_text())
    told = {alias.asname: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == {**medsam._HOMES, "__version__": "medsam._version"}
    (listed,) = (ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign))
    assert listed == medsam.__all__


def test_importing_the_package_is_light():
    code = "import sys, medsam; assert not {'torch', 'monai', 'numpy', 'pydicom'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
