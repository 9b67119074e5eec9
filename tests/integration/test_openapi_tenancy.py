"""For every operation of the API: nobody without credentials, and nobody else's objects."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.utils import timezone

from apps.agents.services.attachments import attachment_upload
from apps.agents.services.policy_rules import RuleFields, policy_rule_create
from apps.agents.types import PolicyEffect
from apps.authentication.models import User
from apps.authentication.services.api_keys import api_key_create
from apps.context.jobs import index_get_or_create, job_want
from apps.context.models import CodeFile
from apps.context.writing import ids_take
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc, feature_id_of, task_id_of
from apps.planning.services import feature_create, plan_create
from apps.projects.models import Project, RepositoryState
from apps.usage.keys import key_owner, provider_key_store
from apps.usage.models import KeyScope
from tests.api import client_for, client_make, openapi_document, project_make, user_make
from tests.builders import session_build

pytestmark = pytest.mark.django_db

PUBLIC = {
    ("get", "/api/health/"),
    ("get", "/api/ready/"),
    ("post", "/api/auth/register/"),
    ("post", "/api/auth/login/"),
    ("post", "/api/auth/refresh/"),
    ("post", "/api/auth/logout/"),
}


def _operations() -> list[tuple[str, str]]:
    return [
        (method, path)
        for path, operations in openapi_document()["paths"].items()
        for method in operations
        if method in ("get", "post", "put", "patch", "delete")
    ]


def _plan_of(owner: User) -> uuid.UUID:
    features = (FeatureDoc(key="F1", title="f", tasks=(TaskDoc(key="T1", title="t"),)),)
    document = PlanDoc(summary="s", features=features)
    project = project_make(owner=owner)
    return plan_create(plan_id=uuid.uuid4(), project=project, goal="", document=document).id


def _feature_of(owner: User) -> uuid.UUID:
    project = project_make(owner=owner)
    return feature_create(user=owner, project_id=project.id, title="f").id


def _session_of(owner: User) -> uuid.UUID:
    return session_build(user=owner, project=project_make(owner=owner)).id


def _attachment_of(owner: User) -> uuid.UUID:
    return attachment_upload(user=owner, name="a.txt", declared_type="", chunks=[b"x"]).id


def _provider_key_of(owner: User) -> uuid.UUID:
    owned = key_owner(user=owner, scope=KeyScope.USER, project_id=None)
    return provider_key_store(user=owner, owner=owned, vendor="openai", secret="sk-canary-of-mine")[0].id


def _rule_of(owner: User) -> uuid.UUID:
    fields = RuleFields(PolicyEffect.DENY, path="*.pem")
    return policy_rule_create(user=owner, project_id=project_make(owner=owner).id, fields=fields).id


def _job_of(owner: User) -> uuid.UUID:
    project = project_make(owner=owner)
    Project.objects.filter(id=project.id).update(repository_state=RepositoryState.READY, default_branch="main")
    project.refresh_from_db()
    return job_want(project=project).id


def _file_of(owner: User) -> int:
    index = index_get_or_create(project_make(owner=owner))
    first = ids_take(1)
    CodeFile.objects.create(
        id=first, index=index, path="a.py", blob="0" * 40, parser=1, state="parsed", indexed_at=timezone.now()
    )
    return first


#: How to make an object of somebody's, by the parameter that names it in a path.
OBJECTS: dict[str, Callable[[User], object]] = {
    "project_id": lambda owner: project_make(owner=owner).id,
    "user_id": lambda owner: owner.id,
    "key_id": lambda owner: api_key_create(user=owner, name="k").row.id,
    "provider_key_id": _provider_key_of,
    # Named within its project, and forgetting one that isn't there is fine.
    "secret_name": lambda owner: "TOKEN",
    "plan_id": _plan_of,
    # Of a version, named within its plan.
    "number": lambda owner: 1,
    "session_id": _session_of,
    "feature_id": _feature_of,
    "attachment_id": _attachment_of,
    "job_id": _job_of,
    "file_id": _file_of,
    "rule_id": _rule_of,
    "task_id": lambda owner: task_id_of(_plan_of(owner), "T1"),
}


@pytest.mark.parametrize(("method", "path"), _operations())
def test_without_credentials_or_with_bad_ones(method: str, path: str) -> None:
    address = path
    for name in _parameters(path):
        address = address.replace("{" + name + "}", str(uuid.uuid4()))
    expected_public = (method, path) in PUBLIC
    assert (client_make().generic(method.upper(), address).status_code != 401) is expected_public
    if not expected_public:
        assert client_make("nonsense").generic(method.upper(), address).status_code == 401


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path in _operations() if "{" in path])
def test_another_users_object_does_not_exist(method: str, path: str) -> None:
    owner, stranger = user_make(), user_make()
    address = path
    for name in _parameters(path):
        assert name in OBJECTS, f"say in OBJECTS how to make the object that {name} names"
        address = address.replace("{" + name + "}", str(OBJECTS[name](owner)))
    foreign = client_for(stranger).generic(method.upper(), address, b"{}", content_type="application/json")  # type: ignore[arg-type]
    assert foreign.status_code == 404, foreign.content
    own = client_for(owner).generic(method.upper(), address, b"{}", content_type="application/json")  # type: ignore[arg-type]
    assert own.status_code != 404, "the object was there to be found"


def _parameters(path: str) -> list[str]:
    return [part.strip("{}") for part in path.split("/") if part.startswith("{")]


def test_features_of_a_plan_follow_from_its_id() -> None:
    """Ids that can be computed are no secret: whoever knows a plan's id still can't read what is in it."""
    plan_id = _plan_of(user_make())
    address = f"/api/planning/features/{feature_id_of(plan_id, 'F1')}/"
    assert client_for(user_make()).get(address).status_code == 404
