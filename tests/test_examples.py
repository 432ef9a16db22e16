"""The examples in the docstrings give what they say."""

import doctest
from importlib import import_module

import pytest
from test_layers import FILES

# Only modules with an example are imported: to import all of them would take seconds.
SHOWN = [name for name, file in FILES.items() if ">>> " in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", SHOWN)
def test_the_examples_of_a_module_give_what_they_say(name, capsys):
    failed, tried = doctest.testmod(import_module(f"truefit.{name}"))
    assert tried and not failed, capsys.readouterr().out
