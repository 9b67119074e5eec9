"""Programs that ``archon bench plan`` takes for being there, whatever machine it runs on."""

from __future__ import annotations

_SYSTEM = """
awk basename bash bunzip2 bzip2 cat chmod cmp comm cp curl cut date dd df diff dirname du env expr false file find
fold git grep egrep fgrep gunzip gzip head hostname id install join jq less ln ls md5sum mkdir mktemp mv nice nl
nohup od paste patch perl printenv printf ps pwd readlink realpath rm rmdir sed seq sh sha1sum sha256sum sleep sort
split stat stdbuf strings sync tac tail tar tee timeout touch tr true truncate tsort uname uniq unzip wc wget which
whoami xargs xxd xz yes zip rg setsid time tree
"""
_TOOLCHAINS = """
python python3 python3.11 python3.12 pip pip3 pipx pytest py.test tox nox ruff black isort flake8 mypy pyright
pylint bandit coverage hatch poetry pdm pipenv uv uvx django-admin alembic sphinx-build twine pre-commit node nodejs
npm npx yarn pnpm bun bunx deno corepack tsc ts-node tsx eslint prettier jest vitest mocha ava playwright vite
webpack rollup esbuild biome go gofmt goimports golangci-lint staticcheck gotestsum cargo rustc rustfmt
clippy-driver make cmake ctest ninja meson gcc g++ cc c++ clang clang++ clang-format clang-tidy gdb valgrind java
javac jar mvn gradle ant kotlinc scala sbt ruby bundle bundler gem rake rspec rubocop rails php composer phpunit
phpstan dotnet msbuild swift swiftc xcodebuild mix elixir iex erl rebar3 ghc cabal stack runghc ocaml dune opam zig
nim lua luajit busted luacheck Rscript R julia dart flutter bats shellcheck shfmt hadolint terraform helm kubectl
docker docker-compose sqlite3 psql mysql redis-cli bazel buck2 just task earthly protoc buf nvim vim emacs pandoc
latexmk pdflatex asciidoctor mkdocs hugo xvfb-run flask uvicorn gunicorn celery scrapy streamlit jupyter ansible
ansible-lint yamllint markdownlint vulture pydocstyle pip-audit safety sqlfluff djlint codespell interrogate radon
autopep8 yapf pyflakes pycodestyle basedpyright ty pyre pytype ng next nuxt svelte-check stylelint cypress storybook
turbo nx lerna swc babel c8 nyc tap karma ember vue-tsc wrangler vercel sam cdk pulumi packer xmllint yq htmlhint
tidy nm objdump ldd strace pkg-config autoconf autoreconf automake lein clojure clj mill groovy ktlint detekt
checkstyle oxlint knip markdownlint-cli2 lychee vale actionlint conda mamba python2 pypy pypy3 ipython tsd ajv
redocly spectral openapi-generator grpcurl k6 locust hey gofumpt mockgen sqlc cargo-nextest rust-analyzer trunk
wasm-pack nasm ld ar ranlib fpc gnatmake gfortran sass less postcss tailwindcss truffle hardhat forge solc aws
gcloud az mongo mongosh etcdctl nginx redis-server pg_ctl createdb
"""
#: What comes with the system, whatever the project is written in.
SYSTEM = frozenset(_SYSTEM.split())
#: What languages' toolchains and the usual tools of projects bring.
TOOLCHAINS = frozenset(_TOOLCHAINS.split())
