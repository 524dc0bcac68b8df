"""What is trained: a model of sentence-transformers, made from a pretrained one.

A model that was trained as one of its kind is taken whole, with its heads, towers, prompts and
lengths; of any other model the transformer is taken, and gets the modules that are missing. What is
trained here is saved as sentence-transformers saves it.
"""

from __future__ import annotations

from limbeck.training.students.adapter import AdapterStudent
from limbeck.training.students.colbert import ColBERTStudent
from limbeck.training.students.cross_encoder import CrossEncoderStudent
from limbeck.training.students.dense import DenseStudent
from limbeck.training.students.splade import SpladeStudent
from limbeck.training.students.student import Student

__all__ = [
    "STUDENTS",
    "AdapterStudent",
    "ColBERTStudent",
    "CrossEncoderStudent",
    "DenseStudent",
    "SpladeStudent",
    "Student",
]

STUDENTS: dict[str, type[Student]] = {
    kind.name: kind
    for kind in (DenseStudent, AdapterStudent, ColBERTStudent, SpladeStudent, CrossEncoderStudent)
}
