"""The test cases of the CoNLL reference scorer, and the same as exact fractions."""

from __future__ import annotations

import ast
import json
import operator
import re
from fractions import Fraction
from pathlib import Path

import pytest

from m3dllm.score.chain import Partition, b3, ceaf_e, ceaf_m, muc
from m3dllm.types import PRF

METRICS = {"muc": muc, "b_cubed": b3, "bcub": b3, "ceaf_m": ceaf_m, "ceafm": ceaf_m, "ceaf_e": ceaf_e, "ceafe": ceaf_e}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def read_conll(path: Path) -> dict[str, Partition]:
    """The chains of each document of a CoNLL file; a mention that appears twice belongs to the chain seen first."""
    documents: dict[str, Partition] = {}
    found: dict[str, set[tuple[int, int]]] = {}
    open_at: dict[str, list[int]] = {}
    token = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#begin"):
            name, found, open_at, token = line, {}, {}, 0
        elif line.startswith("#end"):
            seen: set[tuple[int, int]] = set()
            chains = []
            for spans in found.values():
                chains.append(frozenset(spans - seen))
                seen |= spans
            documents[name] = tuple(filter(None, chains))
        elif line.strip():
            for opens, chain, closes in re.findall(r"(\(?)(\w+)(\)?)", line.split()[-1]):
                if opens:
                    open_at.setdefault(chain, []).append(token)
                    found.setdefault(chain, set())
                if closes:
                    found[chain].add((open_at[chain].pop(), token + 1))
            token += 1
    return documents


def value(expression: str | float) -> Fraction:
    """An arithmetic expression as an exact fraction."""

    def walk(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](walk(node.left), walk(node.right))
        return Fraction(str(ast.literal_eval(node)))

    return walk(ast.parse(str(expression), mode="eval").body)


def scored(metric: str, gold: Path, pred: Path) -> tuple[float, float, float]:
    """Recall, precision, F1 as the reference prints them: 0 over nothing."""
    golds, preds = read_conll(gold), read_conll(pred)
    assert golds.keys() == preds.keys()
    counts = PRF.sum(METRICS[metric](golds[name], preds[name]) for name in golds)
    return counts.recall or 0.0, counts.precision or 0.0, counts.f1 or 0.0


def test_every_exact_case_is_reproduced(shared_data):
    folder = shared_data / "scorers/scorch/tests/fixtures/conll"
    checked = 0
    for name, case in json.loads((folder / "conll.json").read_text()).items():
        for metric, expected in case["expected_metrics"].items():
            if metric == "blanc":
                continue
            found = scored(metric, folder / case["key_file"], folder / case["response_file"])
            wanted = tuple(float(value(number)) for number in expected)
            assert found == pytest.approx(wanted, abs=1e-9), (name, metric)
            checked += 1
    assert checked == 64


def test_every_case_of_the_reference_scorer_is_reproduced(shared_data):
    # Many of its values are cut to five digits.
    folder = shared_data / "scorers/conll/test"
    checked = 0
    for case in json.loads((folder / "expected.json").read_text()):
        for metric, expected in case["expected_metrics"].items():
            if metric == "blanc":
                continue
            found = scored(metric, folder / case["key_file"], folder / case["response_file"])
            assert found == pytest.approx(expected, abs=1e-5), (case["id"], metric)
            checked += 1
    assert checked == 64


def test_the_multiple_document_example_is_read_as_several_documents(shared_data):
    documents = read_conll(shared_data / "scorers/conll/test/DataFiles/TC-B.key")
    assert [len(chains) for chains in documents.values()] == [2] * len(documents)
