"""The API of the context: jobs, files, overview, search, as a client sees them."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path

import pytest

from apps.context.freshness import heads_follow
from apps.context.models import AddedFile, IndexJob, JobState
from tests.api import client_for, user_make
from tests.integration.context_scene import Code, code_make, job_finish

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def code(tmp_path: Path, settings: object) -> Code:
    settings.ARCHON_EMBEDDER = "off"  # type: ignore[attr-defined]
    return code_make(tmp_path)


def test_index_a_project_and_follow_the_job(code: Code) -> None:
    client = client_for(code.user)
    answer = client.post("/api/context/index/", {"project": str(code.project.id)})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/api/context/index/{job['id']}/"
    assert job["state"] == "waiting"
    assert client.get(f"/api/context/state/?project={code.project.id}").json()["state"] == "indexing"
    job_finish(IndexJob.objects.get(id=job["id"]))
    done = client.get(f"/api/context/index/{job['id']}/").json()
    assert done["state"] == "completed" and done["commit"] == code.project.head_commit
    assert done["text_ready_at"] and done["progress"]["files_done"] == 4
    events = client.get(f"/api/context/index/{job['id']}/events/").json()["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    later = client.get(f"/api/context/index/{job['id']}/events/?after={len(events) - 1}").json()["events"]
    assert [event["type"] for event in later] == ["IndexCompleted"]
    state = client.get(f"/api/context/state/?project={code.project.id}").json()
    assert (state["state"], state["lagging"], state["vectors"]) == ("ready", False, "off")
    listed = client.get(f"/api/context/index/?project={code.project.id}").json()["results"]
    assert [each["id"] for each in listed] == [job["id"]]


def test_a_job_is_cancelled(code: Code) -> None:
    client = client_for(code.user)
    job = client.post("/api/context/index/", {"project": str(code.project.id)}).json()
    assert client.post(f"/api/context/index/{job['id']}/cancel/").json()["state"] == "cancelled"
    assert client.post(f"/api/context/index/{job['id']}/cancel/").json()["state"] == "cancelled"


def test_files_with_their_analysis(code: Code) -> None:
    code.index()
    client = client_for(code.user)
    listed = client.get(f"/api/context/files/?project={code.project.id}").json()
    assert [file["path"] for file in listed["results"]] == [
        "README.md", "greeting/__init__.py", "greeting/main.py", "greeting/people.py",
    ]  # fmt: skip
    python = client.get(f"/api/context/files/?project={code.project.id}&language=python&path=greeting/p").json()
    (file,) = python["results"]
    assert file["symbols"] >= 3 and file["state"] == "parsed" and file["lines"] == 17
    detail = client.get(f"/api/context/files/{file['id']}/").json()
    assert {each["qualified_name"] for each in detail["definitions"]} >= {"Greeter", "Greeter.greet_person"}
    assert detail["dependents"] == ["greeting/main.py"]
    assert [todo["line"] for todo in detail["todos"]] == [15]
    assert [found["module"] for found in detail["imports"]] == ["os"] and detail["imports"][0]["path"] == ""
    main = next(each for each in listed["results"] if each["path"] == "greeting/main.py")
    imports = client.get(f"/api/context/files/{main['id']}/").json()["imports"]
    assert imports[0]["path"] == "greeting/people.py"


def test_duplicates_are_told(code: Code) -> None:
    body = "".join(f"    total += values[{number}] * weights[{number}]\n" for number in range(12))
    one, other = (f"def total_of(values, weights):\n    total = 0\n{body}    return total\n" for _ in range(2))
    code.commit({"one.py": one, "two.py": f"import os\n\n\n{other.replace(' * ', '  *  ')}"})
    code.index()
    client = client_for(code.user)
    files = client.get(f"/api/context/files/?project={code.project.id}&path=one.py").json()["results"]
    (found,) = client.get(f"/api/context/files/{files[0]['id']}/").json()["duplicates"]
    assert (found["path"], found["symbol"], found["start_line"], found["own_start_line"]) == (
        "two.py",
        "total_of",
        4,
        1,
    )


def test_a_file_is_added_and_taken_away(code: Code) -> None:
    code.commit({".gitignore": "notes.txt\n", "notes.txt": "ignored marmot\n"})
    code.index()
    client = client_for(code.user)
    project = str(code.project.id)
    assert code.paths("marmot") == []
    # What the rules leave out, and what the repository doesn't have.
    answer = None
    for body in ({"path": "notes.txt"}, {"path": "docs/extra.md", "content": "# Extra\n\nA capybara.\n"}):
        answer = client.post("/api/context/files/", {"project": project, **body})
        assert answer.status_code == 202, answer.content
    assert answer is not None
    job_finish(IndexJob.objects.get(id=answer.json()["job"]["id"]))
    assert code.paths("marmot") == ["notes.txt"]
    assert code.paths("capybara") == ["docs/extra.md"]
    # It stays when the branch moves on, and is no stale hit meanwhile.
    code.commit({"README.md": "# New\n"})
    assert code.paths("capybara") == ["docs/extra.md"]
    code.index()
    assert code.paths("capybara") == ["docs/extra.md"] and code.paths("marmot") == ["notes.txt"]
    found = client.get(f"/api/context/files/?project={project}&path=docs/").json()["results"][0]
    assert client.get(f"/api/context/files/{found['id']}/").json()["added"] is True
    removed = client.delete(f"/api/context/files/{found['id']}/")
    job_finish(IndexJob.objects.get(id=removed.json()["id"]))
    assert code.paths("capybara") == []
    readme = client.get(f"/api/context/files/?project={project}&path=README").json()["results"][0]
    assert client.delete(f"/api/context/files/{readme['id']}/").status_code == 409
    assert AddedFile.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"path": "../out.py", "content": "x"}, 400),
        ({"path": "/etc/passwd"}, 400),
        ({"path": "missing.py"}, 404),
        ({"path": "a\nb", "content": "x"}, 400),
        ({"path": "big.txt", "content": "x" * (5 << 20)}, 413),
        ({"path": ""}, 400),
    ],
)
def test_files_that_cannot_be_added(code: Code, body: dict[str, str], status: int) -> None:
    answer = client_for(code.user).post("/api/context/files/", {"project": str(code.project.id), **body})
    assert answer.status_code == status, answer.content


def test_overview_and_its_picture(code: Code) -> None:
    code.commit(
        {"pyproject.toml": '[project.scripts]\nhello = "greeting.main:main"\n', "tools/t.py": "import greeting\n"}
    )
    code.index()
    client = client_for(code.user)
    overview = client.get(f"/api/context/overview/?project={code.project.id}").json()
    assert overview["languages"][0]["language"] in ("python", "markdown", "toml")
    assert {"path": "pyproject.toml", "kind": "program", "name": "hello"} in overview["entry_points"]
    assert "greeting/main.py" in [entry["path"] for entry in overview["entry_points"]]
    assert overview["hot_spots"][0]["commits"] >= 1
    picture = client.get(f"/api/context/overview/graph.svg/?project={code.project.id}")
    assert picture.headers["Content-Type"] == "image/svg+xml"
    xml.etree.ElementTree.fromstring(picture.content)


def test_search_over_the_api(code: Code) -> None:
    code.index()
    client = client_for(code.user)
    body = {"query": "parse http header", "project": str(code.project.id), "mode": "text", "explain": True}
    found = client.post("/api/vector-store/search/", body).json()
    assert found["hits"][0]["symbol"] == "parseHTTPHeader" and found["hits"][0]["scores"]["terms"]
    assert found["indexes"][0]["commit"] == code.project.head_commit
    assert client.post("/api/vector-store/search/", {**body, "mode": "wish"}).status_code == 400
    assert client.post("/api/vector-store/search/", {**body, "query": ""}).status_code == 400
    assert client.post("/api/vector-store/search/", {**body, "mode": "regex", "query": "("}).status_code == 400
    stranger = client_for(user_make())
    assert stranger.post("/api/vector-store/search/", body).status_code == 404
    assert stranger.post("/api/vector-store/search/", {"query": "parse"}).status_code == 409


def test_before_there_is_a_repository_or_an_index(code: Code) -> None:
    client = client_for(code.user)
    assert client.get(f"/api/context/files/?project={code.project.id}").status_code == 409
    bare = client.post("/api/projects/", {"name": "bare"}).json()
    assert client.post("/api/context/index/", {"project": bare["id"]}).status_code == 409


def test_heads_are_followed(code: Code, settings: object) -> None:
    heads_follow()
    heads_follow()
    (job,) = IndexJob.objects.all()
    assert job_finish(job).state == JobState.COMPLETED
    heads_follow()
    assert IndexJob.objects.count() == 1
    code.commit({"new.py": "x = 1\n"})
    heads_follow()
    assert IndexJob.objects.filter(state=JobState.WAITING).count() == 1
    # One that failed is not tried for ever.
    IndexJob.objects.filter(state=JobState.WAITING).update(state=JobState.FAILED)
    heads_follow()
    assert not IndexJob.objects.filter(state=JobState.WAITING).exists()
    settings.ARCHON_INDEX_AUTO = False  # type: ignore[attr-defined]
    code.commit({"newer.py": "x = 1\n"})
    heads_follow()
    assert not IndexJob.objects.filter(state=JobState.WAITING).exists()
