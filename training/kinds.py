"""``./archon train kinds``: which words of a question ask for a class, and which for a function.

From the same packages and pairs as the embedder, with the same ones held out: a logistic regression over the words of
doc comments, in which classes count as much as functions do in each language. Writes asked.json into the cache, or the
file that --out names; the one that search reads is apps/context/searching/asked.json. The same list gives the same
file; nothing is left to chance.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from apps.context.searching.asked import FORMAT, PLACES, words_placed
from training.corpus import pairs_learnt
from training.gathering import (
    GatheringFailed,
    arguments_add,
    evaluated_read,
    files_learnt,
    list_told,
    packages_refuse,
    pairs_folder,
    pairs_gather,
    tell,
)
from training.manifest import Package, packages_read
from training.pairs import Pair
from training.resembling import Evaluated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Ints = NDArray[np.int64]

Feature = tuple[str, str]

#: The first line of code that begins a definition, past decorators and what they are called with.
_PYTHON = re.compile(r"^\s*(?:async\s+def|def|(class))\b", re.MULTILINE)
#: In other languages the first line says it, past attributes and comments.
_BEFORE = ("#", "//", "/*", "*", "@")
_OTHER = re.compile(
    r"\s*(?:(?:pub(?:\([^)]*\))?|export|default|declare|abstract|public|private|protected|internal|static|final|sealed"
    r"|partial|data|unsafe|typedef|const|open|case)\s+)*(?:class|interface|struct|enum|trait|union|type)\s+\w"
)


@dataclass(frozen=True)
class KindsRecipe:
    #: Of one package, so that none speaks for all.
    questions_each: int = 3_000
    #: A language of which there are fewer says too little of its classes.
    min_language: int = 1_000
    #: A word in fewer questions is not learnt.
    min_questions: int = 200
    #: The words that say most are kept, and learnt anew without the others.
    words: int = 1_000
    steps: int = 300
    rate: float = 0.05
    #: How much large weights are held back.
    decay: float = 2e-6
    #: What is kept of each number.
    decimals: int = 2


class Question(NamedTuple):
    language: str
    text: str
    is_class: bool


class Learnt(NamedTuple):
    bias: float
    weights: dict[Feature, float]


def main(argv: list[str]) -> int:
    recipe = KindsRecipe()
    parser = argparse.ArgumentParser(prog="archon train kinds", description=__doc__)
    arguments_add(parser)
    parser.add_argument("--out", type=Path, help="the file (by default in the cache)")
    parser.add_argument("--words", type=int, default=recipe.words, help="the most words that are kept")
    parser.add_argument("--min-questions", type=int, default=recipe.min_questions, help="a word's")
    parser.add_argument("--min-language", type=int, default=recipe.min_language, help="a language's questions")
    options = parser.parse_args(argv)
    recipe = KindsRecipe(words=options.words, min_questions=options.min_questions, min_language=options.min_language)
    packages = packages_read(options.list)
    try:
        packages_refuse(packages)
        pairs_gather(packages, options.cache, processes=options.processes)
    except GatheringFailed as error:
        print(error, file=sys.stderr)
        return 1
    pairs = pairs_folder(options.cache)
    questions = questions_read(
        files_learnt(packages, pairs), evaluated=evaluated_read(packages, pairs), recipe=recipe, tell=tell
    )
    classes = sum(question.is_class for question in questions)
    if classes in (0, len(questions)):
        print(f"what {options.list} lists has no questions about both classes and functions", file=sys.stderr)
        return 1
    learnt = kinds_learn(questions, recipe, tell=tell)
    out = options.out or options.cache / "asked.json"
    made_of = {
        **list_told(options.list, packages),
        "questions": len(questions),
        "classes": classes,
        "recipe": asdict(recipe),
    }
    asked_write(learnt, out, made_of=made_of)
    tell(f"{len(learnt.weights)} words are in {out}")
    return 0


def questions_read(
    files: Iterable[tuple[Package, Iterable[Pair]]],
    *,
    evaluated: Evaluated,
    recipe: KindsRecipe,
    tell: Callable[[str], None],
) -> list[Question]:
    """The questions of languages that have enough of them."""
    used: Counter[int] = Counter()
    questions = []
    for package, pair in pairs_learnt(files, evaluated=evaluated, tell=tell):
        if used[package] < recipe.questions_each:
            used[package] += 1
            questions.append(Question(pair.language, pair.query, is_class(pair)))
    counts = Counter(question.language for question in questions)
    return [question for question in questions if counts[question.language] >= recipe.min_language]


def is_class(pair: Pair) -> bool:
    """Whether a pair is about a class, or what other languages have for one."""
    if pair.language == "python":
        found = _PYTHON.search(pair.text)
        return found is not None and found[1] is not None
    first = next((line for line in pair.text.split("\n") if line.strip() and not line.strip().startswith(_BEFORE)), "")
    return _OTHER.match(first) is not None


def kinds_learn(questions: Sequence[Question], recipe: KindsRecipe, *, tell: Callable[[str], None]) -> Learnt:
    """What each word says: with all that are frequent enough, then with the best of these alone."""
    placed = [set(words_placed(question.text)) for question in questions]
    counts = Counter(chain.from_iterable(placed))
    features = sorted(feature for feature, count in counts.items() if count >= recipe.min_questions)
    are_classes = np.array([question.is_class for question in questions], dtype=np.float64)
    counting = _counting(questions)
    weights, bias = _fit(placed, features, are_classes, counting, recipe)
    if len(features) > recipe.words:
        # What a word says, by how often it says so.
        effects = np.abs(weights) * np.sqrt([counts[feature] for feature in features])
        best = np.argsort(-effects, kind="stable")[: recipe.words]
        features = [features[number] for number in sorted(best.tolist())]
        weights, bias = _fit(placed, features, are_classes, counting, recipe)
    kept = {feature: round(float(weight), recipe.decimals) for feature, weight in zip(features, weights, strict=True)}
    learnt = Learnt(round(bias, recipe.decimals), {feature: weight for feature, weight in kept.items() if weight})
    right = np.array([odds_of(learnt, each) > 0 for each in placed]) == (are_classes == 1)
    told = (float(right[are_classes == 1].mean()), float(right[are_classes == 0].mean()))
    tell(f"{len(questions)} questions; of those about classes {told[0]:.3f} are told, of the others {told[1]:.3f}")
    return learnt


def odds_of(learnt: Learnt, placed: Iterable[Feature]) -> float:
    return learnt.bias + sum(learnt.weights.get(feature, 0.0) for feature in placed)


def asked_write(learnt: Learnt, path: Path, *, made_of: dict[str, Any]) -> None:
    """The file that search reads: a line a word, for people to look at."""
    words: dict[str, dict[str, float]] = {place: {} for place in PLACES}
    for (place, word), weight in sorted(learnt.weights.items()):
        words[place][word] = weight
    told = {"format": FORMAT, "made_of": made_of, "bias": learnt.bias, "words": words}
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.half")
    half.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    half.replace(path)


def _counting(questions: Sequence[Question]) -> Numbers:
    """What each question weighs, together 1: a language as much as it has, and in it classes as much as the rest."""
    groups = Counter((question.language, question.is_class) for question in questions)
    languages = Counter(question.language for question in questions)
    weights = [
        0.5 * languages[question.language] / groups[(question.language, question.is_class)] for question in questions
    ]
    return np.array(weights) / len(questions)


def _fit(
    placed: Sequence[set[Feature]],
    features: Sequence[Feature],
    are_classes: Numbers,
    counting: Numbers,
    recipe: KindsRecipe,
) -> tuple[Numbers, float]:
    """Logistic regression by Adam, on all questions at once."""
    number_of = {feature: number for number, feature in enumerate(features)}
    rows_of = [sorted(number_of[each] for each in found if each in number_of) for found in placed]
    rows: Ints = np.repeat(np.arange(len(rows_of)), [len(each) for each in rows_of])
    columns: Ints = np.fromiter(chain.from_iterable(rows_of), dtype=np.int64)
    # The last one is the bias, which nothing holds back.
    weights = np.zeros(len(features) + 1)
    decay = np.append(np.full(len(features), recipe.decay), 0.0)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, recipe.steps + 1):
        odds = np.bincount(rows, weights[columns], len(placed)) + weights[-1]
        wrong = (1 / (1 + np.exp(-odds)) - are_classes) * counting
        gradient = np.append(np.bincount(columns, wrong[rows], len(features)), wrong.sum()) + decay * weights
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        weights -= recipe.rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-10)
    return weights[:-1], float(weights[-1])
