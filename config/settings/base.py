"""Settings shared by every environment; the only module that reads the process environment."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from config.logs import logging_settings
from config.provider_limits import provider_limits

BASE_DIR = Path(__file__).resolve().parent.parent.parent
env = environ.Env()

# --- Django -----------------------------------------------------------------------------------------------------------
SECRET_KEY = env("DJANGO_SECRET_KEY", default="")
DEBUG = env.bool("DJANGO_DEBUG", default=False)
ALLOWED_HOSTS: list[str] = env.list("DJANGO_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
# The API is used by programs: a write to an address without its slash is told so rather than redirected
# (see apps.core.middleware).
APPEND_SLASH = False

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "channels",
    "apps.core",
    "apps.authentication",
    "apps.projects",
    "apps.usage",
    "apps.vector_store",
    "apps.context",
    "apps.planning",
    "apps.agents",
    "apps.chat",
]
MIDDLEWARE = [
    "apps.core.middleware.RequestContextMiddleware",
    "apps.core.middleware.ProblemDetailsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

# --- Database, cache, queue -------------------------------------------------------------------------------------------
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": env("DB_NAME", default="archon"),
        "USER": env("DB_USER", default="postgres"),
        "PASSWORD": env("DB_PASSWORD", default=""),
        "HOST": env("DB_HOST", default="127.0.0.1"),
        "PORT": env("DB_PORT", default="5432"),
        # A pool rather than persistent connections: CONN_MAX_AGE leaks connections under ASGI.
        "CONN_MAX_AGE": 0,
        # A connection is looked at when it leaves the pool: without this each one breaks a request after the database
        # has been restarted.
        "CONN_HEALTH_CHECKS": True,
        # The timeout, in seconds, is what a request waits for while the database is down, before it is told so.
        "OPTIONS": {"pool": {"min_size": 0, "max_size": env.int("DB_POOL_SIZE", default=20), "timeout": 10}},
    }
}
REDIS_URL = env("REDIS_URL", default="redis://127.0.0.1:6379/0")
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

CELERY_BROKER_URL = env("CELERY_BROKER_URL", default=REDIS_URL)
CELERY_RESULT_BACKEND = env("CELERY_RESULT_BACKEND", default=REDIS_URL)
# The queue is only a wake-up (the truth is a row and a lease), so a message may be lost or come twice.
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = env.int("ARCHON_WORKER_THREADS", default=8)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 60, "socket_connect_timeout": 2, "global_keyprefix": "archon:"}
CELERY_TASK_DEFAULT_QUEUE = "archon"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    # Proves through the queue that a worker takes jobs; one that nobody took in time is of no use to anybody.
    # A session whose worker died is taken up within the lease and one sweep.
    "sweep-sessions": {"task": "apps.agents.tasks.sweep_sessions", "schedule": 3.0, "options": {"expires": 3}},
    "sweep-repositories": {
        "task": "apps.projects.tasks.sweep_repositories",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "sweep-publications": {
        "task": "apps.agents.tasks.sweep_publications",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "sweep-indexes": {"task": "apps.context.tasks.sweep_indexes", "schedule": 3.0, "options": {"expires": 3}},
    "prune-indexes": {"task": "apps.context.tasks.prune_indexes", "schedule": timedelta(hours=1)},
    "worker-heartbeat": {"task": "apps.core.tasks.heartbeat", "schedule": 10.0, "options": {"expires": 10}},
    "prune-sessions": {"task": "apps.agents.tasks.prune_sessions", "schedule": timedelta(minutes=10)},
    "prune-repositories": {"task": "apps.projects.tasks.prune_repositories", "schedule": timedelta(hours=1)},
    "flush-vectors": {"task": "apps.vector_store.tasks.flush_vectors", "schedule": 10.0, "options": {"expires": 10}},
    "tend-vectors": {"task": "apps.vector_store.tasks.tend_vectors", "schedule": timedelta(minutes=10)},
    "prune-tokens": {"task": "apps.authentication.tasks.prune_tokens", "schedule": timedelta(hours=6)},
}

# --- Accounts ---------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "authentication.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
#: Who may register: `open`, `invite` (a token made by an administrator) or `closed`.
ARCHON_REGISTRATION: str = env("ARCHON_REGISTRATION", default="closed")
JWT_SECRET_KEY = env("JWT_SECRET_KEY", default="")
JWT_ALGORITHM = env("JWT_ALGORITHM", default="HS256")
ACCESS_TOKEN_LIFETIME = timedelta(minutes=env.int("ACCESS_TOKEN_EXPIRE_MINUTES", default=30))
REFRESH_TOKEN_LIFETIME = timedelta(days=env.int("REFRESH_TOKEN_EXPIRE_DAYS", default=7))
CORS_ALLOWED_ORIGINS: list[str] = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_URLS_REGEX = r"^/api/"
CORS_EXPOSE_HEADERS = ["X-Request-ID", "Retry-After", "Location"]

# --- Archon -----------------------------------------------------------------------------------------------------------
ARCHON_HOME = Path(env("ARCHON_HOME", default=str(BASE_DIR / ".archon")))
#: Folders from which a repository may be imported by path; none by default.
ARCHON_REPOSITORY_ROOTS: list[str] = env.list("ARCHON_REPOSITORY_ROOTS", default=[])
#: The largest git bundle that is accepted, in MiB.
ARCHON_UPLOAD_LIMIT_MB: int = env.int("ARCHON_UPLOAD_LIMIT_MB", default=1024)
#: What a repository may take on the server's disk, in MiB, and how many seconds one fetch of it may take.
ARCHON_REPOSITORY_LIMIT_MB: int = env.int("ARCHON_REPOSITORY_LIMIT_MB", default=4096)
ARCHON_REPOSITORY_SECONDS: int = env.int("ARCHON_REPOSITORY_SECONDS", default=3600)
#: Certificates that git believes in over https instead of the system's, for hosts with an authority of their own.
ARCHON_GIT_CA_FILE: str = env("ARCHON_GIT_CA_FILE", default="")
#: Encrypts the secrets that users store; the first encrypts, all decrypt. None: it follows from DJANGO_SECRET_KEY.
ARCHON_ENCRYPTION_KEYS: list[str] = env.list("ARCHON_ENCRYPTION_KEYS", default=[])
#: Hosts (`HOST`, `HOST:PORT`, `*.DOMAIN`) that users and agents may name although their addresses are not public.
ARCHON_PRIVATE_HOSTS: list[str] = env.list("ARCHON_PRIVATE_HOSTS", default=[])
#: The largest file that can be attached to a goal, in MiB.
ARCHON_ATTACHMENT_LIMIT_MB: int = env.int("ARCHON_ATTACHMENT_LIMIT_MB", default=20)
#: Hosts that linked issues and logs are fetched from.
ARCHON_SOURCE_HOSTS: list[str] = env.list(
    "ARCHON_SOURCE_HOSTS",
    default=["github.com", "api.github.com", "raw.githubusercontent.com", "gist.githubusercontent.com"]
    + ["gitlab.com", "codeberg.org"],
)
#: `provider:model` for sessions that name none; empty: the default of the first provider with a key.
ARCHON_MODEL: str = env("ARCHON_MODEL", default="")
#: Other models for single roles, as `planner=provider:model`.
ARCHON_MODELS: list[str] = env.list("ARCHON_MODELS", default=[])
#: Called in this order when the model does not answer; `provider:model`, with an address as `provider:model@url`.
ARCHON_MODEL_FALLBACKS: list[str] = env.list("ARCHON_MODEL_FALLBACKS", default=[])
#: How these models are called; empty: as the model has it by itself, or by what is known of it.
ARCHON_MODEL_EFFORT: str = env("ARCHON_MODEL_EFFORT", default="")
ARCHON_MODEL_TEMPERATURE: str = env("ARCHON_MODEL_TEMPERATURE", default="")
ARCHON_MODEL_TOOL_CALLS: str = env("ARCHON_MODEL_TOOL_CALLS", default="")
#: Model endpoints that users may name: URL prefixes; a port of `*` stands for any.
ARCHON_MODEL_BASE_URLS: list[str] = env.list("ARCHON_MODEL_BASE_URLS", default=[])
#: Keys for such endpoints, as `url-prefix=key`; a key goes to no other host.
ARCHON_MODEL_KEYS: dict[str, str] = env.dict("ARCHON_MODEL_KEYS", default={})
#: Whether replies are asked for as they are made, and for how long a model may be silent within one.
ARCHON_MODEL_STREAM: bool = env.bool("ARCHON_MODEL_STREAM", default=True)
ARCHON_MODEL_IDLE_SECONDS: float = env.float("ARCHON_MODEL_IDLE_SECONDS", default=300.0)
#: Requests and tokens a minute that all workers together send a provider, as `provider=requests/tokens`.
ARCHON_PROVIDER_LIMITS = provider_limits(env.dict("ARCHON_PROVIDER_LIMITS", default={}))
#: In which form models write their changes, as `pattern of provider:model=format`, before the table of families.
ARCHON_EDIT_FORMATS: dict[str, str] = env.dict("ARCHON_EDIT_FORMATS", default={})
if unknown_formats := set(ARCHON_EDIT_FORMATS.values()) - {"replace", "unified", "v4a", "whole"}:
    raise ImproperlyConfigured(
        f"ARCHON_EDIT_FORMATS: there is no form of edits {', '.join(sorted(unknown_formats))}; write PATTERN=FORMAT "
        "with replace, unified, v4a or whole, separated by commas"
    )
#: Context windows of models in tokens, as `pattern of provider:model=tokens`, before the price list's.
_contexts: dict[str, str] = env.dict("ARCHON_MODEL_CONTEXTS", default={})
if not all(tokens.isascii() and tokens.isdigit() and int(tokens) >= 2_048 for tokens in _contexts.values()):
    raise ImproperlyConfigured(
        "ARCHON_MODEL_CONTEXTS: write PATTERN=TOKENS, separated by commas; a context window has at least 2048 tokens"
    )
ARCHON_MODEL_CONTEXTS: dict[str, int] = {pattern: int(tokens) for pattern, tokens in _contexts.items()}
#: The share of a model's context window at which a conversation is compacted.
ARCHON_CONTEXT_SHARE: float = env.float("ARCHON_CONTEXT_SHARE", default=0.75)
if not 0.2 <= ARCHON_CONTEXT_SHARE <= 0.95:
    raise ImproperlyConfigured("ARCHON_CONTEXT_SHARE is a share of the context window between 0.2 and 0.95")
#: After how many repetitions an agent that goes round in circles is paused; 0: never.
ARCHON_LOOP_LIMIT: int = env.int("ARCHON_LOOP_LIMIT", default=5)
if ARCHON_LOOP_LIMIT and ARCHON_LOOP_LIMIT < 3:
    raise ImproperlyConfigured("ARCHON_LOOP_LIMIT is 3 at least, or 0 for none")
#: What is kept of one session's long outputs, in MiB.
ARCHON_OUTPUTS_MB: int = env.int("ARCHON_OUTPUTS_MB", default=32)
#: What a session may spend unless it says otherwise.
ARCHON_LIMIT_COST_USD: float = env.float("ARCHON_LIMIT_COST_USD", default=5.0)
ARCHON_LIMIT_TOKENS: int = env.int("ARCHON_LIMIT_TOKENS", default=2_000_000)
ARCHON_LIMIT_STEPS: int = env.int("ARCHON_LIMIT_STEPS", default=200)
ARCHON_LIMIT_SECONDS: int = env.int("ARCHON_LIMIT_SECONDS", default=3600)
#: What agents may do without asking, unless the project or the session says otherwise.
ARCHON_AUTONOMY: str = env("ARCHON_AUTONOMY", default="auto")
if ARCHON_AUTONOMY not in ("observe", "ask", "auto-edit", "auto"):
    raise ImproperlyConfigured(
        f"ARCHON_AUTONOMY: there is no autonomy {ARCHON_AUTONOMY!r}; write observe, ask, auto-edit or auto"
    )
#: Which tasks' changes are reviewed, unless the project or the session says otherwise.
ARCHON_REVIEW: str = env("ARCHON_REVIEW", default="auto")
if ARCHON_REVIEW not in ("auto", "always", "never"):
    raise ImproperlyConfigured(f"ARCHON_REVIEW: there is no {ARCHON_REVIEW!r}; write auto, always or never")
#: How many of a session's tasks may be worked on side by side, unless the project or the session says otherwise.
ARCHON_LANES: int = env.int("ARCHON_LANES", default=2)
if not 1 <= ARCHON_LANES <= 8:
    raise ImproperlyConfigured("ARCHON_LANES is a number of tasks between 1 and 8")
#: For how long a call can be approved after it was asked for, and carried out after it was approved, in seconds.
ARCHON_APPROVAL_SECONDS: int = env.int("ARCHON_APPROVAL_SECONDS", default=86400)
#: Sessions that one user may have at work at once, where nobody has said otherwise of that user.
ARCHON_LIMIT_USER_SESSIONS: int = env.int("ARCHON_LIMIT_USER_SESSIONS", default=500)
#: Sessions that one worker process runs at a time.
ARCHON_WORKER_SESSIONS: int = env.int("ARCHON_WORKER_SESSIONS", default=32)
#: How long a worker may be silent before another takes its sessions.
ARCHON_LEASE_SECONDS: int = env.int("ARCHON_LEASE_SECONDS", default=10)
#: How long a worker that was told to stop lets sessions come to the end of their step.
ARCHON_DRAIN_SECONDS: float = env.float("ARCHON_DRAIN_SECONDS", default=5.0)
#: A unix socket that is told where processes are, so that a test can kill them there (see apps.core.kill_points).
ARCHON_KILL_POINTS: str = env("ARCHON_KILL_POINTS", default="")
#: What keeps commands apart from the host: `bubblewrap` (Linux) or `container` (any engine with Docker's API).
ARCHON_SANDBOX: str = env("ARCHON_SANDBOX", default="") or ("bubblewrap" if sys.platform == "linux" else "container")
#: The engine's address, the folder with ca.pem, cert.pem and key.pem for one on another machine, and what it runs.
ARCHON_CONTAINER_ENGINE: str = env("ARCHON_CONTAINER_ENGINE", default="unix:///var/run/docker.sock")
ARCHON_CONTAINER_TLS: str = env("ARCHON_CONTAINER_TLS", default="")
ARCHON_CONTAINER_IMAGE: str = env("ARCHON_CONTAINER_IMAGE", default="archon-sandbox:latest")
ARCHON_CONTAINER_RUNTIME: str = env("ARCHON_CONTAINER_RUNTIME", default="")
#: Where the engine finds what is here, as `here=there`; `volume:name` stands for a named volume.
ARCHON_CONTAINER_PATHS: dict[str, str] = env.dict("ARCHON_CONTAINER_PATHS", default={})
#: CPUs that one container may use.
ARCHON_CONTAINER_CPUS: float = env.float("ARCHON_CONTAINER_CPUS", default=2.0)
#: Sandbox limits: memory and disk in MiB, processes, seconds of one command and of one check.
ARCHON_SANDBOX_MEMORY_MB: int = env.int("ARCHON_SANDBOX_MEMORY_MB", default=2048)
ARCHON_SANDBOX_DISK_MB: int = env.int("ARCHON_SANDBOX_DISK_MB", default=4096)
ARCHON_SANDBOX_PROCESSES: int = env.int("ARCHON_SANDBOX_PROCESSES", default=256)
ARCHON_COMMAND_SECONDS: int = env.int("ARCHON_COMMAND_SECONDS", default=120)
ARCHON_CHECK_SECONDS: int = env.int("ARCHON_CHECK_SECONDS", default=900)
#: How often a test is run again to tell whether it is flaky; 0: never.
ARCHON_CHECK_RERUNS: int = env.int("ARCHON_CHECK_RERUNS", default=2)
ARCHON_SETUP_SECONDS: int = env.int("ARCHON_SETUP_SECONDS", default=1200)
#: Whether the workers index every project's repository, and follow it, without being asked to.
ARCHON_INDEX_AUTO: bool = env.bool("ARCHON_INDEX_AUTO", default=True)
#: Processes that parse at a time, of one worker; the largest file that is read, in KiB; and the most files.
ARCHON_INDEX_PROCESSES: int = env.int("ARCHON_INDEX_PROCESSES", default=min(os.cpu_count() or 2, 4))
ARCHON_INDEX_FILE_KB: int = env.int("ARCHON_INDEX_FILE_KB", default=1024)
ARCHON_INDEX_FILES: int = env.int("ARCHON_INDEX_FILES", default=200_000)

# --- Providers and services of later use ------------------------------------------------------------------------------
OPENAI_API_KEY = env("OPENAI_API_KEY", default="")
#: Where OPENAI_API_KEY belongs, when not to OpenAI itself.
OPENAI_BASE_URL = env("OPENAI_BASE_URL", default="")
ANTHROPIC_API_KEY = env("ANTHROPIC_API_KEY", default="")
ANTHROPIC_BASE_URL = env("ANTHROPIC_BASE_URL", default="")
GEMINI_API_KEY = env("GEMINI_API_KEY", default="")
GEMINI_BASE_URL = env("GEMINI_BASE_URL", default="")
OPENROUTER_API_KEY = env("OPENROUTER_API_KEY", default="")
#: Where programs for local models listen, when not at their own default on this machine.
OLLAMA_BASE_URL = env("OLLAMA_BASE_URL", default="")
VLLM_BASE_URL = env("VLLM_BASE_URL", default="")
LMSTUDIO_BASE_URL = env("LMSTUDIO_BASE_URL", default="")
#: Who makes vectors of texts: `archon-static` or `minilm` (here, offline), `provider:model` (with an address as
#: `provider:model@url`) or `off`; a second one beside it; and how many numbers a vector has, 0: as many as the model
#: has by itself.
ARCHON_EMBEDDER: str = env("ARCHON_EMBEDDER", default="") or "archon-static"
ARCHON_EMBEDDER_SECOND: str = env("ARCHON_EMBEDDER_SECOND", default="")
ARCHON_EMBEDDER_DIMENSION: int = env.int("ARCHON_EMBEDDER_DIMENSION", default=0)
#: Processes with which one worker embeds offline, and for how many seconds they wait for more.
ARCHON_EMBED_PROCESSES: int = env.int("ARCHON_EMBED_PROCESSES", default=min(2, os.cpu_count() or 1))
ARCHON_EMBED_IDLE_SECONDS: float = env.float("ARCHON_EMBED_IDLE_SECONDS", default=120.0)
if ARCHON_EMBED_PROCESSES < 1 or ARCHON_EMBED_IDLE_SECONDS <= 0:
    raise ImproperlyConfigured("ARCHON_EMBED_PROCESSES is 1 at least, and ARCHON_EMBED_IDLE_SECONDS more than 0")
#: What is kept of embedded texts' vectors, in MiB.
ARCHON_EMBEDDING_CACHE_MB: int = env.int("ARCHON_EMBEDDING_CACHE_MB", default=2048)
#: Where vectors are: `pgvector` or `pinecone`; empty: Pinecone where there is a key of it.
ARCHON_VECTOR_INDEX: str = env("ARCHON_VECTOR_INDEX", default="")
if ARCHON_VECTOR_INDEX not in ("", "pgvector", "pinecone"):
    raise ImproperlyConfigured(f"ARCHON_VECTOR_INDEX: there is no {ARCHON_VECTOR_INDEX!r}; write pgvector or pinecone")
#: Vectors that pgvector searches exactly; more get an approximate index, where it is measured to be good. 0: never.
ARCHON_VECTOR_EXACT_LIMIT: int = env.int("ARCHON_VECTOR_EXACT_LIMIT", default=100_000)
PINECONE_API_KEY = env("PINECONE_API_KEY", default="")
#: Cloud and region of an index that is made, as `aws-us-east-1`.
PINECONE_ENVIRONMENT = env("PINECONE_ENVIRONMENT", default="")
PINECONE_INDEX_NAME = env("PINECONE_INDEX_NAME", default="archon-index")
#: Where Pinecone's control plane is, when not at Pinecone: a proxy, or its local emulator.
PINECONE_CONTROLLER_HOST = env("PINECONE_CONTROLLER_HOST", default="")
SUPABASE_URL = env("SUPABASE_URL", default="")
SUPABASE_KEY = env("SUPABASE_KEY", default="")
SUPABASE_SERVICE_KEY = env("SUPABASE_SERVICE_KEY", default="")
LANGCHAIN_API_KEY = env("LANGCHAIN_API_KEY", default="")
LANGCHAIN_TRACING_V2 = env.bool("LANGCHAIN_TRACING_V2", default=False)
LANGCHAIN_PROJECT = env("LANGCHAIN_PROJECT", default="archon")
# LangChain reads its tracing variables from the environment itself: hand on what `.env` said.
os.environ["LANGCHAIN_TRACING_V2"] = "true" if LANGCHAIN_TRACING_V2 and LANGCHAIN_API_KEY else "false"
os.environ["LANGCHAIN_PROJECT"] = LANGCHAIN_PROJECT
# Checkpoints hold plain data; nothing else is ever unpacked from them.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")

# --- API --------------------------------------------------------------------------------------------------------------
#: The largest JSON body, in KiB.
ARCHON_REQUEST_LIMIT_KB: int = env.int("ARCHON_REQUEST_LIMIT_KB", default=2048)
# Uploads pass through files here rather than in /tmp, which may be memory.
FILE_UPLOAD_TEMP_DIR: str | None = str(ARCHON_HOME / "uploads")
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.authentication.bearer.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.parsers.LimitedJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "config.openapi.ArchonSchema",
    "EXCEPTION_HANDLER": "apps.core.problems.exception_handler",
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Archon",
    "DESCRIPTION": "Self-hosted backend for autonomous coding agents.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api",
    # The version whose schemas are JSON Schema, so that any validator can read them.
    "OAS_VERSION": "3.1.0",
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Without this Swagger UI sends the document's address to a validator elsewhere.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "SessionStatusEnum": "apps.agents.types.SessionStatus",
        "AutonomyEnum": "apps.projects.autonomy.Autonomy",
        "AgentRoleEnum": "apps.usage.choices.ROLES",
        "RoleEnum": "apps.projects.models.Role",
        "ReviewEnum": "apps.projects.agent_settings.Review",
        "PolicyEffectEnum": "apps.agents.types.PolicyEffect",
        "RiskEnum": "apps.agents.types.Risk",
        "RuleRiskEnum": "apps.agents.serializers_policy.RULE_RISKS",
        "ApprovalDecisionEnum": "apps.agents.types.ApprovalDecision",
        "SessionOutcomeEnum": "apps.agents.types.SessionOutcome",
        "PublicationStateEnum": "apps.agents.types.PublicationState",
        "ForgeKindEnum": "apps.projects.models.ForgeKind",
        "AgentTypeEnum": "apps.agents.types.AgentType",
        "TaskStatusEnum": "apps.planning.models.TaskStatus",
        "TaskTypeEnum": "apps.planning.types.TaskType",
        "TaskAgentEnum": "apps.planning.types.TaskAgent",
        "PlanStatusEnum": "apps.planning.models.PlanStatus",
        "KeyScopeEnum": "apps.usage.models.KeyScope",
        "EffortEnum": "apps.usage.choices.EFFORTS",
        "FeatureEffortEnum": "apps.planning.types.Effort",
        "ToolCallsEnum": "apps.usage.choices.TOOL_CALL_STYLES",
        "EditFormatEnum": "apps.usage.choices.EDIT_FORMATS",
        "FileStateEnum": "apps.context.models.FileState",
        "JobStateEnum": "apps.context.models.JobState",
        "IndexStateEnum": "apps.context.types.INDEX_STATES",
        "CheckStateEnum": "apps.agents.serializers.CHECK_STATES",
        "SpaceStateEnum": "apps.vector_store.types.SPACE_STATES",
        "EmbedKindEnum": "apps.vector_store.types.EMBED_KINDS",
        "VectorSlotEnum": "apps.vector_store.types.SLOTS",
    },
}

# --- Headers and log --------------------------------------------------------------------------------------------------
# Nothing that the API answers is a page; the documentation's own policy is in apps.core.views.
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {"default-src": ["'none'"], "frame-ancestors": ["'none'"], "base-uri": ["'none'"]}
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "no-referrer"
#: `console` for people, `json` for collectors.
ARCHON_LOG_FORMAT: str = env("ARCHON_LOG_FORMAT", default="console")
ARCHON_LOG_LEVEL: str = env("ARCHON_LOG_LEVEL", default="INFO")
LOGGING = logging_settings(level=ARCHON_LOG_LEVEL.upper(), json=ARCHON_LOG_FORMAT == "json")
