"""Kinds of projects: what belongs to Python, Node and each further one, in a module of its own.

types.py            what an ecosystem and a runner of tests say of themselves
registry.py         all of them, and what they say together
commands.py         what a command line calls
sources.py          gathering the registries that this host is configured for
results.py          reading what runners wrote in a sandbox (junit.py)
python.py           (python_requirements.py: what a project says it needs; python_tests.py: which tests it has;
                    python_tox.py: what tox and nox would run)
node.py             (node_scripts.py: what package.json's scripts call; node_results.py)
rust.py             (cargo_results.py: the text of `cargo test`)
go.py               (go_results.py: the events of `go test -json`)
maven.py, gradle.py (reports.py: folders of JUnit files in the checkout)
cmake.py, php.py
ruby.py             (rspec_results.py)
make.py             where nothing better is known (tap.py)
folders.py          looking through a checkout; kept_output.py: what a runner prints, kept whole
lent/               files that sandboxes of checks are lent

``environment`` makes a set-up of it, ``checks`` runs, reads and compares. To add one: write its module, list it in
``registry.py``, and describe it in docs/how-to/checks-and-setup.md.
"""
