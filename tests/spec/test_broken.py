"""Broken specs: each refused in under a second, with the place and the mend, nothing loaded."""

# ruff: noqa: E501 - specs stand as users write them

from __future__ import annotations

import os
import time

import pytest

from limbeck.errors import CheckError
from limbeck.spec.spec import Spec

# name: (YAML, line of the finding, what must stand in the message, all of these)
BROKEN: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "empty": ("", 1, ("the file is empty", "fill it")),
    "not a mapping": ("- bm25\n", 1, ("must be a mapping",)),
    "not YAML": ("limbeck: 1\npipelines: {a: [bm25\n", 3, ("must be YAML", "mend the line")),
    "no version": ("pipelines: {a: [top]}\n", 1, ("must say `limbeck: 1`", "first line")),
    "another version": ("limbeck: 7\npipelines: {a: [x]}\n", 1, ("got 7",)),
    "unknown section": (
        "limbeck: 1\nindexs: {}\npipelines: {a: [x]}\n",
        2,
        ("no section 'indexs'", "did you mean indexes?"),
    ),
    "no pipelines": ("limbeck: 1\nindexes: {bm25: {bm25: {}}}\n", 1, ("must have pipelines",)),
    "a key twice": (
        "limbeck: 1\npipelines:\n  a: [x]\n  a: [y]\n",
        4,
        ("'a' stands twice", "take one out"),
    ),
    "a tag that runs code": (
        'limbeck: 1\npipelines:\n  a: !!python/object/apply:os.system ["true"]\n',
        3,
        ("no tags", "take it out"),
    ),
    "a tag on a name": ("limbeck: 1\npipelines: {a: !!python/name:os.system }\n", 2, ("no tags",)),
    "a standard tag": ("limbeck: 1\npipelines: {a: !!str bm25}\n", 2, ("no tags", "take it out")),
    "a tag that does not fit": ("limbeck: 1\npipelines: {a: !!int bm25}\n", 2, ("no tags",)),
    "a date that is none": ("limbeck: 1\npipelines: {a: 2024-13-01}\n", 2, ("'2024-13-01' is no",)),
    "a number that is none": ("limbeck: 1\npipelines: {a: 0b_}\n", 2, ("'0b_' is no",)),
    "a sign of YAML": ("limbeck: 1\npipelines: {a: =}\n", 2, ("'=' is no",)),
    "a path that no system takes": (
        'limbeck: 1\ncorpora: {c: {path: "a\\0b"}}\npipelines: {a: [x]}\n',
        2,
        ("corpora.c.path: must be a path", "null"),
    ),
    "a path that is too long": (
        f"limbeck: 1\ncorpora: {{c: {{path: {'a' * 5000}}}}}\npipelines: {{a: [x]}}\n",
        2,
        ("corpora.c.path: must be a path", "too long"),
    ),
    "labels that YAML takes for booleans": (
        "limbeck: 1\nllms: {x: {backend: scripted, model: x, replies: [a]}}\npipelines: {a: [{pointwise: {llm: x, labels: [no, yes]}}]}\n",
        3,
        ("pipelines.a.labels: must be a valid string", "write texts in quotes"),
    ),
    "an own tag": ("limbeck: 1\npipelines: {a: !exec ls}\n", 2, ("no tags", "take it out")),
    "an alias": (
        "limbeck: 1\nindexes: &i {bm25: {bm25: {}}}\npipelines: {a: *i}\n",
        2,
        ("no anchors", "write the value out"),
    ),
    "a key that is a list": ("limbeck: 1\npipelines: {[a]: x}\n", 2, ("must be a name",)),
    "a bad name": ("limbeck: 1\npipelines: {'a b': [top]}\n", 2, ("cannot be a name", "letters")),
    "an unknown node": (
        "limbeck: 1\npipelines:\n  a:\n    - bn25\n",
        4,
        ("pipelines.a", "'bn25' is no index, pipeline or node", "did you mean"),
    ),
    "an unknown parameter": (
        "limbeck: 1\nindexes: {i: {bm25: {K1: 2}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.K1", "no parameter 'K1'", "did you mean k1"),
    ),
    "a word for a number": (
        "limbeck: 1\nindexes: {i: {bm25: {k1: high}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.k1", "must be a valid number; got 'high'"),
    ),
    "a fraction for a whole number": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\npipelines: {a: [{i: {k: 2.5}}]}\n",
        3,
        ("pipelines.a.k", "valid integer", "got 2.5"),
    ),
    "a number out of range": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\npipelines: {a: [{i: {k: 0}}]}\n",
        3,
        ("pipelines.a", "k must be 1 or more; got 0"),
    ),
    "a word that is no choice": (
        "limbeck: 1\nindexes: {i: {bm25: {formula: tfidf}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.formula", "'lucene'", "got 'tfidf'"),
    ),
    "a missing parameter": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\npipelines: {a: [i, hyde, i]}\n",
        3,
        ("pipelines.a[1]", "hyde must have `llm`", "add llm:"),
    ),
    "an unknown LLM": (
        "limbeck: 1\nllms: {qwen: {backend: scripted, model: x}}\n"
        "indexes: {i: {bm25: {}}}\npipelines: {a: [{hyde: {llm: qwem}}, i]}\n",
        4,
        ("pipelines.a[0].llm", "name under llms; got 'qwem'", "did you mean qwen?"),
    ),
    "an LLM without a model": (
        "limbeck: 1\nllms: {qwen: {backend: vllm}}\npipelines: {a: [top]}\n",
        2,
        ("llms.qwen.model", "an LLM must have a model"),
    ),
    "an unknown back-end": (
        "limbeck: 1\nllms: {qwen: {backend: vlm, model: x}}\npipelines: {a: [top]}\n",
        2,
        ("llms.qwen.backend", "must be one of openai", "got 'vlm'", "did you mean vllm?"),
    ),
    "a key written out": (
        "limbeck: 1\nllms: {g: {backend: openai, model: x, api_key: sk-abc123456789}}\n"
        "pipelines: {a: [top]}\n",
        2,
        ("llms.g", "${env:"),
    ),
    "a path outside": (
        "limbeck: 1\ncorpora: {c: {path: ../../etc}}\npipelines: {a: [top]}\n",
        2,
        ("corpora.c.path", "must lie in the spec's folder", "move the spec"),
    ),
    "an absolute path": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\npipelines: {a: [{recorded: {path: /etc/passwd}}, i]}\n",
        3,
        ("pipelines.a[0].path", "must lie in the spec's folder"),
    ),
    "an encoder outside": (
        "limbeck: 1\nindexes: {i: {dense: {encoder: /models/e5}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.encoder", "a path in the spec's folder", "move the model"),
    ),
    "an encoder that can only be a path": (
        "limbeck: 1\nindexes: {i: {dense: {encoder: ./here/e5}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.encoder", "named by a path must be there", "here/e5 does not exist"),
    ),
    "a name that no system takes": (
        'limbeck: 1\nindexes: {i: {dense: {encoder: "a\\0b"}}}\npipelines: {a: [i]}\n',
        2,
        ("indexes.i.encoder", "must be a name or a path"),
    ),
    "an encoder that is not in a folder that is there": (
        "limbeck: 1\nindexes: {i: {dense: {encoder: here/e5}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.encoder", "named by a path must be there", "here/e5 does not exist"),
    ),
    "a number that YAML takes for text": (
        "limbeck: 1\nindexes: {i: {bm25: {k1: 12e-1}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.k1", "got '12e-1'", "write 12.0e-1"),
    ),
    "a corpus that is only a path": (
        "limbeck: 1\ncorpora: {c: docs}\npipelines: {a: [top]}\n",
        2,
        ("corpora.c", "a corpus must be a mapping; got 'docs'", "write {path: docs}"),
    ),
    "a model file outside": (
        "limbeck: 1\nllms: {l: {backend: llamacpp, model: ../x.gguf}}\npipelines: {a: [top]}\n",
        2,
        ("llms.l.model", "a path in the spec's folder", "got '../x.gguf'"),
    ),
    "a corpus that is not there": (
        "limbeck: 1\ncorpora: {c: {path: docs}}\npipelines: {a: [top]}\n",
        2,
        ("corpora.c.path", "does not exist"),
    ),
    "an unknown corpus": (
        "limbeck: 1\nindexes: {i: {bm25: {corpus: manual}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.corpus", "name under corpora", "there is none"),
    ),
    "an index that is no retriever": (
        "limbeck: 1\nindexes: {i: {top: {k: 3}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i", "must be a retriever"),
    ),
    "an index with a node's name": (
        "limbeck: 1\nindexes: {hyde: {bm25: {}}}\npipelines: {a: [hyde]}\n",
        2,
        ("'hyde' is the name of a node already", "another name"),
    ),
    "no steps": ("limbeck: 1\npipelines: {a: []}\n", 2, ("must have steps", "add one")),
    "a step with two names": (
        "limbeck: 1\npipelines: {a: [{top: {k: 1}, bm25: {}}]}\n",
        2,
        ("a step is a name, or {name: parameters}",),
    ),
    "a circle": (
        "limbeck: 1\npipelines:\n  a: [b, {top: {k: 1}}]\n  b: [a]\n",
        4,
        ("must not contain itself", "a -> b -> a"),
    ),
    "an ambiguous name": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\n"
        "pipelines:\n  i: [i, {top: {k: 3}}]\n  a: [i, {top: {k: 1}}]\n",
        5,
        ("'i' is ambiguous", "rename one"),
    ),
    "branches that are no list": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\npipelines: {a: [{fuse: {of: i}}]}\n",
        3,
        ("pipelines.a.of", "must be a list"),
    ),
    "weights that do not fit": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\n"
        "pipelines: {a: [{fuse: {of: [i, i], weights: [1.0]}}]}\n",
        3,
        ("pipelines.a", "weights must be 2 numbers"),
    ),
    "a template without its place": (
        "limbeck: 1\nllms: {s: {backend: scripted, model: x, replies: [a]}}\nindexes: {i: {bm25: {}}}\n"
        "pipelines: {a: [{hyde: {llm: s, template: 'Write.'}}, i]}\n",
        4,
        ("pipelines.a[0]", "must have the places {query}"),
    ),
    "an unknown task": (
        "limbeck: 1\nllms: {s: {backend: scripted, model: x, replies: [a]}}\nindexes: {i: {bm25: {}}}\n"
        "pipelines: {a: [{hyde: {llm: s, task: sci}}, i]}\n",
        4,
        ("task of hyde must be one of", "scifact"),
    ),
    "a cross-encoder outside": (
        "limbeck: 1\npipelines: {a: [{bm25: {}}, {cross-encoder: {model: /models/ce}}]}\n",
        2,
        ("pipelines.a[1].model", "a path in the spec's folder", "move the model"),
    ),
    "a seq2seq model outside": (
        "limbeck: 1\nindexes: {i: {bm25: {expansion: {doct5query: {model: ../t5}}}}}\n"
        "pipelines: {a: [i]}\n",
        2,
        ("indexes.i.expansion.model", "a path in the spec's folder", "move the model"),
    ),
    "an expansion that is no expander": (
        "limbeck: 1\nindexes: {i: {bm25: {expansion: {top: {k: 3}}}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i.expansion", "must be a node of the family Expander; got a top"),
    ),
    "a filter that scores nothing": (
        "limbeck: 1\nindexes:\n"
        "  i: {bm25: {expansion: {doc2query--: {of: {recorded-queries: {path: x}}, by: pass}}}}\n"
        "pipelines: {a: [i]}\n",
        3,
        ("indexes.i.expansion.by", "got a pass"),
    ),
    "lengths without an expansion": (
        "limbeck: 1\nindexes: {i: {bm25: {lengths: original}}}\npipelines: {a: [i]}\n",
        2,
        ("indexes.i", "is for an index with an expansion", "leave it out"),
    ),
    "an index inside itself": (
        "limbeck: 1\nindexes:\n"
        "  i: {bm25: {expansion: j}}\n  j: {bm25: {expansion: i}}\npipelines: {a: [i]}\n",
        4,
        (
            "indexes.j.expansion",
            "an index must not contain itself: i -> j -> i",
            "break the circle",
        ),
    ),
    "an index of a refused one": (
        "limbeck: 1\nindexes:\n  i: {bm25: {expansion: j}}\n  j: {bm25: {k1: -1.0}}\n"
        "pipelines: {a: [{top: {k: 1}}]}\n",
        3,
        ("indexes.i.expansion", "index 'j' is refused itself"),
    ),
    "a cut-off without a rule": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\npipelines: {a: [i, cutoff]}\n",
        3,
        ("pipelines.a[1]", "cutoff must have a rule", "give least, share or drop"),
    ),
    "two rules of de-duplication": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\n"
        "pipelines: {a: [i, {dedup: {separator: '/', metadata: paper}}]}\n",
        3,
        ("pipelines.a[1]", "dedup must read ids or metadata", "leave one out"),
    ),
    "diversity without vectors": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\npipelines: {a: [i, {mmr: {index: i}}]}\n",
        3,
        ("pipelines.a[1]", "must be a node such as dense; got BM25"),
    ),
    # What the static check finds in a spec that can be read.
    "an expander in a pipeline": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\n"
        "pipelines:\n  a:\n    - i\n    - {recorded-queries: {path: x.jsonl}}\n",
        6,
        ("pipelines.a[1]", "it is no step of a pipeline", "give it to an index"),
    ),
    "queries of documents that are not there": (
        "limbeck: 1\nindexes: {i: {bm25: {expansion: {recorded-queries: {path: x.jsonl}}}}}\n"
        "pipelines: {a: [i]}\n",
        3,
        ("pipelines.a.expansion", "which is no file", "give its path"),
    ),
    "a share of scores that may be negative": (
        "limbeck: 1\nindexes: {d: {dense: {}}}\npipelines: {a: [d, {cutoff: {share: 0.5}}]}\n",
        3,
        ("pipelines.a[1]", "share needs scores that are never negative; cosine", "use drop"),
    ),
    "a cut-off for other scores": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\n"
        "pipelines: {a: [i, {cutoff: {least: 0.5, kind: cosine}}]}\n",
        3,
        ("pipelines.a[1]", "chosen for cosine scores; the run has bm25", "choose it anew"),
    ),
    "diversity by another corpus": (
        "limbeck: 1\ncorpora: {c: {path: one}, e: {path: two}}\n"
        "indexes: {i: {bm25: {corpus: c}}, d: {dense: {corpus: e}}}\n"
        "pipelines: {a: [i, {mmr: {index: d}}]}\n",
        4,
        ("pipelines.a[1]", "mmr reads a run over the corpus", "give it the index"),
    ),
    "a rewriter without its run": (
        "limbeck: 1\nllms: {s: {backend: scripted, model: x, replies: [a]}}\n"
        "indexes: {i: {bm25: {}}}\npipelines:\n  a:\n    - {lamer: {llm: s}}\n    - i\n",
        6,
        ("pipelines.a[0]", "lamer reads a run", "put a retriever such as bm25 before it"),
    ),
    "a cut without a run": (
        "limbeck: 1\npipelines: {a: [{top: {k: 3}}]}\n",
        2,
        ("pipelines.a", "top reads a run"),
    ),
    "unscaled scores": (
        "limbeck: 1\nindexes: {i: {bm25: {}}, d: {dense: {}}}\n"
        "pipelines: {a: [{fuse: {of: [i, d], method: linear}}]}\n",
        3,
        ("no common scale (bm25, cosine)", "say normalise: minmax"),
    ),
    "a branch without a run": (
        "limbeck: 1\nllms: {s: {backend: scripted, model: x, replies: [a]}}\n"
        "indexes: {i: {bm25: {}}}\npipelines: {a: [{fuse: {of: [i, {hyde: {llm: s}}]}}]}\n",
        4,
        ("pipelines.a.of[1]", "a branch must end in a run", "end it with a retriever"),
    ),
    "a prompt that cannot fit": (
        "limbeck: 1\nllms: {s: {backend: scripted, model: x, replies: [a], context_length: 512}}\n"
        "indexes: {i: {bm25: {}}}\npipelines: {a: [i, {lamer: {llm: s}}, i]}\n",
        4,
        ("pipelines.a[1]", "its answer 128", "holds 512", "take a larger context"),
    ),
    "a key that is not set": (
        'limbeck: 1\nllms: {g: {backend: openai, model: x, api_key: "${env:LIMBECK_NO_KEY}"}}\n'
        "indexes: {i: {bm25: {}}}\npipelines: {a: [{hyde: {llm: g}}, i]}\n",
        2,
        ("llms.g", "LIMBECK_NO_KEY", "export"),
    ),
    "a strict cassette that is not there": (
        "limbeck: 1\nllms: {g: {backend: openai, model: x, cassette: none, cassette_mode: strict}}\n"
        "indexes: {i: {bm25: {}}}\npipelines: {a: [{hyde: {llm: g}}, i]}\n",
        2,
        ("llms.g", "none.jsonl", "does not exist", "record it"),
    ),
    "a recording that is not there": (
        "limbeck: 1\nindexes: {i: {bm25: {}}}\npipelines: {a: [{recorded: {path: x.jsonl}}, i]}\n",
        3,
        ("pipelines.a[0]", "which is no file"),
    ),
    "an index that is no artifact": (
        "limbeck: 1\nindexes: {i: {bm25: {path: here}}}\npipelines: {a: [i]}\n",
        3,
        ("pipelines.a", "must be an artifact folder"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_spec_is_refused(name, tmp_path):
    text, line, said = BROKEN[name]
    for folder in ("here", "one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one" / "a.txt").write_text("one")
    (tmp_path / "two" / "a.txt").write_text("two")
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    started = time.perf_counter()
    with pytest.raises(CheckError) as raised:
        Spec.load(path).check()
    assert time.perf_counter() - started < 1.0
    messages = [str(problem) for problem in raised.value.problems]
    found = [m for m in messages if all(part in m for part in said)]
    assert found, messages
    assert found[0].startswith(f"spec.yaml:{line}"), found[0]


def test_there_are_enough_of_them():
    assert len(BROKEN) >= 30


def test_all_findings_are_told_at_once():
    with pytest.raises(CheckError) as raised:
        Spec.loads(
            "limbeck: 1\nextra: 1\nindexes: {i: {bm25: {k1: x, bb: 1}}}\npipelines: {a: [nope], b: []}\n"
        )
    assert len(raised.value.problems) >= 5


def test_a_refused_step_does_not_hide_what_is_wrong_with_the_others():
    """A misspelt node was told after the step before it, and each branch after its neighbour."""
    text = """limbeck: 1
indexes:
  bm25: {bm25: {}}
  i: {dense: {encoder: ./nowhere/e5, k: many}}
pipelines:
  a: [{bm25: {kk: 10}}, {maxsimm: {depth: 5}}, {top: {k: 0}}]
  b: [{fuse: {of: [bm26, [bm25, tpo]], weights: no, method: rrf}}]
"""
    with pytest.raises(CheckError) as raised:
        Spec.loads(text)
    places = [problem.place.removeprefix("spec:") for problem in raised.value.problems]
    assert places == [
        "4: indexes.i.k",
        "4: indexes.i.encoder",
        "6: pipelines.a[0].kk",
        "6: pipelines.a[1]",
        "6: pipelines.a[2]",
        "7: pipelines.b.of[0]",
        "7: pipelines.b.of[1][1]",
        "7: pipelines.b.weights",
    ]


def test_a_spec_that_would_run_code_runs_none(tmp_path):
    marker = tmp_path / "ran"
    for text in (
        f"limbeck: 1\npipelines: {{a: !!python/object/apply:os.mkdir ['{marker}']}}\n",
        f"limbeck: 1\npipelines: {{a: [\"__import__('os').mkdir('{marker}')\"]}}\n",
        f"limbeck: 1\nunsafe: true\npipelines: {{a: [{{'os:mkdir': {{path: '{marker}'}}}}]}}\n",
    ):
        with pytest.raises(CheckError):
            Spec.loads(text, folder=tmp_path)
    assert not marker.exists()


def test_a_link_out_of_the_folder_is_outside(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jsonl").write_text("{}")
    inside = tmp_path / "inside"
    inside.mkdir()
    os.symlink(outside, inside / "link")
    with pytest.raises(CheckError, match="must lie in the spec's folder"):
        Spec.loads(
            "limbeck: 1\nindexes: {i: {bm25: {}}}\n"
            "pipelines: {a: [{recorded: {path: link/secret.jsonl}}, i]}\n",
            folder=inside,
        )


def test_a_deep_nest_is_refused_not_a_crash():
    with pytest.raises(CheckError):
        Spec.loads("limbeck: 1\npipelines: {a: " + "[" * 5000 + "]" * 5000 + "}\n")
