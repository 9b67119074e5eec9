"""Which language a file is written in: by its name, and where that doesn't say, by its first bytes."""

from __future__ import annotations

import re

_EXTENSIONS: dict[str, tuple[str, ...]] = {
    # Those with a grammar.
    "python": ("py", "pyi", "pyw", "pyx", "pxd"),
    "javascript": ("js", "jsx", "mjs", "cjs"),
    "typescript": ("ts", "mts", "cts"),
    "tsx": ("tsx",),
    "go": ("go",),
    "rust": ("rs",),
    "java": ("java",),
    "c": ("c", "h"),
    "cpp": ("cc", "cpp", "cxx", "c++", "hh", "hpp", "hxx", "h++", "ipp", "inl", "tpp", "cu", "cuh"),
    "csharp": ("cs", "csx"),
    "ruby": ("rb", "rake", "gemspec", "ru", "podspec"),
    "php": ("php", "phtml", "php5", "php7", "phps"),
    "kotlin": ("kt", "kts"),
    "swift": ("swift",),
    "scala": ("scala", "sc", "sbt"),
    "bash": ("sh", "bash", "zsh", "ksh", "bats", "ebuild"),
    "sql": ("sql", "ddl", "psql", "pgsql"),
    "html": ("html", "htm", "xhtml", "vue", "svelte"),
    "css": ("css",),
    "markdown": ("md", "markdown", "mdx", "mkd"),
    "yaml": ("yaml", "yml"),
    "toml": ("toml",),
    "json": ("json", "jsonc", "json5", "geojson", "webmanifest", "ipynb"),
    # Those without: read by lines.
    "restructuredtext": ("rst", "rest"),
    "text": ("txt", "text", "log"),
    "asciidoc": ("adoc", "asciidoc"),
    "xml": ("xml", "xsd", "xsl", "xslt", "svg", "plist", "csproj", "props", "targets", "resx", "xaml", "pom"),
    "ini": ("ini", "cfg", "conf", "properties", "editorconfig", "env"),
    "lua": ("lua",),
    "perl": ("pl", "pm", "t"),
    "r": ("r", "rmd"),
    "julia": ("jl",),
    "dart": ("dart",),
    "elixir": ("ex", "exs"),
    "erlang": ("erl", "hrl"),
    "haskell": ("hs", "lhs"),
    "ocaml": ("ml", "mli"),
    "fsharp": ("fs", "fsi", "fsx"),
    "clojure": ("clj", "cljs", "cljc", "edn"),
    "groovy": ("groovy", "gradle"),
    "objective-c": ("m", "mm"),
    "fortran": ("f", "f90", "f95", "for"),
    "assembly": ("asm", "s"),
    "zig": ("zig",),
    "nim": ("nim",),
    "protobuf": ("proto",),
    "graphql": ("graphql", "gql"),
    "terraform": ("tf", "tfvars", "hcl"),
    "cmake": ("cmake",),
    "powershell": ("ps1", "psm1", "psd1"),
    "batch": ("bat", "cmd"),
    "vim": ("vim",),
    "emacs-lisp": ("el",),
    "tcl": ("tcl",),
    "solidity": ("sol",),
    "scss": ("scss", "sass"),
    "less": ("less",),
    "template": (
        "j2",
        "jinja",
        "jinja2",
        "erb",
        "ejs",
        "hbs",
        "mustache",
        "tmpl",
        "tpl",
        "twig",
        "liquid",
        "haml",
        "pug",
    ),
    "csv": ("csv", "tsv"),
    "diff": ("diff", "patch"),
}
_LANGUAGE_OF_EXTENSION = {extension: language for language, those in _EXTENSIONS.items() for extension in those}
_LANGUAGE_OF_NAME = {
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    "makefile": "makefile",
    "gnumakefile": "makefile",
    "cmakelists.txt": "cmake",
    "rakefile": "ruby",
    "gemfile": "ruby",
    "podfile": "ruby",
    "vagrantfile": "ruby",
    "guardfile": "ruby",
    "jenkinsfile": "groovy",
    "sconstruct": "python",
    "sconscript": "python",
    "wscript": "python",
    "pipfile": "toml",
    "cargo.lock": "toml",
    "poetry.lock": "toml",
    "uv.lock": "toml",
    "composer.lock": "json",
    "yarn.lock": "text",
    ".babelrc": "json",
    ".eslintrc": "json",
    ".prettierrc": "json",
    ".bashrc": "bash",
    ".bash_profile": "bash",
    ".profile": "bash",
    ".zshrc": "bash",
    "pkgbuild": "bash",
    "go.mod": "text",
    "go.sum": "text",
    "license": "text",
    "licence": "text",
    "copying": "text",
    "readme": "text",
    "authors": "text",
    "changelog": "text",
    "changes": "text",
    "notice": "text",
    "codeowners": "text",
}
_INTERPRETERS = (
    (re.compile(rb"\bpython[0-9.]*\b|\bpypy"), "python"),
    (re.compile(rb"\b(?:node|deno|bun)\b"), "javascript"),
    (re.compile(rb"\b(?:ba|z|k|da|a)?sh\b"), "bash"),
    (re.compile(rb"\bruby\b"), "ruby"),
    (re.compile(rb"\bphp\b"), "php"),
    (re.compile(rb"\bperl\b"), "perl"),
    (re.compile(rb"\blua\b"), "lua"),
    (re.compile(rb"\bRscript\b"), "r"),
)
#: What only C++ writes, in a header that may be either.
_CPP = re.compile(
    rb"^\s*(?:class\s+\w+[^;]*$|namespace\b|template\s*<|using\s+\w|public:|private:|protected:)|\bstd::|\bconstexpr\b"
    rb"|#include\s*<(?:string|vector|memory|map|utility|functional|iostream|cstdint|cstddef)>|\bvirtual\s+\w",
    re.MULTILINE,
)
#: How much of a file is looked at.
HEAD_BYTES = 8192


def language_of(path: str, head: bytes) -> str | None:
    """The language of the file at this path, given its first bytes; None where neither tells."""
    name = path.rsplit("/", 1)[-1].lower()
    language = _LANGUAGE_OF_NAME.get(name)
    if language is None and "." in name:
        language = _LANGUAGE_OF_EXTENSION.get(name.rsplit(".", 1)[1])
    if language is None and name.startswith(("dockerfile.", "containerfile.")):
        language = "dockerfile"
    if language == "c" and name.endswith(".h") and _CPP.search(head[:HEAD_BYTES]):
        return "cpp"
    if language is None and head.startswith(b"#!"):
        line = head[:HEAD_BYTES].split(b"\n", 1)[0]
        return next((language for pattern, language in _INTERPRETERS if pattern.search(line)), None)
    if language is None and head.startswith(b"<?php"):
        return "php"
    return language
