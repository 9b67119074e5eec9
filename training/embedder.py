"""``./archon train embedder``: from the list of packages to the model that ships.

Fetches the archives (pip, npm, apt), reads pairs of doc comment and code from them, learns, and puts the model's folder
into the cache, or where --out says. What was done is kept in the cache and not done again; the same list, recipe and
seed give the same model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from integrations.embedders import minilm, static
from integrations.embedders.errors import EmbedderMissing
from training.beginning import vectors_begin, vectors_random, words_embed
from training.corpus import (
    CORPUS_RULES,
    Corpus,
    corpus_make,
    corpus_read,
    corpus_write,
    inverse_frequencies,
)
from training.export import ModelInTheWay, model_refuse, model_write
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
from training.learning import Recipe, learn
from training.manifest import Package, packages_read
from training.mining import RULES
from training.network import Parameters, parameters_start


def main(argv: list[str]) -> int:
    recipe = Recipe()
    parser = argparse.ArgumentParser(prog="archon train embedder", description=__doc__)
    arguments_add(parser)
    parser.add_argument("--out", type=Path, help="the model's folder (by default in the cache)")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--dimension", type=int, default=static.DIMENSION)
    parser.add_argument("--epochs", type=int, default=recipe.epochs)
    parser.add_argument("--stems", type=int, default=static.STEMS, help="the most stems that have a vector")
    parser.add_argument("--begin", choices=("minilm", "random"), default="minilm", help="the vectors to begin with")
    parser.add_argument("--model-version", default=static.VERSION)
    options = parser.parse_args(argv)
    out = options.out or options.cache / "model"
    recipe = Recipe(dimension=options.dimension, epochs=options.epochs, seed=options.seed)
    packages = packages_read(options.list)
    made_of = {
        **list_told(options.list, packages),
        "begin": options.begin,
        "recipe": asdict(recipe),
    }
    # Before most of an hour is spent.
    try:
        packages_refuse(packages)
        model_refuse(out, version=options.model_version, made_of=made_of)
        if options.begin == "minilm":
            minilm.model_file()
    except (GatheringFailed, ModelInTheWay) as error:
        print(error, file=sys.stderr)
        return 1
    except EmbedderMissing as error:
        print(f"{error.message}. Install it, or begin with --begin random.", file=sys.stderr)
        return 1
    try:
        pairs_gather(packages, options.cache, processes=options.processes)
    except GatheringFailed as error:
        print(error, file=sys.stderr)
        return 1
    corpus, digest = _corpus(packages, options.cache, stems=options.stems)
    if not corpus:
        print(f"nothing was found to learn from in what {options.list} lists", file=sys.stderr)
        return 1
    start = _start(corpus, recipe, options.cache / "words.npz", begin=options.begin)
    state = options.cache / f"state-{digest}-{options.begin}.npz"
    parameters = learn(corpus, start, recipe, state=state, tell=tell)
    made_of |= {"pairs": len(corpus), "languages": _languages(corpus), "stems": len(corpus.stems)}
    try:
        model_write(parameters, corpus, out, version=options.model_version, made_of=made_of)
    except ModelInTheWay as error:
        print(error, file=sys.stderr)
        return 1
    state.unlink(missing_ok=True)
    tell(f"the model is in {out}")
    return 0


def _corpus(packages: list[Package], cache: Path, *, stems: int) -> tuple[Corpus, str]:
    pairs = pairs_folder(cache)
    told = json.dumps([RULES, CORPUS_RULES, stems, [(each.slug, each.sha256, each.use) for each in packages]])
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    path = cache / f"corpus-{digest}.npz"
    if path.exists():
        return corpus_read(path), digest
    evaluated, learnt = evaluated_read(packages, pairs), files_learnt(packages, pairs)
    corpus = corpus_make(learnt, evaluated=evaluated, max_stems=stems, min_count=static.MIN_COUNT, tell=tell)
    corpus_write(corpus, path)
    return corpus, digest


def _start(corpus: Corpus, recipe: Recipe, words: Path, *, begin: str) -> Parameters:
    if begin == "random":
        vectors = vectors_random(len(corpus.stems), recipe.dimension, recipe.seed)
    else:
        vectors = vectors_begin(words_embed(corpus.forms, words, tell=tell), recipe.dimension)
    return parameters_start(vectors, inverse_frequencies(corpus))


def _languages(corpus: Corpus) -> dict[str, int]:
    counts = Counter(corpus.language_numbers.tolist())
    return {corpus.languages[number]: count for number, count in counts.most_common()}
